//! Learning: for a while, what no rule matches is accepted and recorded.
//!
//! A rule behind all others accepts it. The rule set with it is in force for a time only: the kernel goes back by
//! itself if this process does not.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use nightgate_config::{Gateway, Rule};
use nightgate_packet::protocol;
use nightgate_ruleset::{Observed, ZoneName, propose};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::rules::{GRACE, Rules};
use crate::{admin::Learn, firewall::Firewall, state::StateFolder};

/// What is recorded, and until when.
pub(super) struct Learning {
    state: StateFolder,
    seen: BTreeSet<Observed>,
    on: Option<On>,
}

/// Times while the gateway learns.
#[derive(Clone, Copy)]
struct On {
    until: Instant,
    next_look: Instant,
}

/// What has been learned.
#[derive(Debug, Serialize)]
pub(super) struct LearnedReport {
    /// Seconds until the gateway stops to learn; `None` if it does not learn.
    seconds_left: Option<u64>,
    /// Flows that no rule matched, apart from their source ports.
    flows: usize,
    /// Rules that accept them.
    rules: usize,
    /// A configuration with these rules.
    file: String,
}

/// A flow in the file of recorded flows.
#[derive(Debug, Deserialize, Serialize)]
struct Record(String, String, u8, u16, IpAddr, IpAddr);

/// Id of the rule that accepts while the gateway learns.
const RULE: &str = "learning";
/// How often the flow table is read. Flows stay there longer after their last packet.
const INTERVAL: Duration = Duration::from_secs(1);
/// Flows that are recorded at most.
const FLOWS: usize = 100_000;

