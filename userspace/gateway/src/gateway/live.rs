//! The running gateway: applies every change of the model.

mod answers;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use nightgate_config::{Gateway, Prefix, SensorName};
use nightgate_datapath::PacketEvent;
use nightgate_mirror::flow::Told;
use nightgate_model::{
    id::{IdentityId, ServiceId},
    replica::Replica,
};
use nightgate_netlink::InterfaceWatch;
use nightgate_router::Router;
use nightgate_telemetry::Metrics;
use tokio::{sync::watch, time::MissedTickBehavior};
use tracing::{error, info, warn};

use super::{
    learning::Learning,
    rules::{Host, Rules},
    surroundings::Surroundings,
    tracer::Tracer,
    verdicts::Verdicts,
};
use crate::{
    admin::AdminServer,
    clock::Clock,
    dns::NameTable,
    firewall::Firewall,
    flow_records::{FlowRecords, View},
    hosted::HostedTable,
    hosting::{Hosting, InstanceSecret, hosted_services},
    intercept::{InterceptTable, Intercepts},
    interceptor::Interceptor,
    masquerade::AddressBook,
    mirror,
    names::SyntheticRanges,
};

/// Time between two counts of connections for the rules that limit them.
const RECOUNT: std::time::Duration = std::time::Duration::from_secs(10);

/// The kernel's side with the rules in it.
pub(super) struct Rulebook {
    pub(super) firewall: Firewall,
    pub(super) rules: Rules,
    pub(super) surroundings: Surroundings,
    pub(super) tracer: Tracer,
    pub(super) addresses: AddressBook,
    pub(super) verdicts: Verdicts,
    pub(super) records: FlowRecords,
}

/// What changes while a gateway runs.
pub(super) struct Live {
    firewall: Firewall,
    rules: Rules,
    surroundings: Surroundings,
    learning: Learning,
    tracer: Tracer,
    addresses: AddressBook,
    verdicts: Verdicts,
    records: FlowRecords,
    router: Router,
    interceptor: Interceptor,
    /// What has been seen of the models.
    replica: watch::Receiver<Arc<Replica>>,
    identity: IdentityId,
    metrics: Metrics,
    intercepts: Intercepts,
    hosting: Hosting,
    /// Names of the services that are hosted.
    hosted: BTreeMap<ServiceId, String>,
    table: watch::Sender<Arc<InterceptTable>>,
    names: watch::Sender<Arc<NameTable>>,
    /// What has been logged, so that it is logged once and not with every change.
    problems: BTreeSet<String>,
}

impl Live {
    pub(super) fn new(
        Rulebook { firewall, rules, surroundings, tracer, addresses, verdicts, records }: Rulebook,
        interceptor: Interceptor,
        metrics: Metrics,
        table: watch::Sender<Arc<InterceptTable>>,
        names: watch::Sender<Arc<NameTable>>,
        secret: InstanceSecret,
    ) -> Self {
        let router = interceptor.router.clone();
        let identity = router.id().as_identity();
        let ranges = synthetic_ranges(rules.gateway());
        let flows = verdicts.flows();
        let udp_idle = rules.gateway().tracking.timeouts.udp;
        Self {
            firewall,
            learning: Learning::new(rules.state().clone()),
            rules,
            surroundings,
            tracer,
            addresses,
            verdicts,
            records,
            intercepts: Intercepts::new(identity.clone(), ranges),
            hosting: Hosting::new(
                router.clone(),
                identity.clone(),
                (metrics.clone(), flows, table.subscribe()),
                udp_idle,
                secret,
            ),
            hosted: BTreeMap::new(),
            replica: router.replica(),
            interceptor,
            router,
            identity,
            metrics,
            table,
            names,
            problems: BTreeSet::new(),
        }
    }

    /// Applies the model that is there, of the disk or already of the controller: whoever is intercepted from now on
    /// finds a service.
    pub(super) async fn begin(&mut self) {
        let replica = Arc::clone(&self.replica.borrow_and_update());
        self.apply(&replica).await;
    }

