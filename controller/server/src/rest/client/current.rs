//! What a caller asks about itself.

use std::{collections::HashSet, sync::Arc};

use axum::{extract::State, response::Response};
use nightgate_model::entity::EdgeRouter;
use nightgate_store::{ApiSession, SecondFactor, Stored, Timestamp};
use serde_json::json;

use crate::{
    clock,
    core::{API_SESSION_LIFETIME, Core},
    rest::{
        Failure, answer,
        caller::{Caller, Partial},
        query::{ListQuery, Names},
        shape,
    },
};

/// `GET /current-api-session`: prolongs the session, with a token that lasts as long. One that waits for its second factor
/// is not prolonged.
pub(crate) async fn api_session(
    State(core): State<Arc<Core>>,
    Partial(caller): Partial,
) -> Result<Response, Failure> {
    let is_complete = caller.session.second_factor != SecondFactor::Due;
    let session = if is_complete { prolonged(caller.session) } else { caller.session };
    if is_complete && is_worth_storing(&core, &session) {
        core.put_api_session(session.clone()).await?;
    }
    let token = core.sign_api_session(&session)?;
    Ok(answer::ok(shape::api_session(&session, &caller.identity, &token)))
}

/// `DELETE /current-api-session`.
pub(crate) async fn end_api_session(
    State(core): State<Arc<Core>>,
    Partial(caller): Partial,
) -> Result<Response, Failure> {
    core.remove_api_session(caller.session.id).await?;
    Ok(answer::ok(json!({})))
}

/// `GET /current-api-session/service-updates`: clients list services again when the time changed.
pub(crate) async fn service_updates(State(core): State<Arc<Core>>, _: Caller) -> Response {
    let at = core.read(|memory| memory.services_changed_at);
    answer::ok(json!({ "lastChangeAt": clock::rfc3339(at) }))
}

/// `GET /current-identity`.
pub(crate) async fn identity(
    State(core): State<Arc<Core>>,
    Partial(caller): Partial,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let stored = memory.model.identities.get(&caller.identity.id);
        let authenticated = HashSet::from([&caller.identity.id]);
        stored.map(|stored| answer::ok(shape::identity(stored, memory, &authenticated, &[])))
    })
    .ok_or_else(Failure::unauthorized)
}

/// `GET /current-identity/edge-routers`: where the caller may connect to.
pub(crate) async fn edge_routers(
    State(core): State<Arc<Core>>,
    caller: Caller,
    query: ListQuery,
) -> Result<Response, Failure> {
    core.read_evaluated(|memory| {
        let authorizations = memory.authorizations();
        let routers = shape::reachable_routers(memory)
            .into_iter()
            .filter(|router| authorizations.may_use(&caller.identity.id, &router.entity.id));
        query.answer(&[], routers, named, |router| shape::edge_router(router, memory))
    })
}

fn named(router: &&Stored<EdgeRouter>) -> Names {
    Names { id: router.entity.id.to_string(), name: router.entity.name.clone() }
}

fn prolonged(session: ApiSession) -> ApiSession {
    let expires_at = Timestamp(clock::timestamp().0 + API_SESSION_LIFETIME);
    ApiSession { expires_at, ..session }
}

/// A session asked for again and again is written once in a while.
fn is_worth_storing(core: &Core, session: &ApiSession) -> bool {
    let stored = core
        .read(|memory| memory.api_sessions.get(&session.id).map(|live| live.session.expires_at.0));
    stored.is_none_or(|stored| session.expires_at.0 - stored > API_SESSION_LIFETIME / 10)
}
