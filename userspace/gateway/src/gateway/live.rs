//! The running gateway: applies every change of the model, and answers operators.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use nightgate_config::{Gateway, Prefix};
use nightgate_model::{id::IdentityId, replica::Replica};
use nightgate_router::Router;
use nightgate_telemetry::Metrics;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::rules::Rules;
use crate::{
    admin::{AdminServer, Request, Topic},
    dns::NameTable,
    firewall::Firewall,
    hosting::{Hosting, hosted_services},
    intercept::{InterceptTable, Intercepts},
    names::SyntheticRanges,
    report::{NameReport, RouterReport},
};

/// The kernel's side with the rules in it.
pub(super) struct Rulebook {
    pub(super) firewall: Firewall,
    pub(super) rules: Rules,
}

/// What changes while a gateway runs.
pub(super) struct Live {
    firewall: Firewall,
    rules: Rules,
    router: Router,
    identity: IdentityId,
    metrics: Metrics,
    intercepts: Intercepts,
    hosting: Hosting,
    table: watch::Sender<Arc<InterceptTable>>,
    names: watch::Sender<Arc<NameTable>>,
    /// What has been logged, so that it is logged once and not with every change.
    problems: BTreeSet<String>,
}

impl Live {
    pub(super) fn new(
        Rulebook { firewall, rules }: Rulebook,
        router: Router,
        metrics: Metrics,
        table: watch::Sender<Arc<InterceptTable>>,
        names: watch::Sender<Arc<NameTable>>,
        gateway: &Gateway,
    ) -> Self {
        let identity = router.id().as_identity();
        Self {
            firewall,
            rules,
            intercepts: Intercepts::new(identity.clone(), synthetic_ranges(gateway)),
            hosting: Hosting::new(router.clone(), identity.clone(), metrics.clone()),
            router,
            identity,
            metrics,
            table,
            names,
            problems: BTreeSet::new(),
        }
    }

    /// Works until `stop` completes.
    pub(super) async fn run(&mut self, admin: &mut AdminServer, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut replica = self.router.replica();
        // One may have come before this subscription.
        replica.mark_changed();
        loop {
            tokio::select! {
                () = &mut stop => return,
                Ok(()) = replica.changed() => {
                    let newest = Arc::clone(&replica.borrow_and_update());
                    self.apply(&newest);
                }
                () = self.rules.expired() => self.rules.expire(&mut self.firewall),
                Some(query) = admin.next() => {
                    let answer = self.answer(query.request.clone()).await;
                    query.answer(answer);
                }
            }
        }
    }

    /// Leaves the firewall to itself.
    pub(super) fn release(&mut self) {
        match self.firewall.release() {
            Ok(()) => {
                info!("stopped; the rules stay in force, `nightgate gateway down` takes them away")
            }
            Err(error) => warn!(%error, "intercepts could not be closed"),
        }
    }

    /// Applies a model. The listener learns of a service before the kernel hands it connections, and
    /// clients learn its address last.
    fn apply(&mut self, replica: &Replica) {
        let (table, problems) = self.intercepts.compile(replica);
        let (hosted, hosting_problems) = hosted_services(replica, &self.identity);
        let mut texts = problems.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        texts.extend(hosting_problems.iter().map(ToString::to_string));
        self.log_new(texts);

        let table = Arc::new(table);
        self.table.send_replace(Arc::clone(&table));
        let started = std::time::Instant::now();
        if let Err(error) = self.firewall.intercept(&table) {
            error!(%error, "intercepts could not be changed; the next change tries again");
        }
        info!(
            index = replica.index,
            destinations = table.entries().count(),
            hosted = hosted.len(),
            micros = started.elapsed().as_micros(),
            "model applied"
        );
        self.names.send_replace(Arc::new(table.names().clone()));
        self.hosting.apply(hosted);
    }

    fn log_new(&mut self, problems: BTreeSet<String>) {
        for problem in problems.difference(&self.problems) {
            warn!(problem, "a service is not intercepted or hosted as it should be");
        }
        self.problems = problems;
    }

    async fn answer(&mut self, request: Request) -> Result<serde_json::Value, String> {
        match request {
            Request::Show(topic) => self.show(topic).await,
            Request::Plan(file) => value(self.rules.plan(file)),
            Request::Apply(apply) => value(self.rules.apply(&mut self.firewall, apply)),
            Request::Confirm => value(self.rules.confirm()),
            Request::Rollback => value(self.rules.rollback(&mut self.firewall)),
        }
    }

    async fn show(&self, topic: Topic) -> Result<serde_json::Value, String> {
        match topic {
            Topic::Router => {
                let status = self.router.status().await;
                value(Ok::<_, String>(RouterReport::new(status, &self.router.replica().borrow())))
            }
            Topic::Counters => value(self.firewall.reasons()),
            Topic::Rules => value(self.firewall.rule_reports()),
            Topic::Flows => {
                value(self.firewall.flow_reports(&self.table.borrow(), time_since_boot()?))
            }
            Topic::Mirror => value(self.firewall.mirror_reports()),
            Topic::Names => value(Ok::<_, String>(NameReport::list(self.table.borrow().names()))),
            Topic::Metrics => {
                self.firewall
                    .count_packets(&self.metrics)
                    .map_err(|error| format!("read the kernel's counters: {error}"))?;
                value(self.metrics.render())
            }
        }
    }
}

fn value<T: Serialize, E: ToString>(report: Result<T, E>) -> Result<serde_json::Value, String> {
    let report = report.map_err(|error| error.to_string())?;
    serde_json::to_value(report).map_err(|error| error.to_string())
}

fn time_since_boot() -> Result<Duration, String> {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .map_err(|error| format!("read CLOCK_MONOTONIC: {error}"))
}

/// The configured ranges. Without a private DNS nobody learns the addresses, so any range will do.
fn synthetic_ranges(gateway: &Gateway) -> SyntheticRanges {
    let defaults = SyntheticRanges {
        v4: (Ipv4Addr::new(100, 64, 0, 0), 10),
        v6: (Ipv6Addr::new(0xfd64, 0x6e67, 0, 0, 0, 0, 0, 0), 64),
    };
    let Some(dns) = &gateway.dns else { return defaults };
    SyntheticRanges {
        v4: as_v4(dns.range_v4).unwrap_or(defaults.v4),
        v6: as_v6(dns.range_v6).unwrap_or(defaults.v6),
    }
}

fn as_v4(prefix: Prefix) -> Option<(Ipv4Addr, u8)> {
    match prefix.address() {
        IpAddr::V4(address) => Some((address, prefix.length())),
        IpAddr::V6(_) => None,
    }
}

fn as_v6(prefix: Prefix) -> Option<(Ipv6Addr, u8)> {
    match prefix.address() {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some((address, prefix.length())),
    }
}
