//! The interface for clients: SDKs, tunnelers, and routers that enroll.

mod authenticate;
mod authenticators;
mod current;
mod enroll;
mod posture;
mod services;
mod sessions;
mod version;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

pub(super) use self::{authenticate::authenticate, version::version};
use crate::core::Core;

/// All client routes, without a prefix.
pub(super) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/", get(version))
        .route("/version", get(version))
        .route("/.well-known/est/cacerts", get(version::ca_certificates))
        .route("/external-jwt-signers", get(version::external_jwt_signers))
        .route("/enroll", post(enroll::enroll))
        .route("/enroll/{method}", post(enroll::enroll_by_path))
        .route("/authenticate", post(authenticate))
        .route("/current-api-session", get(current::api_session).delete(current::end_api_session))
        .route("/current-api-session/service-updates", get(current::service_updates))
        .route("/current-identity", get(current::identity))
        .merge(authenticators::routes())
        .route("/current-identity/edge-routers", get(current::edge_routers))
        .route("/services", get(services::list))
        .route("/services/{id}", get(services::one))
        .route("/services/{id}/edge-routers", get(services::edge_routers))
        .route("/services/{id}/terminators", get(services::terminators))
        .route("/sessions", get(sessions::list).post(sessions::create))
        .route("/sessions/{id}", get(sessions::one).delete(sessions::end))
        .route("/posture-response", post(posture::accept))
        .route("/posture-response-bulk", post(posture::accept))
}
