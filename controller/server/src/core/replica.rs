//! The part of the state that routers hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nightgate_model::{
    entity::{Identity, Permission, Service},
    id::{IdentityId, ServiceId},
    replica::{Replica, ReplicaIdentity, ReplicaRouter},
};
use nightgate_pki::Authority;
use nightgate_store::Model;
use serde_json::Value;

use super::memory::Snapshot;
use crate::trust::trusted_cas;

/// Builds what every router is told.
///
/// Terminators whose host may not bind (any more) are left out, and links to unknown routers: what a
/// router reports grants nothing by itself. Entities that are those of `earlier` are shared with it.
pub(super) fn replica(
    snapshot: &Snapshot,
    authority: &Authority,
    earlier: Option<&Replica>,
) -> Replica {
    let authorizations = snapshot.entities.authorizations();
    let routers: Vec<_> = routers(snapshot).collect();
    let known: BTreeSet<_> = routers.iter().map(|router| router.id.clone()).collect();
    let mut replica = Replica {
        index: snapshot.index,
        token_keys: vec![authority.session_key().public_key_pem().into()],
        ended_sessions: snapshot.ended_sessions.clone(),
        client_cas: client_cas(snapshot, authority),
        identities: match earlier {
            Some(earlier) => Arc::clone(&earlier.identities),
            None => Arc::new(identities(snapshot).collect()),
        },
        services: match earlier {
            Some(earlier) => Arc::clone(&earlier.services),
            None => Arc::new(services(snapshot).collect()),
        },
        authorizations: authorizations.clone(),
        terminators: Arc::new(
            snapshot
                .live
                .terminators
                .iter()
                .filter(|t| authorizations.allows(&t.host, Permission::Bind, &t.service))
                .filter(|t| authorizations.reaches(&t.host, &t.service, &t.router))
                .filter(|t| known.contains(&t.router))
                .cloned()
                .collect(),
        ),
        links: Arc::new(
            snapshot
                .live
                .links
                .iter()
                .filter(|link| known.contains(&link.from) && known.contains(&link.to))
                .cloned()
                .collect(),
        ),
        routers,
    };
    replica.sort();
    replica
}

/// Our own too: routers know those of the day they enrolled.
fn client_cas(snapshot: &Snapshot, authority: &Authority) -> Vec<String> {
    let others = trusted_cas(&snapshot.entities.model).filter(|ca| ca.is_auth_enabled);
    let own = std::iter::once(authority.bundle().pem().to_owned());
    own.chain(others.map(|ca| ca.cert_pem.clone())).collect()
}

/// A service's documents by the name of their type, its own and those it shares.
pub(crate) fn resolved_config(service: &Service, model: &Model) -> BTreeMap<String, Value> {
    let shared = service.configs.iter().filter_map(|id| {
        let config = &model.configs.get(id)?.entity;
        let kind = &model.config_types.get(&config.config_type_id)?.entity;
        Some((kind.name.clone(), config.data.clone()))
    });
    shared.chain(service.config.clone()).collect()
}

fn routers(snapshot: &Snapshot) -> impl Iterator<Item = ReplicaRouter> {
    snapshot
        .entities
        .model
        .routers
        .values()
        .map(|stored| &stored.entity)
        .filter(|r| !r.disabled)
        .filter_map(|router| {
            // A connected router knows best; of another, what it said when it enrolled.
            let live = snapshot.live.addresses.get(&router.id);
            let address = live.unwrap_or(&router.address).clone();
            let fingerprint = router.fingerprint.clone()?;
            let certificate = snapshot.entities.model.router_certificates.get(&router.id);
            let offered = certificate.and_then(|certificate| certificate.offered.as_ref());
            Some(ReplicaRouter {
                id: router.id.clone(),
                name: router.name.clone(),
                offered: offered.map(|offered| offered.fingerprint.clone()),
                origin: certificate.map_or_else(|| fingerprint.clone(), |it| it.origin.clone()),
                fingerprint,
                address,
                cost: router.cost,
                no_traversal: router.no_traversal,
            })
        })
}

fn services(snapshot: &Snapshot) -> impl Iterator<Item = (ServiceId, Service)> {
    let model = &snapshot.entities.model;
    model.services.iter().map(|(id, stored)| {
        let config = resolved_config(&stored.entity, model);
        (id.clone(), Service { config, configs: BTreeSet::new(), ..stored.entity.clone() })
    })
}

fn identities(snapshot: &Snapshot) -> impl Iterator<Item = (IdentityId, ReplicaIdentity)> {
    let model = &snapshot.entities.model;
    let identities = model.identities.values().map(|stored| &stored.entity);
    let is_known = |identity: &&Identity| !identity.disabled && !model.awaits_code(&identity.id);
    identities.filter(is_known).map(|identity| {
        let replicated = ReplicaIdentity {
            name: identity.name.clone(),
            fingerprint: identity.fingerprint.clone(),
            origin: model.certificates.get(&identity.id).map(|it| it.origin.clone()),
        };
        (identity.id.clone(), replicated)
    })
}
