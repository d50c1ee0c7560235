//! Hosting: connects circuits that arrive for a service to its servers behind this gateway or tunneler.
//!
//! `host.v1` describes one server, `host.v2` several; each has a terminator of its own, whose checks change what dialers
//! choose it by (`health`). `target` decides which server a dial is for. Where circuits come from is a [`Host`]'s to say:
//! a gateway has its own router (`terminator`), a tunneler those of others.

mod checks;
mod connect;
mod datagram;
mod health;
mod probe;
mod secret;
mod server;
pub mod target;
mod terminator;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nightgate_model::{
    configs::{ConfigShapeError, EndToEndV1, HostV1, hosts},
    entity::Permission,
    id::{IdentityId, ServiceId},
    replica::Replica,
};
use nightgate_router::Router;
use nightgate_telemetry::Metrics;
use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tracing::info;

use crate::{
    carried::CarriedFlows,
    intercept::{Encryption, InterceptTable},
};

pub use self::{
    checks::watch_health,
    connect::{ConnectError, SocketKind},
    datagram::receive,
    health::Standing,
    probe::Prober,
    secret::{InstanceSecret, InstanceSecretError},
    server::{Connection, ServerError},
    terminator::RouterHost,
};

/// Keeps terminators bound, and carries the circuits that arrive for them.
pub trait Host: Clone + Send + 'static {
    /// Keeps one of a service's terminators bound, for ever. Its circuits end with the future.
    fn serve(
        self,
        service: Arc<HostedService>,
        terminator: Arc<HostedTerminator>,
    ) -> impl Future<Output = ()> + Send;
}

/// A service as it is hosted here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostedService {
    /// Its id.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// The servers.
    pub terminators: Vec<Arc<HostedTerminator>>,
    /// Whether both ends must encrypt.
    pub encryption: Encryption,
    /// Whether dials may carry data.
    pub early_data: bool,
}

/// One server of a hosted service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostedTerminator {
    /// The server.
    pub host: HostV1,
    /// Name by which dials ask for it; empty for none.
    pub instance: String,
}

/// Everything hosted here. Dropping it ends the hosting and every circuit of it.
#[derive(Debug)]
pub struct Hosting<H = RouterHost> {
    host: H,
    /// Where circuits are carried.
    runtime: Handle,
    services: BTreeMap<ServiceId, Hosted>,
}

#[derive(Debug)]
struct Hosted {
    service: Arc<HostedService>,
    /// One for each terminator; they end with this.
    _tasks: JoinSet<()>,
}

/// Circuits that a host carries at one time; more are refused.
pub const MAX_CIRCUITS: usize = 32_768;

/// What a dialer is told that comes when there are so many.
pub const FULL: &str = "the host carries as many circuits as it may";

/// A UDP flow that a tunneler hosts has ended when it has been silent for so long; OpenZiti's routers wait as long.
/// Gateways have `timeouts.udp`.
pub const UDP_IDLE: Duration = Duration::from_secs(300);

/// What `replica` allows `identity` to host, and what it cannot.
pub fn hosted_services(
    replica: &Replica,
    identity: &IdentityId,
) -> (Vec<HostedService>, Vec<ConfigShapeError>) {
    let own_name = replica.identities.get(identity).map_or("", |own| own.name.as_str());
    let ids = replica.authorizations.services(identity, Permission::Bind);
    readable(ids.filter_map(|id| replica.services.get(id)).map(|service| {
        let encryption = Encryption::of(service);
        HostedService::read((&service.id, &service.name), &service.config, encryption, own_name)
    }))
}

/// Tells services with servers from those that cannot be read.
pub fn readable(
    services: impl IntoIterator<Item = Result<HostedService, ConfigShapeError>>,
) -> (Vec<HostedService>, Vec<ConfigShapeError>) {
    let (mut hosted, mut problems) = (Vec::new(), Vec::new());
    for service in services {
        match service {
            Ok(service) if service.terminators.is_empty() => {}
            Ok(service) => hosted.push(service),
            Err(problem) => problems.push(problem),
        }
    }
    (hosted, problems)
}

impl HostedService {
    /// Reads how a service is hosted from its documents by type; without terminators if they do not say it. `own_name`
    /// is the name of the identity that hosts.
    ///
    /// # Errors
    /// A document does not have the shape of its type.
    pub fn read(
        (id, name): (&ServiceId, &str),
        config: &BTreeMap<String, Value>,
        encryption: Encryption,
        own_name: &str,
    ) -> Result<Self, ConfigShapeError> {
        let terminators = hosts(name, config)?.into_iter().map(|host| {
            let instance = host.listen.instance(own_name);
            Arc::new(HostedTerminator { host, instance })
        });
        let (id, name, terminators) = (id.clone(), name.to_owned(), terminators.collect());
        let early_data = EndToEndV1::allows_early_data(config);
        Ok(Self { id, name, terminators, encryption, early_data })
    }
}

