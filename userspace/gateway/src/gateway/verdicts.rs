//! What follows from alerts: circuits are cut, identities and addresses cut off.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use nightgate_config::{FlowRate, Gateway};
use nightgate_mirror::verdict::{Alert, Decision, Judge, Suspect};
use nightgate_model::{
    id::IdentityId,
    quarantine::{Evidence, QuarantineRequest},
    replica::Replica,
};
use nightgate_router::Router;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::{error, info, warn};

use super::{
    barred::{Barred, Step},
    limited::{self, Limited},
};
use crate::{
    admin::AddressQuarantine,
    alerts::{Alerts, AlertsError},
    carried::{Carried, CarriedFlows, Ends},
    clock::Clock,
    firewall::Firewall,
    report::{QuarantineReport, VerdictReport},
};

/// Verdicts that are told about.
const REMEMBERED: usize = 1_000;

/// Applies the policy to the alerts that come in.
pub(super) struct Verdicts {
    alerts: Option<Alerts>,
    judge: Option<Judge>,
    flows: CarriedFlows,
    router: Router,
    started: Instant,
    history: VecDeque<VerdictReport>,
    /// Identities that are barred here, until the controller knows, or their time is over.
    barred: BTreeMap<IdentityId, Barred>,
    limited: Limited,
}

/// What verdicts have to do with.
pub(super) enum News {
    /// An alert.
    Alert(Alert),
    /// Connections of identities that are limited have begun.
    Begun(Vec<(IdentityId, Ends)>),
}

/// How somebody is cut off.
struct Order<'a> {
    seconds: u64,
    /// The rule that says so.
    rule: &'a str,
    /// A code of the second factor ends it, where there is one.
    second_factor: bool,
}

impl Verdicts {
    /// Opens the sources of alerts that the configuration names.
    ///
    /// # Errors
    /// One cannot be opened.
    pub(super) async fn start(gateway: &Gateway, router: Router) -> Result<Self, AlertsError> {
        let alerts = match &gateway.verdict {
            Some(verdict) => Some(Alerts::open(verdict).await?),
            None => None,
        };
        let judge = gateway.verdict.clone().map(Judge::new);
        let (history, barred) = (VecDeque::new(), BTreeMap::new());
        let flows = CarriedFlows::default();
        let (started, limited) = (Instant::now(), Limited::default());
        Ok(Self { alerts, judge, flows, router, started, history, barred, limited })
    }

    /// The connections that alerts can be about.
    pub(super) fn flows(&self) -> CarriedFlows {
        self.flows.clone()
    }

    /// What comes next.
    pub(super) async fn next(&mut self) -> News {
        let Some(alerts) = &mut self.alerts else { return std::future::pending().await };
        tokio::select! {
            begun = self.flows.begun() => News::Begun(begun),
            alert = alerts.next() => News::Alert(alert),
        }
    }

    /// Does what follows from it.
    pub(super) fn handle(&mut self, news: News, firewall: &mut Firewall) {
        match news {
            News::Alert(alert) => self.handle_alert(&alert, firewall),
            News::Begun(begun) => self.limited.begun(begun, firewall),
        }
    }

    /// Judges an alert, and acts.
    fn handle_alert(&mut self, alert: &Alert, firewall: &mut Firewall) {
        let Some(judge) = &mut self.judge else { return };
        let ends = [alert.ends.client, alert.ends.server];
        let carried = self.flows.find(alert.ends.protocol, ends);
        let replica = self.router.replica().borrow().clone();
        let suspect = suspect(alert, carried.as_ref(), &replica);
        let decision = judge.judge(alert, &suspect, self.started.elapsed());
        let done = match &decision {
            Decision::Repeated => return,
            Decision::Cut { .. } => self.cut(alert, carried.as_ref(), firewall),
            Decision::RateLimit { packets, per_seconds, seconds, .. } => {
                let rate = FlowRate { count: *packets, seconds: *per_seconds };
                let time = Duration::from_secs(*seconds);
                self.limit(alert, carried.as_ref(), (rate, time), (&suspect, firewall))
            }
            Decision::Quarantine { seconds, rule } => {
                let order = Order { seconds: *seconds, rule, second_factor: false };
                self.quarantine(alert, carried.as_ref(), &order, (&suspect, firewall))
            }
            Decision::RequireMfa { seconds, rule } => {
                let order = Order { seconds: *seconds, rule, second_factor: true };
                self.quarantine(alert, carried.as_ref(), &order, (&suspect, firewall))
            }
            Decision::Observe { .. } | Decision::Spared { .. } | Decision::Limited { .. } => {
                Ok("nothing".into())
            }
        };
        let done = done.unwrap_or_else(|error| {
            error!(error, "what an alert asks for could not be done");
            format!("failed: {error}")
        });
        let Suspect { service, identity, source } = suspect;
        info!(signature = alert.signature, ?decision, done, service, identity, "alert judged");
        self.history.push_front(VerdictReport {
            at: now(),
            alert: alert.clone(),
            service,
            identity,
            source,
            decision,
            done,
        });
        self.history.truncate(REMEMBERED);
    }