    /// Works until `stop` completes.
    pub(super) async fn run(
        &mut self,
        admin: &mut AdminServer,
        changes: &mut InterfaceWatch,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        let mut replica = self.replica.clone();
        let mut recount = tokio::time::interval(RECOUNT);
        recount.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => return,
                Ok(()) = replica.changed() => {
                    let newest = Arc::clone(&replica.borrow_and_update());
                    self.apply(&newest).await;
                }
                _ = recount.tick() => {
                    self.recount();
                    self.verdicts.look(&mut self.firewall);
                }
                news = self.verdicts.next() => self.verdicts.handle(news, &mut self.firewall),
                ended = self.records.next() => self.tell(&ended),
                () = self.rules.expired() => self.expire().await,
                down = self.surroundings.sensors_changed() => self.set_sensors_down(down),
                () = changes.changed() => self.follow_interfaces().await,
                () = self.learning.due() => self.learning.look(&mut self.firewall, &self.rules),
                news = self.tracer.news() => {
                    let refused = self.tracer.handle(news, &mut self.firewall);
                    self.tell_refused(&refused);
                }
                Some(query) = admin.next() => self.serve(query).await,
            }
        }
    }

    /// Tells of flows that have ended.
    fn tell(&self, ended: &[Told]) {
        self.with_view(|view| self.records.tell(ended, view));
    }

    /// Tells of packets that were refused.
    fn tell_refused(&self, packets: &[PacketEvent]) {
        if !packets.is_empty() && self.records.are_told() {
            self.with_view(|view| self.records.tell_refused(packets, view));
        }
    }

    /// Does something with what the numbers of flows mean now.
    fn with_view(&self, work: impl FnOnce(&View<'_>)) {
        let clock = match clock() {
            Ok(clock) => clock,
            Err(error) => return error!(error, "flows cannot be told of"),
        };
        let (table, replica) = (self.table.borrow().clone(), self.router.replica());
        let view = View {
            firewall: &self.firewall,
            table: &table,
            replica: &replica.borrow(),
            gateway: &self.identity,
            clock,
        };
        work(&view);
    }

    fn set_sensors_down(&mut self, down: BTreeSet<SensorName>) {
        if let Err(error) = self.firewall.set_sensors_down(down) {
            error!(%error, "copies go to the sensors as before; the next change tries again");
        }
    }

    async fn follow_interfaces(&mut self) {
        if let Err(error) = self.firewall.follow_interfaces() {
            error!(%error, "an interface could not be protected; the next change of any tries again");
        }
        self.addresses.apply(&mut self.firewall).await;
        if self.surroundings.retry(self.rules.gateway(), &mut self.firewall).await {
            self.intercept();
        }
    }

    /// Counts connections for the rules that limit them.
    fn recount(&mut self) {
        let counted = Clock::read().map_err(|error| error.to_string()).and_then(|clock| {
            let counted = self.firewall.datapath.recount_connections(clock.now());
            counted.map_err(|error| error.to_string())
        });
        if let Err(error) = counted {
            warn!(error, "connections could not be counted; those that went unnoticed still count");
        }
    }

    async fn expire(&mut self) {
        let mut host = Host::new(&mut self.firewall, &mut self.surroundings, &mut self.records);
        self.rules.expire(&mut host).await;
        self.intercept();
    }

    /// Tells the kernel what is intercepted and hosted, and which of it is mirrored.
    fn intercept(&mut self) {
        let hosted = self.host();
        let before = Arc::clone(&self.table.borrow());
        let table = if *before.hosted() == hosted {
            before
        } else {
            let table = Arc::new(InterceptTable::clone(&before).beside(hosted));
            self.table.send_replace(Arc::clone(&table));
            table
        };
        if let Err(error) = self.firewall.intercept(&table) {
            error!(%error, "intercepts could not be changed; the next change tries again");
        }
    }

    /// What the kernel can tell apart of connections to servers: nothing if no mirror asks for it.
    fn host(&mut self) -> HostedTable {
        if self.rules.gateway().mirror.is_none() {
            return HostedTable::default();
        }
        let mirror = &self.firewall.mirror;
        let dialers = mirror.identities().map(str::to_owned).collect();
        let differs = |service: &str, dialer: &str| {
            mirror.claim_of(service, Some(dialer)) != mirror.claim_of(service, None)
        };
        self.intercepts.host(&self.hosted, &dialers, differs)
    }

    /// Leaves the firewall to itself, with the rules that are meant to last.
    pub(super) async fn release(mut self) {
        if self.learning.is_on()
            && let Err(error) = self.learning.end(&mut self.firewall, &self.rules)
        {
            warn!(error, "what no rule matches is accepted until the kernel ends it in time");
        }
        self.tracer.stop(&mut self.firewall);
        let ended = self.records.stop();
        self.tell(&ended);
        self.records.close().await;
        match self.firewall.release() {
            Ok(()) => {
                info!("stopped; the rules stay in force, `nightgate gateway down` takes them away")
            }
            Err(error) => warn!(%error, "intercepts could not be closed"),
        }
        self.surroundings.close().await;
    }

    /// Applies a model. The listener learns of a service before the kernel hands it connections, and
    /// clients learn its address last.
    async fn apply(&mut self, replica: &Replica) {
        self.verdicts.follow(replica);
        let (table, problems) = self.intercepts.compile(replica);
        let (hosted, hosting_problems) = hosted_services(replica, &self.identity);
        let mut texts = problems.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        texts.extend(hosting_problems.iter().map(ToString::to_string));
        self.log_new(texts);

        self.hosted = hosted.iter().map(|it| (it.id.clone(), it.name.clone())).collect();
        let services = table.services().map(|service| service.name.as_str());
        let services = services.chain(self.hosted.values().map(String::as_str));
        let wishes = mirror::wishes(replica, self.router.id(), services);
        let gateway = self.rules.gateway();
        self.surroundings.follow(wishes, gateway, &mut self.firewall).await;
        let table = Arc::new(table);
        self.table.send_replace(Arc::clone(&table));
        let started = std::time::Instant::now();
        self.intercept();
        info!(
            index = replica.index,
            services = table.services().count(),
            destinations = table.image().ports().len(),
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
}

pub(super) fn clock() -> Result<Clock, String> {
    Clock::read().map_err(|error| format!("read the clock: {error}"))
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
