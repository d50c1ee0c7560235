//! Where services are hosted right now.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::{
    api::SetTerminator,
    entity::{Service, Terminator},
};
use serde_json::{Value, json};

use super::{
    entities::{self, steps_to_update},
    listed::{Listed, found},
};
use crate::{
    core::{Core, Memory},
    rest::{Failure, answer, body::Body, caller::Admin, query::Names, shape::reference},
};

/// What is hosted now.
pub(super) struct Terminators;

impl Listed for Terminators {
    const NAME: &'static str = "the terminator";
    const FIELDS: &'static [&'static str] = &[
        "serviceId",
        "service",
        "routerId",
        "router",
        "hostId",
        "host",
        "identity",
        "precedence",
        "cost",
        "hostPrecedence",
        "hostCost",
    ];
    type Entry<'a> = &'a Terminator;

    fn all(memory: &Memory) -> impl Iterator<Item = &Terminator> {
        memory.live.terminators()
    }

    fn names(terminator: &&Terminator, _memory: &Memory) -> Names {
        Names { id: terminator.id.to_string(), name: terminator.id.to_string() }
    }

    fn shape(terminator: &&Terminator, memory: &Memory) -> Value {
        shape(terminator, memory)
    }
}

/// `PATCH /terminators/{id}`: kept with the service, for this host and instance, so that it outlives the terminator.
pub(crate) async fn patch(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Body(wanted): Body<SetTerminator>,
) -> Result<Response, Failure> {
    core.edit(caller.author(), move |memory| {
        let (model, terminator) = (&memory.model, found::<Terminators>(memory, &id)?);
        let before = &entities::find::<Service>(model, terminator.service.as_str())?.entity;
        let mut setting = before.setting(&terminator.host, &terminator.instance);
        setting.precedence = wanted.precedence.unwrap_or(setting.precedence);
        setting.cost = wanted.cost.unwrap_or(setting.cost);
        let mut service = before.clone();
        service.decide(setting);
        Ok::<_, Failure>((steps_to_update(service, before, &caller, model)?, ()))
    })
    .await?;
    Ok(answer::ok(json!({})))
}

/// A terminator as dialers take it.
pub(super) fn settled(terminator: &Terminator, memory: &Memory) -> Terminator {
    let service = memory.model.services.get(&terminator.service);
    terminator.settled(service.map(|stored| &stored.entity))
}

fn shape(terminator: &Terminator, memory: &Memory) -> Value {
    let model = &memory.model;
    let service = model.services.get(&terminator.service).map(|s| s.entity.name.as_str());
    let router = model.routers.get(&terminator.router).map(|s| s.entity.name.as_str());
    let settled = settled(terminator, memory);
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
        "cost": settled.cost,
        "hostCost": terminator.cost,
        "dynamicCost": 0,
        "precedence": settled.precedence,
        "hostPrecedence": terminator.precedence,
        "binding": "edge",
    })
}