    /// Ends the flow.
    fn cut(
        &self,
        alert: &Alert,
        carried: Option<&Carried>,
        firewall: &mut Firewall,
    ) -> Result<String, String> {
        if let Some(carried) = carried {
            self.router.cut(carried.circuit);
            return Ok(format!("circuit {} cut", carried.circuit));
        }
        let ended = firewall.end_flow_between(alert.ends).map_err(|error| error.to_string())?;
        Ok(format!("{ended} flows ended"))
    }

    /// Limits whoever began the flow: an identity that dialed from elsewhere, or a client of this gateway.
    fn limit(
        &mut self,
        alert: &Alert,
        carried: Option<&Carried>,
        (rate, time): (FlowRate, Duration),
        (suspect, firewall): (&Suspect, &mut Firewall),
    ) -> Result<String, String> {
        let seconds = time.as_secs();
        if let Some(carried) = carried.filter(|carried| carried.client.is_none()) {
            let identity = &carried.dialer;
            let name = suspect.identity.as_deref().unwrap_or(identity.as_str());
            let limit = (rate, time);
            let connections =
                self.limited.limit_identity((identity, name), limit, (&self.flows, firewall))?;
            warn!(%identity, %rate, seconds, connections, "identity limited");
            return Ok(format!("identity {identity} limited to {rate} for {seconds} s"));
        }
        let source = suspect.source.unwrap_or_else(|| alert.ends.client.ip());
        limited::limit_address(firewall, source, (rate, time))?;
        warn!(%source, %rate, seconds, "address limited");
        Ok(format!("address {source} limited to {rate} for {seconds} s"))
    }

    /// Cuts off whoever began the flow: an identity that dialed from elsewhere, or a client of this gateway.
    fn quarantine(
        &mut self,
        alert: &Alert,
        carried: Option<&Carried>,
        &Order { seconds, rule, second_factor }: &Order<'_>,
        (suspect, firewall): (&Suspect, &mut Firewall),
    ) -> Result<String, String> {
        let time = Duration::from_secs(seconds);
        if let Some(carried) = carried.filter(|carried| carried.client.is_none()) {
            let request = QuarantineRequest {
                identity: carried.dialer.clone(),
                seconds,
                reason: format!("{} ({})", alert.signature, alert.signature_id),
                second_factor,
                evidence: Some(evidence(alert, suspect, carried)),
            };
            self.router.bar(carried.dialer.clone());
            let answer = self.router.ask_for_quarantine(request.clone());
            let identity = carried.dialer.clone();
            let barred = Barred::new(request, (Instant::now(), time), answer);
            self.barred.insert(identity.clone(), barred);
            warn!(%identity, rule, seconds, "identity cut off, the controller is asked to keep it so");
            return Ok(if second_factor {
                format!(
                    "identity {identity} cut off until it shows its second factor, or for {seconds} s"
                )
            } else {
                format!("identity {identity} cut off for {seconds} s")
            });
        }
        if let Some(carried) = carried {
            self.router.cut(carried.circuit);
        }
        let source = suspect.source.unwrap_or_else(|| alert.ends.client.ip());
        quarantine_address(firewall, source, time)?;
        warn!(%source, rule, seconds, "address cut off");
        Ok(format!("address {source} cut off for {seconds} s"))
    }

    /// Takes a model: what the controller has decided about identities holds from now on, and it is asked again for what it
    /// has not done.
    pub(super) fn follow(&mut self, replica: &Replica) {
        let now = Instant::now();
        let router = &self.router;
        self.barred.retain(|identity, barred| {
            let is_known = replica.identities.contains_key(identity);
            match barred.look(now, (replica.index, is_known)) {
                Step::Wait => true,
                Step::Ask => {
                    barred.asked(now, router.ask_for_quarantine(barred.request.clone()));
                    true
                }
                Step::Leave => {
                    router.unbar(identity.clone());
                    false
                }
            }
        });
    }

