//! Service sessions: a caller may dial or bind one service.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::{entity::Permission, event::SessionChange, id::ServiceId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    clock,
    core::{Core, Memory, ServiceSession},
    rest::{
        Failure, answer,
        body::Body,
        caller::Caller,
        query::{ListQuery, Names},
        shape,
    },
};

/// Body of `POST /sessions`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateSession {
    service_id: ServiceId,
    #[serde(rename = "type", default = "dial")]
    permission: Permission,
}

fn dial() -> Permission {
    Permission::Dial
}

/// `POST /sessions`. The same caller, service and type get the same session with a new token.
///
/// A service that the caller may not use is as unknown as one that does not exist.
pub(crate) async fn create(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Body(wanted): Body<CreateSession>,
) -> Result<Response, Failure> {
    let session = core.write_evaluated(|memory| open(memory, &caller, wanted))?;
    Ok(answer::created(with_token(&core, &caller, &session)?))
}

fn open(
    memory: &mut Memory,
    caller: &Caller,
    wanted: CreateSession,
) -> Result<ServiceSession, Failure> {
    let unknown = || Failure::not_found("the service");
    let (service, permission) = (wanted.service_id, wanted.permission);
    let authorizations = memory.authorizations();
    if !authorizations.allows(&caller.identity.id, permission, &service) {
        return Err(unknown());
    }
    let routers = &memory.model.routers;
    let reaches = |router| authorizations.reaches(&caller.identity.id, &service, router);
    if !routers.is_empty() && !routers.keys().any(reaches) {
        return Err(Failure::no_edge_routers());
    }
    let live = memory.api_sessions.get_mut(&caller.session.id).ok_or_else(unknown)?;
    if let Some(session) = live.services.get(&(service.clone(), permission)) {
        return Ok(session.clone());
    }
    let id = uuid::Uuid::new_v4().to_string();
    let session =
        ServiceSession { id, service: service.clone(), permission, created_at: clock::timestamp() };
    live.services.insert((service, permission), session.clone());
    memory.tell_session(SessionChange::Created, &caller.session, Some(&session));
    Ok(session)
}

/// `GET /sessions`.
pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    caller: Caller,
    query: ListQuery,
) -> Result<Response, Failure> {
    let sessions = core.read_evaluated(|memory| sessions_of(memory, &caller));
    let shaped: Result<Vec<Value>, Failure> =
        sessions.iter().map(|session| with_token(&core, &caller, session)).collect();
    let names = |session: &Value| {
        let id = session["id"].as_str().unwrap_or_default().to_owned();
        Names { name: id.clone(), id }
    };
    query.answer(&["serviceId", "type"], shaped?.into_iter(), names, Value::clone)
}

/// `GET /sessions/{id}`: also refreshes the token. Gone when the policy is.
pub(crate) async fn one(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let sessions = core.read_evaluated(|memory| sessions_of(memory, &caller));
    let session = sessions.iter().find(|session| session.id == id);
    let session = session.ok_or_else(|| Failure::not_found("the session"))?;
    Ok(answer::ok(with_token(&core, &caller, session)?))
}

/// `DELETE /sessions/{id}`.
pub(crate) async fn end(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let removed = core.write(|memory| {
        let live = memory.api_sessions.get_mut(&caller.session.id)?;
        let key = live.services.iter().find(|(_, session)| session.id == id)?.0.clone();
        let ended = live.services.remove(&key);
        memory.tell_session(SessionChange::Ended, &caller.session, ended.as_ref());
        ended
    });
    removed.map(|_| answer::ok(json!({}))).ok_or_else(|| Failure::not_found("the session"))
}

/// The caller's sessions that policies still allow.
fn sessions_of(memory: &Memory, caller: &Caller) -> Vec<ServiceSession> {
    let authorizations = memory.authorizations();
    let live = memory.api_sessions.get(&caller.session.id);
    live.into_iter()
        .flat_map(|live| live.services.values())
        .filter(|s| authorizations.allows(&caller.identity.id, s.permission, &s.service))
        .cloned()
        .collect()
}

fn with_token(core: &Core, caller: &Caller, session: &ServiceSession) -> Result<Value, Failure> {
    let token = core.sign_session(&caller.identity.id, &caller.session, session)?;
    Ok(core.read_evaluated(|memory| shape::session(session, &caller.session, &token, memory)))
}
