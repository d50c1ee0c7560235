//! API sessions and service sessions of everybody, for operators. An API session that is ended ends at the routers,
//! with its circuits; a service session that is ended only opens no more of them.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::{event::SessionChange, id::ApiSessionId};
use serde_json::{Value, json};

use super::listed::{Listed, list, one};
use crate::{
    core::{Core, LiveApiSession, Memory, ServiceSession},
    rest::{
        Failure, answer,
        api::{Access, Api},
        caller::Admin,
        query::Names,
        shape,
    },
};

/// API sessions, without their tokens: whoever manages sessions does not borrow them.
struct ApiSessions;

impl Listed for ApiSessions {
    const NAME: &'static str = "the API session";
    const FIELDS: &'static [&'static str] =
        &["identityId", "identity", "expiresAt", "authenticatorId"];
    type Entry<'a> = &'a LiveApiSession;

    fn all(memory: &Memory) -> impl Iterator<Item = &LiveApiSession> {
        memory.api_sessions.values()
    }

    fn names(live: &&LiveApiSession, _memory: &Memory) -> Names {
        Names { id: live.session.id.to_string(), name: live.session.id.to_string() }
    }

    fn shape(live: &&LiveApiSession, memory: &Memory) -> Value {
        let identity = memory.model.identities.get(&live.session.identity);
        identity.map_or(Value::Null, |stored| shape::api_session(&live.session, &stored.entity, ""))
    }
}

/// Service sessions.
struct Sessions;

impl Listed for Sessions {
    const NAME: &'static str = "the session";
    const FIELDS: &'static [&'static str] =
        &["identityId", "serviceId", "service", "apiSessionId", "type", "expiresAt"];
    type Entry<'a> = (&'a LiveApiSession, &'a ServiceSession);

    fn all(memory: &Memory) -> impl Iterator<Item = Self::Entry<'_>> {
        let live = memory.api_sessions.values();
        live.flat_map(|live| live.services.values().map(move |session| (live, session)))
    }

    fn names((_, session): &Self::Entry<'_>, _memory: &Memory) -> Names {
        Names { id: session.id.clone(), name: session.id.clone() }
    }

    fn shape((live, session): &Self::Entry<'_>, memory: &Memory) -> Value {
        shape::session(session, &live.session, "", memory)
    }
}

/// The routes of sessions.
pub(super) fn api() -> Api {
    Api::new(Access::Administrator)
        .get("/api-sessions", "Who is authenticated", list::<ApiSessions>)
        .get("/api-sessions/{id}", "One of them", one::<ApiSessions>)
        .delete("/api-sessions/{id}", "End it, with its circuits", end_api)
        .get("/sessions", "Service sessions", list::<Sessions>)
        .get("/sessions/{id}", "One of them", one::<Sessions>)
        .delete("/sessions/{id}", "End it", end)
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
