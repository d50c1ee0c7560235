//! The interface for operators.

mod explain;
mod identities;
mod policies;
mod routers;
mod services;
mod terminators;
mod validate;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};
use nightgate_model::token::{EnrollmentClaims, EnrollmentMethod};
use nightgate_pki::TokenError;
use nightgate_store::{Enrollment, EnrollmentToken, Timestamp};

use super::client;
use crate::{clock, core::Core};

/// How long an enrollment token is good, in milliseconds.
const ENROLLMENT_LIFETIME: i64 = 24 * 60 * 60 * 1000;

/// All management routes, without a prefix.
pub(super) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/version", get(client::version))
        .route("/authenticate", post(client::authenticate))
        .route("/identities", get(identities::list).post(identities::create))
        .route("/identities/{id}", get(identities::one).delete(identities::delete))
        .route("/edge-routers", get(routers::list).post(routers::create))
        .route("/edge-routers/{id}", get(routers::one).delete(routers::delete))
        .route("/services", get(services::list).post(services::create))
        .route("/services/{id}", get(services::one).delete(services::delete))
        .route("/service-policies", get(policies::list).post(policies::create))
        .route("/service-policies/{id}", get(policies::one).delete(policies::delete))
        .route("/terminators", get(terminators::list))
        .route("/explain", get(explain::explain))
}

/// A new entity's id.
fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Makes the enrollment of a new identity or router and signs what the operator hands over.
fn enrollment(
    core: &Core,
    subject: &str,
    method: EnrollmentMethod,
) -> Result<(Enrollment, String), TokenError> {
    let token = new_id();
    let expires_at = Timestamp(clock::timestamp().0 + ENROLLMENT_LIFETIME);
    let jwt = core.authority.sign_enrollment(&EnrollmentClaims {
        iss: format!("https://{}", core.address),
        sub: subject.into(),
        aud: vec![String::new()],
        exp: expires_at.0 / 1000,
        jti: token.clone(),
        em: method,
    })?;
    Ok((Enrollment { token: EnrollmentToken::new(token), expires_at }, jwt))
}