impl Hosting {
    /// Hosts nothing yet. Circuits come by a router of this process.
    pub fn new(
        router: Router,
        identity: IdentityId,
        (metrics, flows, table): (Metrics, CarriedFlows, watch::Receiver<Arc<InterceptTable>>),
        udp_idle: Duration,
        secret: InstanceSecret,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(MAX_CIRCUITS));
        let (prober, lines, early) = (Prober::new(), Arc::default(), Arc::default());
        Self::with(RouterHost {
            router,
            identity,
            metrics,
            flows,
            table,
            slots,
            lines,
            early,
            prober,
            udp_idle,
            secret,
        })
    }
}

impl<H: Host> Hosting<H> {
    /// Hosts nothing yet. What it will host is carried by the runtime that is current now.
    pub fn with(host: H) -> Self {
        Self { host, runtime: Handle::current(), services: BTreeMap::new() }
    }

    /// Starts and stops bindings until exactly `wanted` is hosted. A service that did not change keeps
    /// its bindings and its circuits; circuits of a service that is hosted no longer end.
    pub fn apply(&mut self, wanted: Vec<HostedService>) {
        self.services.retain(|_, hosted| {
            let keep = wanted.contains(&hosted.service);
            if !keep {
                info!(service = %hosted.service.name, "hosting ends");
            }
            keep
        });
        for service in wanted {
            self.services.entry(service.id.clone()).or_insert_with(|| {
                let service = Arc::new(service);
                let mut tasks = JoinSet::new();
                for terminator in &service.terminators {
                    let (service, terminator) = (Arc::clone(&service), Arc::clone(terminator));
                    let serve = self.host.clone().serve(service, terminator);
                    tasks.spawn_on(serve, &self.runtime);
                }
                Hosted { service, _tasks: tasks }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use nightgate_model::{
        configs::{HostV2, Protocol},
        replica::ReplicaIdentity,
    };
    use serde_json::json;

    use super::*;

    #[test]
    fn what_may_be_bound_and_has_servers_is_hosted() {
        let mut replica = Replica::default();
        let me = IdentityId::new("gateway");
        let own = ReplicaIdentity { name: "paris".into(), fingerprint: None, origin: None };
        Arc::make_mut(&mut replica.identities).insert(me.clone(), own);
        let tcp = HostV1::document(Protocol::Tcp, "10.0.0.1", 80);
        let mut named = HostV1::document(Protocol::Udp, "10.0.0.1", 53);
        named["listenOptions"] = json!({ "bindUsingEdgeIdentity": true });
        let both = json!({ "terminators": [tcp, named] });
        add(&mut replica, "web", Some((&me, HostV1::TYPE, tcp.clone())));
        add(&mut replica, "names", Some((&me, HostV2::TYPE, both)));
        add(&mut replica, "broken", Some((&me, HostV1::TYPE, json!({ "port": "x" }))));
        add(&mut replica, "not-mine", Some((&IdentityId::new("other"), HostV1::TYPE, tcp)));
        add(&mut replica, "dial-only", None);

        let (hosted, problems) = hosted_services(&replica, &me);

        let [names, web] = hosted.as_slice() else { panic!("{hosted:?}") };
        let instances: Vec<_> = names.terminators.iter().map(|it| it.instance.as_str()).collect();
        assert_eq!(instances, ["", "paris"]);
        assert_eq!((web.name.as_str(), web.encryption), ("web", Encryption::Required));
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(problem.to_string().contains("service broken: config host.v1"), "{problem}");
    }

    fn add(replica: &mut Replica, name: &str, host: Option<(&IdentityId, &str, Value)>) {
        let id = ServiceId::new(name);
        let mut config = BTreeMap::new();
        if let Some((identity, kind, document)) = host {
            replica.authorizations.grant(identity.clone(), Permission::Bind, id.clone());
            config.insert(kind.to_owned(), document);
        }
        let service = nightgate_model::entity::Service {
            id: id.clone(),
            name: name.into(),
            role_attributes: Default::default(),
            encryption_required: true,
            terminator_strategy: Default::default(),
            terminators: [].into(),
            config,
            configs: Default::default(),
        };
        Arc::make_mut(&mut replica.services).insert(id, service);
    }
}