impl Learning {
    /// Nothing, and what was recorded before.
    pub(super) fn new(state: StateFolder) -> Self {
        let records: Vec<Record> = state.learned().unwrap_or_default();
        let seen = records.into_iter().filter_map(Record::into_observed).collect();
        Self { state, seen, on: None }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// Starts to accept and record what no rule matches; what was recorded before is forgotten.
    pub(super) fn begin(
        &mut self,
        firewall: &mut Firewall,
        rules: &Rules,
        learn: &Learn,
    ) -> Result<LearnedReport, String> {
        if rules.is_waiting() {
            return Err(
                "a change waits for `nightgate fw confirm` or `nightgate fw rollback`".into()
            );
        }
        let mut gateway = rules.gateway().clone();
        if gateway.rules.iter().any(|rule| rule.id.as_str() == RULE) {
            return Err(format!("learn: there is a rule {RULE}, expected none: rename it"));
        }
        gateway.rules.push(rule(&gateway, &learn.zones)?);
        let compiled =
            nightgate_ruleset::compile(&gateway).map_err(|errors| super::lines(&errors))?;
        let time = Duration::from_secs(learn.seconds.into());
        firewall.change_for(&compiled, time + GRACE).map_err(|error| error.to_string())?;
        let now = Instant::now();
        self.seen.clear();
        self.on = Some(On { until: now + time, next_look: now + INTERVAL });
        warn!(seconds = learn.seconds, zones = ?learn.zones, "what no rule matches is accepted and recorded");
        Ok(self.report(rules))
    }

    /// Waits until the flow table is to be read; for ever if the gateway does not learn.
    pub(super) async fn due(&self) {
        match self.on {
            Some(on) => sleep_until(on.next_look.min(on.until)).await,
            None => std::future::pending().await,
        }
    }

    /// Records what there is, and ends when the time is over.
    pub(super) fn look(&mut self, firewall: &mut Firewall, rules: &Rules) {
        let now = Instant::now();
        let Some(on) = &mut self.on else { return };
        on.next_look = now + INTERVAL;
        if on.until > now {
            self.record(firewall);
        } else if let Err(error) = self.end(firewall, rules) {
            error!(
                error,
                "the rules cannot be put back, trying again; the kernel does it by itself"
            );
        }
    }

    /// Puts the rules back as they are meant to be.
    pub(super) fn end(
        &mut self,
        firewall: &mut Firewall,
        rules: &Rules,
    ) -> Result<LearnedReport, String> {
        if self.on.is_none() {
            return Err("the gateway does not learn".into());
        }
        self.record(firewall);
        firewall.change(rules.compiled()).map_err(|error| error.to_string())?;
        self.on = None;
        info!(flows = self.seen.len(), "learning is over");
        Ok(self.report(rules))
    }

    pub(super) fn report(&self, rules: &Rules) -> LearnedReport {
        let proposals = propose(&self.seen);
        let texts = proposals.iter().zip(1_u32..);
        let texts = texts.map(|(proposal, n)| proposal.yaml(&format!("learned-{n}")));
        let left = |on: On| on.until.saturating_duration_since(Instant::now()).as_secs();
        LearnedReport {
            seconds_left: self.on.map(left),
            flows: self.seen.len(),
            rules: proposals.len(),
            file: file(rules.gateway(), &texts.collect::<String>()),
        }
    }

    fn record(&mut self, firewall: &Firewall) {
        let flows = match firewall.datapath.flows() {
            Ok(flows) => flows,
            Err(error) => {
                error!(%error, "flows cannot be recorded");
                return;
            }
        };
        let before = self.seen.len();
        for flow in flows {
            let is_learned = flow.rule.as_ref().is_some_and(|rule| rule.as_str() == RULE);
            let (Some(from), Some(to)) = (flow.origin.zone, flow.responder.zone) else { continue };
            let has_port = [protocol::TCP, protocol::UDP].contains(&flow.protocol);
            let port = if has_port { flow.responder.address.port() } else { 0 };
            // No rule can name the port 0.
            if is_learned && has_port == (port > 0) && self.seen.len() < FLOWS {
                let [source, destination] = [flow.origin.address.ip(), flow.responder.address.ip()];
                let protocol = flow.protocol;
                self.seen.insert(Observed { from, to, protocol, port, source, destination });
            }
        }
        if self.seen.len() > before {
            let records: Vec<Record> = self.seen.iter().map(Record::from).collect();
            if let Err(error) = self.state.keep_learned(&records) {
                warn!(%error, "what is learned would be lost with this process");
            }
        }
    }
}

impl Record {
    fn into_observed(self) -> Option<Observed> {
        let Self(from, to, protocol, port, source, destination) = self;
        let (from, to) = (ZoneName::new(&from)?, ZoneName::new(&to)?);
        Some(Observed { from, to, protocol, port, source, destination })
    }
}

impl From<&Observed> for Record {
    fn from(seen: &Observed) -> Self {
        let (from, to) = (seen.from.to_string(), seen.to.to_string());
        Self(from, to, seen.protocol, seen.port, seen.source, seen.destination)
    }
}

/// The rule that accepts everything between zones.
fn rule(gateway: &Gateway, zones: &[String]) -> Result<Rule, String> {
    let local = ZoneName::local();
    let mut chosen: BTreeSet<&str> = zones.iter().map(String::as_str).collect();
    if zones.is_empty() {
        chosen.extend(gateway.zones.keys().chain([&local]).map(ZoneName::as_str));
    }
    let list = chosen.into_iter().collect::<Vec<_>>().join(", ");
    let rule = format!("- {{ id: {RULE}, from: [{list}], to: [{list}], action: accept }}\n");
    let config = nightgate_config::parse(&file(gateway, &rule), "learn");
    let config = config.map_err(|errors| {
        let lines: Vec<_> =
            errors.iter().map(|e| format!("{}; expected {}", e.found, e.expected)).collect();
        format!("learn between zones {list}: {}", lines.join("\n"))
    })?;
    config
        .gateway
        .and_then(|gateway| gateway.rules.into_iter().next())
        .ok_or_else(|| "learn: no zones".into())
}

/// A configuration with the zones of a gateway, and rules.
fn file(gateway: &Gateway, rules: &str) -> String {
    let mut text = "# Put these rules behind those of the gateway's configuration.\nversion: 1\nrouter: { identity: \
                    gateway.json }\nzones:\n"
        .to_owned();
    for (name, zone) in &gateway.zones {
        let interfaces: Vec<_> = zone.interfaces.iter().map(|i| format!("'{i}'")).collect();
        text += &format!("  {name}: {{ interfaces: [{}] }}\n", interfaces.join(", "));
    }
    let rules: String = rules.lines().map(|line| format!("  {line}\n")).collect();
    if rules.is_empty() { text + "rules: []\n" } else { text + "rules:\n" + &rules }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str = "version: 1\nrouter: { identity: g }\nzones: { lan: { interfaces: [lan0] }, wan: { \
                           interfaces: [wan0] } }\n";

    #[test]
    fn the_rule_accepts_between_the_zones_asked_for_and_no_others() {
        let names = |rule: Rule| rule.from.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(rule(&gateway(), &[]).unwrap()), ["lan", "local", "wan"]);
        let lan = ["lan".to_owned(), "wan".to_owned()];
        assert_eq!(names(rule(&gateway(), &lan).unwrap()), ["lan", "wan"]);
        let error = rule(&gateway(), &["attic".to_owned()]).unwrap_err();
        assert!(error.contains("attic"), "{error}");
        assert!(rule(&gateway(), &["lan], action: [".to_owned()]).is_err());
    }

    #[test]
    fn what_is_proposed_is_a_configuration_even_if_it_is_nothing() {
        let config = nightgate_config::parse(&file(&gateway(), ""), "learned.yaml").unwrap();
        assert_eq!(config.gateway.unwrap(), gateway());
    }

    #[test]
    fn records_come_back_as_they_were() {
        let text = r#"["lan","local",6,22,"10.1.0.9","10.1.0.1"]"#;
        let record: Record = serde_json::from_str(text).unwrap();
        let seen = record.into_observed().unwrap();
        assert_eq!(serde_json::to_string(&Record::from(&seen)).unwrap(), text);
    }

    fn gateway() -> Gateway {
        nightgate_config::parse(GATEWAY, "gw.yaml").unwrap().gateway.unwrap()
    }
}
