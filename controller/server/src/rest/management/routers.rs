//! Edge routers.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::{
    api::{CreateEdgeRouter, Created},
    entity::{EdgeRouter, Identity, IdentityKind},
    id::RouterId,
    token::EnrollmentMethod,
};
use nightgate_store::Change;
use serde_json::json;

use super::{enrollment, new_id, validate};
use crate::{
    core::Core,
    rest::{Failure, answer, body::Body, caller::Admin, query::ListQuery, shape},
};

/// `GET /edge-routers`.
pub(crate) async fn list(State(core): State<Arc<Core>>, _: Admin, query: ListQuery) -> Response {
    core.read(|memory| {
        let routers = query.select(&memory.model.routers, RouterId::as_str, |entity| &entity.name);
        answer::list(&query, routers.into_iter(), |stored| shape::edge_router(stored, memory))
    })
}

/// `GET /edge-routers/{id}`.
pub(crate) async fn one(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let stored = memory.model.routers.get(&RouterId::new(id));
        stored.map(|stored| answer::ok(shape::edge_router(stored, memory)))
    })
    .ok_or_else(|| Failure::not_found("the edge router"))
}

/// `POST /edge-routers`: answers with the enrollment token. A router that may dial and host gets an
/// identity with its own id and name.
pub(crate) async fn create(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Body(wanted): Body<CreateEdgeRouter>,
) -> Result<Response, Failure> {
    validate::name(&wanted.name)?;
    validate::attributes(&wanted.role_attributes)?;
    if !wanted.is_tunneler_enabled && !wanted.role_attributes.is_empty() {
        let message = "only a router that is tunneler enabled has an identity to carry attributes";
        return Err(Failure::invalid(message));
    }
    let id = new_id();
    let (enrollment, jwt) = enrollment(&core, &id, EnrollmentMethod::Erott)?;
    let router = EdgeRouter {
        id: RouterId::new(&id),
        name: wanted.name.clone(),
        is_tunneler_enabled: wanted.is_tunneler_enabled,
        disabled: false,
        fingerprint: None,
        address: None,
    };
    let identity = wanted.is_tunneler_enabled.then(|| Identity {
        id: router.id.as_identity(),
        name: wanted.name,
        kind: IdentityKind::Router,
        is_admin: false,
        disabled: false,
        role_attributes: wanted.role_attributes,
        fingerprint: None,
    });
    core.change(Change::CreateRouter { router, identity, enrollment }).await?;
    tracing::info!(by = %caller.identity.id, id, "edge router created");
    Ok(answer::created(Created { id, enrollment_jwt: Some(jwt) }))
}

/// `DELETE /edge-routers/{id}`: also ends its control channel.
pub(crate) async fn delete(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.change(Change::DeleteRouter(RouterId::new(&id))).await?;
    tracing::info!(by = %caller.identity.id, id, "edge router deleted");
    Ok(answer::ok(json!({})))
}
