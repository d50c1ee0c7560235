//! The services a caller may use.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use nightgate_model::{
    authorization::ServicesOfAny,
    entity::{Identity, Permission, Service, Terminator},
    id::{IdentityId, ServiceId},
};
use nightgate_store::Stored;
use serde::Deserialize;
use serde_json::json;

use crate::{
    core::{Core, Memory},
    rest::{
        Failure, answer,
        caller::Caller,
        query::{ListQuery, Names},
        shape::{self, ConfigTypes},
    },
};

/// Query of `GET /services` beyond paging.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Parameters {
    config_types: Option<String>,
}

/// `GET /services?configTypes=all`.
pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    caller: Caller,
    query: ListQuery,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let wanted = wanted(&caller, parameters.config_types.as_deref());
    core.read_evaluated(|memory| {
        let services = memory.services_of(&caller.identity.id).into_iter();
        let names = |(stored, _): &(&Stored<Service>, _)| Names {
            id: stored.entity.id.to_string(),
            name: stored.entity.name.clone(),
        };
        let native = NativeEnds::new(memory);
        let asked = (&wanted, &caller.identity);
        query.answer(&["encryptionRequired", "permissions"], services, names, |service| {
            let ends = native.seen_by(&service.0.entity.id, &service.1);
            shape::service_for(service.0, &service.1, asked, (&memory.model, &ends))
        })
    })
}

/// `GET /services/{id}`.
pub(crate) async fn one(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let wanted = wanted(&caller, parameters.config_types.as_deref());
    core.read_evaluated(|memory| {
        let services = memory.services_of(&caller.identity.id);
        let found = services.into_iter().find(|(stored, _)| stored.entity.id.as_str() == id);
        found.map(|(stored, permissions)| {
            let ends = NativeEnds::new(memory).seen_by(&stored.entity.id, &permissions);
            let asked = (&wanted, &caller.identity);
            answer::ok(shape::service_for(stored, &permissions, asked, (&memory.model, &ends)))
        })
    })
    .ok_or_else(|| Failure::not_found("the service"))
}

/// `GET /services/{id}/edge-routers`.
pub(crate) async fn edge_routers(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = ServiceId::new(id);
    core.read_evaluated(|memory| {
        may_use(&caller, &id, memory).then(|| {
            let routers = shape::routers_for(memory, &caller.identity.id, &id);
            answer::ok(json!({ "edgeRouters": routers }))
        })
    })
    .ok_or_else(|| Failure::not_found("the service"))
}

/// `GET /services/{id}/terminators`: where the service is hosted, and the instances that can be dialed.
pub(crate) async fn terminators(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Path(id): Path<String>,
    query: ListQuery,
) -> Result<Response, Failure> {
    let id = ServiceId::new(id);
    core.read_evaluated(|memory| {
        if !may_use(&caller, &id, memory) {
            return Err(Failure::not_found("the service"));
        }
        let terminators = memory.live.terminators().filter(|terminator| terminator.service == id);
        let names = |terminator: &&Terminator| {
            let id = terminator.id.to_string();
            Names { name: id.clone(), id }
        };
        query.answer(&["routerId", "identity"], terminators, names, |terminator| {
            shape::terminator_for(terminator, memory)
        })
    })
}

/// Query of `GET /services/{id}/identities/{identity}`.
#[derive(Deserialize)]
pub(crate) struct Proof {
    /// SHA-1 of the certificate by which the identity has proven itself, lower-case hex.
    certificate: Option<String>,
}

/// `GET /services/{id}/identities/{identity}`: what an identity, met at the other end of a circuit, may do with the
/// service; nothing if the certificate it proved itself by is not its present one. Not of OpenZiti.
pub(crate) async fn identity(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Path((id, identity)): Path<(String, String)>,
    Query(proof): Query<Proof>,
) -> Result<Response, Failure> {
    let (id, identity) = (ServiceId::new(id), IdentityId::new(identity));
    core.read_evaluated(|memory| {
        if !may_use(&caller, &id, memory) {
            return Err(Failure::not_found("the service"));
        }
        let is_present = |known: &Identity| match &proof.certificate {
            Some(fingerprint) => memory.model.may_present(known, fingerprint),
            None => true,
        };
        let is_known = memory.enabled_identity(&identity).is_some_and(is_present);
        let authorizations = memory.authorizations();
        let permissions: Vec<_> = [Permission::Dial, Permission::Bind]
            .into_iter()
            .filter(|permission| is_known && authorizations.allows(&identity, *permission, &id))
            .collect();
        Ok(answer::ok(json!({ "id": identity, "permissions": permissions })))
    })
}

/// Which sides of services are native: whoever may be there speaks our own method of end-to-end encryption.
struct NativeEnds<'a>([(Permission, ServicesOfAny<'a>); 2]);

impl<'a> NativeEnds<'a> {
    fn new(memory: &'a Memory) -> Self {
        let sides = [Permission::Dial, Permission::Bind];
        Self(sides.map(|permission| (permission, memory.foreign_ends(permission))))
    }

    /// The native sides that somebody meets who may do this with the service.
    fn seen_by(&self, service: &ServiceId, permissions: &[Permission]) -> Vec<Permission> {
        let is_met = |side| permissions.iter().any(|own| *own != side);
        let native = self.0.iter().filter(|(_, foreign)| !foreign.contains(service));
        native.map(|(side, _)| *side).filter(|side| is_met(*side)).collect()
    }
}

/// To others, the service is as unknown as one that does not exist.
fn may_use(caller: &Caller, service: &ServiceId, memory: &Memory) -> bool {
    let authorizations = memory.authorizations();
    [Permission::Dial, Permission::Bind]
        .into_iter()
        .any(|permission| authorizations.allows(&caller.identity.id, permission, service))
}

/// The config types of the request, or else of the session.
fn wanted(caller: &Caller, query: Option<&str>) -> ConfigTypes {
    ConfigTypes::new(match query {
        Some(names) => names.split(',').map(|name| name.trim().to_owned()).collect(),
        None => caller.session.config_types.clone(),
    })
}
