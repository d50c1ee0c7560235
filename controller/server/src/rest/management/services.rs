//! Services.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::{api::CreateService, entity::Service, id::ServiceId};
use nightgate_store::Change;
use serde_json::json;

use super::{new_id, validate};
use crate::{
    core::Core,
    rest::{Failure, answer, body::Body, caller::Admin, query::ListQuery, shape},
};

/// `GET /services`.
pub(crate) async fn list(State(core): State<Arc<Core>>, _: Admin, query: ListQuery) -> Response {
    core.read(|memory| {
        let services =
            query.select(&memory.model.services, ServiceId::as_str, |entity| &entity.name);
        answer::list(&query, services.into_iter(), shape::service)
    })
}

/// `GET /services/{id}`.
pub(crate) async fn one(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let stored = memory.model.services.get(&ServiceId::new(id));
        stored.map(|stored| answer::ok(shape::service(stored)))
    })
    .ok_or_else(|| Failure::not_found("the service"))
}

/// `POST /services`. Built-in config types must have their shape.
pub(crate) async fn create(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Body(wanted): Body<CreateService>,
) -> Result<Response, Failure> {
    validate::name(&wanted.name)?;
    validate::attributes(&wanted.role_attributes)?;
    let id = new_id();
    let service = Service {
        id: ServiceId::new(&id),
        name: wanted.name,
        role_attributes: wanted.role_attributes,
        encryption_required: wanted.encryption_required,
        config: wanted.config,
    };
    let shapes = service.intercept().map(drop).and_then(|()| service.host().map(drop));
    shapes.map_err(|error| Failure::invalid(error.to_string()))?;
    core.change(Change::CreateService(service)).await?;
    tracing::info!(by = %caller.identity.id, id, "service created");
    Ok(answer::created_entity(&id))
}

/// `DELETE /services/{id}`.
pub(crate) async fn delete(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.change(Change::DeleteService(ServiceId::new(&id))).await?;
    tracing::info!(by = %caller.identity.id, id, "service deleted");
    Ok(answer::ok(json!({})))
}
