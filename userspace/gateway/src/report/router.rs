//! What the admin socket tells about the router and its names, with names beside ids.

use nightgate_model::{
    id::{IdentityId, RouterId, ServiceId},
    replica::Replica,
};
use nightgate_router::{CircuitInfo, LinkStatus, RouterStatus};
use serde::Serialize;

use crate::dns::NameTable;

/// Answer to [`crate::admin::Topic::Router`].
#[derive(Clone, Debug, Serialize)]
pub struct RouterReport {
    id: RouterId,
    replica_index: u64,
    links: Vec<Link>,
    circuits: Vec<Circuit>,
    hosted: Vec<Hosted>,
}

#[derive(Clone, Debug, Serialize)]
struct Link {
    #[serde(flatten)]
    status: LinkStatus,
    peer_name: String,
}

#[derive(Clone, Debug, Serialize)]
struct Circuit {
    #[serde(flatten)]
    info: CircuitInfo,
    service_name: Option<String>,
    dialer_name: Option<String>,
    host_name: Option<String>,
    path_names: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Hosted {
    service: ServiceId,
    service_name: String,
    host: IdentityId,
    host_name: String,
    cost: u16,
}

/// An element of the answer to [`crate::admin::Topic::Names`].
#[derive(Clone, Debug, Serialize)]
pub struct NameReport {
    name: String,
    v4: String,
    v6: String,
}

impl RouterReport {
    /// Adds to a status the names that `replica` knows. An unknown id stands for itself.
    pub fn new(status: RouterStatus, replica: &Replica) -> Self {
        let links = status.links.into_iter().map(|status| {
            let peer_name = router_name(replica, &status.info.peer);
            Link { status, peer_name }
        });
        let circuits = status.circuits.into_iter().map(|info| Circuit {
            service_name: info.service.as_ref().map(|id| service_name(replica, id)),
            dialer_name: info.dialer.as_ref().map(|id| identity_name(replica, id)),
            host_name: info.host.as_ref().map(|id| identity_name(replica, id)),
            path_names: info.path.iter().map(|id| router_name(replica, id)).collect(),
            info,
        });
        let hosted = status.terminators.into_iter().map(|terminator| Hosted {
            service_name: service_name(replica, &terminator.service),
            host_name: identity_name(replica, &terminator.host),
            service: terminator.service,
            host: terminator.host,
            cost: terminator.cost,
        });
        Self {
            id: status.id,
            replica_index: status.replica_index,
            links: links.collect(),
            circuits: circuits.collect(),
            hosted: hosted.collect(),
        }
    }
}

impl NameReport {
    /// Every name of the table.
    pub fn list(names: &NameTable) -> Vec<Self> {
        names
            .iter()
            .map(|(name, addresses)| Self {
                name: name.to_string(),
                v4: addresses.v4.to_string(),
                v6: addresses.v6.to_string(),
            })
            .collect()
    }
}

fn router_name(replica: &Replica, id: &RouterId) -> String {
    replica.router(id).map_or_else(|| id.to_string(), |router| router.name.clone())
}

fn service_name(replica: &Replica, id: &ServiceId) -> String {
    replica.services.get(id).map_or_else(|| id.to_string(), |service| service.name.clone())
}

fn identity_name(replica: &Replica, id: &IdentityId) -> String {
    replica.identities.get(id).map_or_else(|| id.to_string(), |identity| identity.name.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nightgate_fabric::{LinkId, LinkInfo};
    use nightgate_model::replica::{ReplicaIdentity, ReplicaRouter};

    use super::*;

    #[test]
    fn names_stand_beside_ids_and_unknown_ids_for_themselves() {
        let mut replica = Replica::default();
        replica.routers.push(ReplicaRouter {
            id: RouterId::new("r1"),
            name: "hub".into(),
            fingerprint: String::new(),
            offered: None,
            origin: String::new(),
            address: None,
            cost: 0,
            no_traversal: false,
        });
        Arc::make_mut(&mut replica.identities).insert(
            IdentityId::new("i1"),
            ReplicaIdentity { name: "gw-a".into(), fingerprint: None, origin: None },
        );
        let circuit = CircuitInfo {
            id: "0a".into(),
            role: nightgate_fabric::Role::Dialer,
            service: Some(ServiceId::new("gone")),
            dialer: Some(IdentityId::new("i1")),
            host: None,
            path: vec![RouterId::new("r1"), RouterId::new("r2")],
            sent: 1,
            received: 2,
            window: 3,
            moves: 0,
        };
        let status = RouterStatus {
            id: RouterId::new("r1"),
            replica_index: 3,
            links: vec![LinkStatus {
                info: LinkInfo {
                    link: LinkId(1),
                    peer: RouterId::new("r2"),
                    round_trip_us: None,
                    cost: 4,
                },
                queued: 0,
                dropped: 0,
                sent: 0,
                received: 0,
                segments: 0,
                repeated: 0,
            }],
            circuits: vec![circuit],
            terminators: vec![],
            memory: nightgate_fabric::MemoryInfo::default(),
        };

        let report = serde_json::to_value(RouterReport::new(status, &replica)).unwrap();

        assert_eq!(report["links"][0]["peer_name"], "r2");
        let circuit = &report["circuits"][0];
        assert_eq!(circuit["service_name"], "gone");
        assert_eq!(circuit["dialer_name"], "gw-a");
        assert_eq!(circuit["host_name"], serde_json::Value::Null);
        assert_eq!(circuit["path_names"], serde_json::json!(["hub", "r2"]));
        assert_eq!(circuit["sent"], 1);
    }
}
