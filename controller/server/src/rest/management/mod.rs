//! The interface for operators.

mod audit;
mod authenticators;
mod cas;
pub(crate) mod configs;
mod enrollments;
mod entities;
mod explain;
mod identities;
mod network;
mod policies;
mod resource;
mod routers;
mod services;
mod sessions;
mod signing;
mod terminators;
pub(super) mod validate;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post, put},
};
use nightgate_model::entity::{
    Ca, Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Identity, Service,
    ServiceEdgeRouterPolicy, ServicePolicy,
};

pub(super) use self::enrollments::shape as enrollment;
use super::client;
use crate::core::Core;

/// All management routes, without a prefix.
pub(super) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/version", get(client::version))
        .route("/authenticate", post(client::authenticate))
        .merge(entities::routes::<Identity>())
        .route("/identities/{id}/disable", post(identities::disable))
        .route("/identities/{id}/enable", post(identities::enable))
        .route(
            "/identities/{id}/password",
            put(identities::set_password).delete(identities::remove_password),
        )
        .merge(authenticators::routes())
        .merge(enrollments::routes())
        .merge(sessions::routes())
        .merge(network::routes())
        .merge(entities::routes::<Ca>())
        .merge(cas::routes())
        .merge(entities::routes::<EdgeRouter>())
        .merge(entities::routes::<ConfigType>())
        .merge(entities::routes::<Config>())
        .merge(entities::routes::<Service>())
        .merge(entities::routes::<ServicePolicy>())
        .merge(entities::routes::<EdgeRouterPolicy>())
        .merge(entities::routes::<ServiceEdgeRouterPolicy>())
        .route("/terminators", get(terminators::list))
        .route("/explain", get(explain::explain))
        .route("/audit", get(audit::list))
}
