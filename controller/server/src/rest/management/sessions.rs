//! API sessions and service sessions of everybody, for operators. An API session that is ended ends at the routers,
//! with its circuits; a service session that is ended only opens no more of them.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::{event::SessionChange, id::ApiSessionId};
use serde_json::{Value, json};

use crate::{
    core::{Core, LiveApiSession, Memory, ServiceSession},
    rest::{
        Failure, answer,
        api::{Access, Api},
        caller::Admin,
        query::{ListQuery, Names},
        shape,
    },
};

/// Fields that API sessions can be filtered and sorted by.
const API_FIELDS: &[&str] = &["identityId", "identity", "expiresAt", "authenticatorId"];

/// Fields that service sessions can be filtered and sorted by.
const FIELDS: &[&str] =
    &["identityId", "serviceId", "service", "apiSessionId", "type", "expiresAt"];

/// The routes of sessions.
pub(super) fn api() -> Api {
    Api::new(Access::Administrator)
        .get("/api-sessions", "Who is authenticated", list_api)
        .get("/api-sessions/{id}", "One of them", one_api)
        .delete("/api-sessions/{id}", "End it, with its circuits", end_api)
        .get("/sessions", "Service sessions", list)
        .get("/sessions/{id}", "One of them", one)
        .delete("/sessions/{id}", "End it", end)
}

async fn list_api(
    State(core): State<Arc<Core>>,
    _: Admin,
    query: ListQuery,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let names = |live: &&LiveApiSession| {
            let id = live.session.id.to_string();
            Names { name: id.clone(), id }
        };
        let sessions = memory.api_sessions.values();
        query.answer(API_FIELDS, sessions, names, |live| shape_api(live, memory))
    })
}

async fn one_api(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let live = memory.api_sessions.get(&ApiSessionId::new(id));
        let live = live.ok_or_else(|| Failure::not_found("the API session"))?;
        Ok(answer::ok(shape_api(live, memory)))
    })
}

async fn end_api(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = ApiSessionId::new(id);
    if core.read(|memory| !memory.api_sessions.contains_key(&id)) {
        return Err(Failure::not_found("the API session"));
    }
    core.remove_api_session(id).await?;
    Ok(answer::ok(json!({})))
}

async fn list(
    State(core): State<Arc<Core>>,
    _: Admin,
    query: ListQuery,
) -> Result<Response, Failure> {
    core.read_evaluated(|memory| {
        let names = |(_, session): &(_, &ServiceSession)| Names {
            id: session.id.clone(),
            name: session.id.clone(),
        };
        query.answer(FIELDS, all(memory), names, |(live, session)| {
            shape::session(session, &live.session, "", memory)
        })
    })
}

async fn one(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.read_evaluated(|memory| {
        let found = all(memory).find(|(_, session)| session.id == id);
        let (live, session) = found.ok_or_else(|| Failure::not_found("the session"))?;
        Ok(answer::ok(shape::session(session, &live.session, "", memory)))
    })
}

async fn end(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let removed = core.write(|memory| {
        let ended = memory.api_sessions.values_mut().find_map(|live| {
            let (_, ended) = live.services.extract_if(.., |_, it| it.id == id).next()?;
            Some((live.session.clone(), ended))
        });
        if let Some((api, session)) = &ended {
            memory.tell_session(SessionChange::Ended, api, Some(session));
        }
        ended.is_some()
    });
    if removed { Ok(answer::ok(json!({}))) } else { Err(Failure::not_found("the session")) }
}

fn all(memory: &Memory) -> impl Iterator<Item = (&LiveApiSession, &ServiceSession)> {
    let live = memory.api_sessions.values();
    live.flat_map(|live| live.services.values().map(move |session| (live, session)))
}

/// Without its token: whoever manages sessions does not borrow them.
fn shape_api(live: &LiveApiSession, memory: &Memory) -> Value {
    let identity = memory.model.identities.get(&live.session.identity);
    identity.map_or(Value::Null, |stored| shape::api_session(&live.session, &stored.entity, ""))
}
