//! `GET /summary`: how many there are of each kind.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde_json::json;

use crate::{
    core::Core,
    rest::{answer, authenticator::Authenticator, caller::Admin},
};

pub(super) async fn summary(State(core): State<Arc<Core>>, _: Admin) -> Response {
    core.read(|memory| {
        let model = &memory.model;
        let sessions = memory.api_sessions.values();
        answer::ok(json!({
            "apiSessions": memory.api_sessions.len(),
            "authenticators": Authenticator::all(model).count(),
            "authPolicies": model.auth_policies.len(),
            "cas": model.cas.len(),
            "configTypes": model.config_types.len(),
            "configs": model.configs.len(),
            "edgeRouterPolicies": model.router_policies.len(),
            "enrollments": model.enrollments.len(),
            "identities": model.identities.len(),
            "routers": model.routers.len(),
            "serviceEdgeRouterPolicies": model.service_router_policies.len(),
            "servicePolicies": model.policies.len(),
            "services": model.services.len(),
            "sessions": sessions.map(|live| live.services.len()).sum::<usize>(),
            "terminators": memory.live.terminators().count(),
        }))
    })
}
