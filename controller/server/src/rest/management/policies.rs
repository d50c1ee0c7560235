//! Service policies.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::{
    api::CreateServicePolicy,
    entity::ServicePolicy,
    id::{IdentityId, PolicyId, ServiceId},
};
use nightgate_store::Change;
use serde_json::json;

use super::{new_id, validate};
use crate::{
    core::Core,
    rest::{Failure, answer, body::Body, caller::Admin, query::ListQuery, shape},
};

/// `GET /service-policies`.
pub(crate) async fn list(State(core): State<Arc<Core>>, _: Admin, query: ListQuery) -> Response {
    core.read(|memory| {
        let policies =
            query.select(&memory.model.policies, PolicyId::as_str, |entity| &entity.name);
        answer::list(&query, policies.into_iter(), shape::policy)
    })
}

/// `GET /service-policies/{id}`.
pub(crate) async fn one(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let stored = memory.model.policies.get(&PolicyId::new(id));
        stored.map(|stored| answer::ok(shape::policy(stored)))
    })
    .ok_or_else(|| Failure::not_found("the service policy"))
}

/// `POST /service-policies`. Every `@id` must exist: a policy with a mistyped one would silently
/// allow nothing.
pub(crate) async fn create(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Body(wanted): Body<CreateServicePolicy>,
) -> Result<Response, Failure> {
    validate::name(&wanted.name)?;
    core.read(|memory| {
        let model = &memory.model;
        validate::roles("identity", &wanted.identity_roles, |id| {
            model.identities.contains_key(&IdentityId::new(id))
        })?;
        validate::roles("service", &wanted.service_roles, |id| {
            model.services.contains_key(&ServiceId::new(id))
        })
    })?;
    let id = new_id();
    let policy = ServicePolicy {
        id: PolicyId::new(&id),
        name: wanted.name,
        permission: wanted.permission,
        semantic: wanted.semantic,
        identity_roles: wanted.identity_roles,
        service_roles: wanted.service_roles,
    };
    core.change(Change::CreatePolicy(policy)).await?;
    tracing::info!(by = %caller.identity.id, id, "service policy created");
    Ok(answer::created_entity(&id))
}

/// `DELETE /service-policies/{id}`.
pub(crate) async fn delete(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.change(Change::DeletePolicy(PolicyId::new(&id))).await?;
    tracing::info!(by = %caller.identity.id, id, "service policy deleted");
    Ok(answer::ok(json!({})))
}
