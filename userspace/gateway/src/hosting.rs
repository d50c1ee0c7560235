//! Hosting: connects circuits that arrive for a service to its servers behind this gateway.
//!
//! `host.v1` describes one server, `host.v2` several; each has a terminator of its own (`terminator`), whose
//! checks change what dialers choose it by (`health`). `target` decides which server a dial is for.

mod checks;
mod connect;
mod datagram;
mod health;
mod probe;
mod server;
pub mod target;
mod terminator;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nightgate_model::{
    configs::{ConfigShapeError, HostV1},
    entity::Permission,
    id::{IdentityId, ServiceId},
    replica::Replica,
};
use nightgate_router::Router;
use nightgate_telemetry::Metrics;
use tokio::{sync::Semaphore, task::JoinSet};
use tracing::info;

use crate::{carried::CarriedFlows, intercept::Encryption};
use terminator::Host;

pub use self::{
    checks::watch_health,
    connect::ConnectError,
    datagram::receive,
    health::Standing,
    probe::Prober,
    server::{Connection, ServerError},
};

/// A service as it is hosted here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostedService {
    /// Its id.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// The servers.
    pub terminators: Vec<HostedTerminator>,
    /// Whether both ends must encrypt.
    pub encryption: Encryption,
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
pub struct Hosting {
    host: Host,
    services: BTreeMap<ServiceId, Hosted>,
}

#[derive(Debug)]
struct Hosted {
    service: Arc<HostedService>,
    /// One for each terminator; they end with this.
    _tasks: JoinSet<()>,
}

/// Circuits carried at one time; more are refused.
const MAX_CIRCUITS: usize = 32_768;

/// A UDP flow that has been silent for so long has ended; OpenZiti's routers wait as long.
pub const UDP_IDLE: Duration = Duration::from_secs(300);

/// What `replica` allows `identity` to host, and what it cannot.
pub fn hosted_services(
    replica: &Replica,
    identity: &IdentityId,
) -> (Vec<HostedService>, Vec<ConfigShapeError>) {
    let (mut hosted, mut problems) = (Vec::new(), Vec::new());
    let own_name = replica.identities.get(identity).map_or("", |own| own.name.as_str());
    let ids = replica.authorizations.services(identity, Permission::Bind);
    for service in ids.filter_map(|id| replica.services.get(id)) {
        let terminators = match service.hosts() {
            Ok(hosts) => hosts,
            Err(error) => {
                problems.push(error);
                continue;
            }
        };
        let terminators = terminators.into_iter().map(|host| {
            let instance = host.listen.instance(own_name);
            HostedTerminator { host, instance }
        });
        let hosted_service = HostedService {
            id: service.id.clone(),
            name: service.name.clone(),
            terminators: terminators.collect(),
            encryption: Encryption::of(service),
        };
        if !hosted_service.terminators.is_empty() {
            hosted.push(hosted_service);
        }
    }
    (hosted, problems)
}

impl Hosting {
    /// Hosts nothing yet.
    pub fn new(
        router: Router,
        identity: IdentityId,
        (metrics, flows): (Metrics, CarriedFlows),
        udp_idle: Duration,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(MAX_CIRCUITS));
        let (prober, lines) = (Prober::new(), Arc::default());
        let host = Host { router, identity, metrics, flows, slots, lines, prober, udp_idle };
        Self { host, services: BTreeMap::new() }
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
                for index in 0..service.terminators.len() {
                    tasks.spawn(self.host.clone().serve(Arc::clone(&service), index));
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
    use serde_json::{Value, json};

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
