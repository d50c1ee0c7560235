//! The REST interfaces: one for clients, one for operators.

mod answer;
mod api;
mod authenticator;
mod body;
mod caller;
mod client;
mod failure;
mod management;
mod query;
mod schema;
mod shape;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderName, HeaderValue},
    middleware::{from_fn_with_state, map_response_with_state},
    response::Response,
};

pub(crate) use self::{
    caller::Peer, failure::Failure, management::configs::built_in as built_in_config_types,
};
use crate::{core::Core, metrics};

/// Longest request body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// Where clients find their interface, besides the root.
const CLIENT: &str = "/edge/client/v1";

/// Where operators find theirs.
const MANAGEMENT: &str = "/edge/management/v1";

/// Clients notice a restart of the controller by a change of this header.
const INSTANCE: HeaderName = HeaderName::from_static("ziti-instance-id");

/// All routes. The client interface is also at the root: OpenZiti's clients use both.
pub(crate) fn router(core: Arc<Core>) -> Router {
    let client = client::api().into_router("Nightgate client API", CLIENT);
    let management = management::api().into_router("Nightgate management API", MANAGEMENT);
    Router::new()
        .merge(client.clone())
        .nest(CLIENT, client)
        .nest(MANAGEMENT, management)
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_path)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(map_response_with_state(Arc::clone(&core), name_instance))
        .layer(from_fn_with_state(Arc::clone(&core), metrics::count))
        .with_state(core)
}

async fn unknown_path() -> Failure {
    Failure::unknown_path()
}

async fn name_instance(State(core): State<Arc<Core>>, mut response: Response) -> Response {
    if let Ok(instance) = HeaderValue::from_str(&core.instance) {
        response.headers_mut().insert(INSTANCE, instance);
    }
    response
}
