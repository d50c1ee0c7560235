//! The part of the state that routers hold.

use std::collections::BTreeSet;

use nightgate_model::{
    entity::Permission,
    id::IdentityId,
    replica::{Replica, ReplicaIdentity, ReplicaRouter},
};

use super::Memory;

/// Builds what every router is told.
///
/// Terminators whose host may not bind (any more) are left out, and links to unknown routers: what a
/// router reports grants nothing by itself.
pub(super) fn replica(memory: &Memory, token_key: &str) -> Replica {
    let authorizations = memory.authorizations();
    let routers: Vec<_> = routers(memory).collect();
    let known: BTreeSet<_> = routers.iter().map(|router| router.id.clone()).collect();
    Replica {
        index: memory.index,
        token_keys: vec![token_key.into()],
        identities: identities(memory).collect(),
        services: memory
            .model
            .services
            .iter()
            .map(|(id, stored)| (id.clone(), stored.entity.clone()))
            .collect(),
        authorizations: (**authorizations).clone(),
        terminators: memory
            .live
            .terminators()
            .filter(|t| authorizations.allows(&t.host, Permission::Bind, &t.service))
            .filter(|t| known.contains(&t.router))
            .cloned()
            .collect(),
        links: memory
            .live
            .links()
            .filter(|link| known.contains(&link.from) && known.contains(&link.to))
            .cloned()
            .collect(),
        routers,
    }
}

fn routers(memory: &Memory) -> impl Iterator<Item = ReplicaRouter> {
    memory.model.routers.values().map(|stored| &stored.entity).filter(|r| !r.disabled).filter_map(
        |router| {
            let address = if memory.live.is_connected(&router.id) {
                memory.live.address(&router.id).map(Into::into)
            } else {
                router.address.clone()
            };
            Some(ReplicaRouter {
                id: router.id.clone(),
                name: router.name.clone(),
                fingerprint: router.fingerprint.clone()?,
                address,
            })
        },
    )
}

fn identities(memory: &Memory) -> impl Iterator<Item = (IdentityId, ReplicaIdentity)> {
    memory.model.identities.values().map(|stored| &stored.entity).filter(|i| !i.disabled).map(
        |identity| {
            let replicated = ReplicaIdentity {
                name: identity.name.clone(),
                fingerprint: identity.fingerprint.clone(),
            };
            (identity.id.clone(), replicated)
        },
    )
}
