//! Service sessions: a caller may dial or bind one service.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::{entity::Permission, id::ServiceId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    clock,
    core::{Core, Memory, ServiceSession},
    rest::{Failure, answer, body::Body, caller::Caller, query::ListQuery, shape},
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
    let session = core
        .write_evaluated(|memory| {
            let authorizations = memory.authorizations();
            let (service, permission) = (wanted.service_id, wanted.permission);
            if !authorizations.allows(&caller.identity.id, permission, &service) {
                return None;
            }
            let live = memory.api_sessions.get_mut(&caller.session.id)?;
            let session = live.services.entry((service.clone(), permission)).or_insert_with(|| {
                let id = uuid::Uuid::new_v4().to_string();
                ServiceSession { id, service, permission, created_at: clock::timestamp() }
            });
            Some(session.clone())
        })
        .ok_or_else(|| Failure::not_found("the service"))?;
    Ok(answer::created(with_token(&core, &caller, &session)?))
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
    Ok(answer::list(&query, shaped?.into_iter(), |session| session))
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
        live.services.remove(&key)
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
    Ok(core.read(|memory| shape::session(session, &caller.session, &token, memory)))
}
