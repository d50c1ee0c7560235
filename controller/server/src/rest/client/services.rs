//! The services a caller may use.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use nightgate_model::{
    entity::{Permission, Service, Terminator},
    id::ServiceId,
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
        query.answer(&["encryptionRequired", "permissions"], services, names, |service| {
            shape::service_for(service.0, &service.1, &wanted, &memory.model)
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
            answer::ok(shape::service_for(stored, &permissions, &wanted, &memory.model))
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
