//! Where services are hosted right now.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::entity::Terminator;
use serde_json::{Value, json};

use crate::{
    core::{Core, Memory},
    rest::{
        Failure, answer,
        caller::Admin,
        query::{ListQuery, Names},
        shape::reference,
    },
};

/// Fields that the list can be filtered and sorted by.
const FIELDS: &[&str] = &[
    "serviceId",
    "service",
    "routerId",
    "router",
    "hostId",
    "host",
    "identity",
    "precedence",
    "cost",
];

/// `GET /terminators`.
pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    _: Admin,
    query: ListQuery,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let names = |terminator: &&Terminator| {
            let id = terminator.id.to_string();
            Names { name: id.clone(), id }
        };
        query.answer(FIELDS, memory.live.terminators(), names, |terminator| {
            shape(terminator, memory)
        })
    })
}

/// `GET /terminators/{id}`.
pub(crate) async fn one(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let found = memory.live.terminators().find(|terminator| terminator.id.as_str() == id);
        let found = found.ok_or_else(|| Failure::not_found("the terminator"))?;
        Ok(answer::ok(shape(found, memory)))
    })
}

fn shape(terminator: &Terminator, memory: &Memory) -> Value {
    let model = &memory.model;
    let service = model.services.get(&terminator.service).map(|s| s.entity.name.as_str());
    let router = model.routers.get(&terminator.router).map(|s| s.entity.name.as_str());
    let host = model.identities.get(&terminator.host).map(|s| s.entity.name.as_str());
    json!({
        "id": terminator.id,
        "serviceId": terminator.service,
        "service": reference("services", terminator.service.as_str(), service.unwrap_or_default()),
        "routerId": terminator.router,
        "router": reference("edge-routers", terminator.router.as_str(), router.unwrap_or_default()),
        "hostId": terminator.host,
        "host": reference("identities", terminator.host.as_str(), host.unwrap_or_default()),
        "identity": terminator.instance,
        "cost": terminator.cost,
        "dynamicCost": 0,
        "precedence": terminator.precedence,
        "binding": "edge",
    })
}