    /// Lets go what is over, and asks the controller again.
    pub(super) fn look(&mut self, firewall: &mut Firewall) {
        let replica = self.router.replica().borrow().clone();
        self.follow(&replica);
        if let Err(error) = release_expired(firewall) {
            warn!(error, "addresses whose quarantine is over could not be released");
        }
        if let Err(error) = self.limited.look(&self.flows, firewall) {
            warn!(error, "limits that are over could not be released");
        }
    }

    /// Who is cut off or limited by this gateway alone.
    pub(super) fn cut_off(&self, firewall: &Firewall) -> Result<Vec<QuarantineReport>, String> {
        Ok([quarantined(firewall)?, self.limited.reports(firewall)?].concat())
    }

    /// Releases an address, or an identity by its name; gives whether it was cut off or limited.
    pub(super) fn release(&mut self, who: &str, firewall: &mut Firewall) -> Result<bool, String> {
        let Ok(address) = who.parse() else {
            return self.limited.release_identity(who, &self.flows, firewall);
        };
        let released = firewall.datapath.release_address(address);
        let was_cut_off = released.map_err(|error| error.to_string())?;
        Ok(limited::release_address(firewall, address)? || was_cut_off)
    }

    /// The latest verdicts, the newest first.
    pub(super) fn reports(&self) -> Vec<&VerdictReport> {
        self.history.iter().collect()
    }
}

/// Cuts an address off.
fn quarantine_address(
    firewall: &mut Firewall,
    address: IpAddr,
    time: Duration,
) -> Result<(), String> {
    let clock = Clock::read().map_err(|error| error.to_string())?;
    let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let until = clock.now().saturating_add(time);
    firewall.datapath.quarantine(address, until).map_err(|error| error.to_string())
}

/// Cuts an address off or limits it, as an operator asks.
pub(super) fn quarantine_by_hand(
    firewall: &mut Firewall,
    AddressQuarantine { address, seconds, rate }: &AddressQuarantine,
) -> Result<(), String> {
    let time = Duration::from_secs(*seconds);
    let Some(rate) = rate else { return quarantine_address(firewall, *address, time) };
    let rate = FlowRate::parse(rate)
        .ok_or_else(|| format!("rate: found {rate:?}, expected such as 100/s or 30/min"))?;
    limited::limit_address(firewall, *address, (rate, time))
}

/// The addresses that are cut off.
fn quarantined(firewall: &Firewall) -> Result<Vec<QuarantineReport>, String> {
    let clock = Clock::read().map_err(|error| error.to_string())?;
    let known = firewall.datapath.quarantined().map_err(|error| error.to_string())?;
    let left = |until: u64| until.saturating_sub(clock.now()) / 1_000_000;
    let reports = known.into_iter().map(|(address, until)| (address, left(until)));
    let report = |(address, left_ms)| QuarantineReport {
        address: Some(address),
        identity: None,
        rate: None,
        left_ms,
    };
    Ok(reports.map(report).collect())
}

fn release_expired(firewall: &mut Firewall) -> Result<(), String> {
    let over = quarantined(firewall)?.into_iter().filter(|report| report.left_ms == 0);
    for address in over.filter_map(|report| report.address) {
        firewall.datapath.release_address(address).map_err(|error| error.to_string())?;
        info!(%address, "released, its time is over");
    }
    Ok(())
}

/// Who is behind the flow of an alert.
fn suspect(alert: &Alert, carried: Option<&Carried>, replica: &Replica) -> Suspect {
    let Some(carried) = carried else {
        return Suspect { source: Some(alert.ends.client.ip()), ..Suspect::default() };
    };
    let service = replica.services.get(&carried.service).map(|service| service.name.clone());
    let identity = replica.identities.get(&carried.dialer).map(|identity| identity.name.clone());
    Suspect { service, identity, source: carried.client }
}

fn evidence(alert: &Alert, suspect: &Suspect, carried: &Carried) -> Evidence {
    Evidence {
        at: alert.at.clone(),
        signature_id: alert.signature_id,
        signature: alert.signature.clone(),
        category: alert.category.clone(),
        severity: alert.severity,
        service: suspect.service.clone().unwrap_or_default(),
        circuit: carried.circuit.to_string(),
        client: alert.ends.client.to_string(),
        server: alert.ends.server.to_string(),
    }
}

fn now() -> String {
    OffsetDateTime::from(SystemTime::now()).format(&Rfc3339).unwrap_or_default()
}
