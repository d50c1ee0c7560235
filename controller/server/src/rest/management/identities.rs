//! Identities.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use nightgate_model::{
    api::{CreateIdentity, Created},
    entity::{Identity, IdentityKind},
    id::IdentityId,
    token::EnrollmentMethod,
};
use nightgate_store::Change;
use serde_json::json;

use super::{enrollment, new_id, validate};
use crate::{
    core::Core,
    rest::{Failure, answer, body::Body, caller::Admin, query::ListQuery, shape},
};

/// `GET /identities`.
pub(crate) async fn list(State(core): State<Arc<Core>>, _: Admin, query: ListQuery) -> Response {
    core.read(|memory| {
        let identities =
            query.select(&memory.model.identities, IdentityId::as_str, |entity| &entity.name);
        let authenticated = memory.authenticated();
        answer::list(&query, identities.into_iter(), |stored| {
            shape::identity(stored, memory, &authenticated)
        })
    })
}

/// `GET /identities/{id}`.
pub(crate) async fn one(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let stored = memory.model.identities.get(&IdentityId::new(id));
        stored.map(|stored| answer::ok(shape::identity(stored, memory, &memory.authenticated())))
    })
    .ok_or_else(|| Failure::not_found("the identity"))
}

/// `POST /identities`: answers with the enrollment token.
pub(crate) async fn create(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Body(wanted): Body<CreateIdentity>,
) -> Result<Response, Failure> {
    validate::name(&wanted.name)?;
    validate::attributes(&wanted.role_attributes)?;
    let id = new_id();
    let (enrollment, jwt) = enrollment(&core, &id, EnrollmentMethod::Ott)?;
    let identity = Identity {
        id: IdentityId::new(&id),
        name: wanted.name,
        kind: IdentityKind::Default,
        is_admin: wanted.is_admin,
        disabled: false,
        role_attributes: wanted.role_attributes,
        fingerprint: None,
    };
    core.change(Change::CreateIdentity { identity, enrollment: Some(enrollment) }).await?;
    tracing::info!(by = %caller.identity.id, id, "identity created");
    Ok(answer::created(Created { id, enrollment_jwt: Some(jwt) }))
}

/// `DELETE /identities/{id}`. Not one's own, so that an administrator remains.
pub(crate) async fn delete(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = IdentityId::new(id);
    if id == caller.identity.id {
        return Err(Failure::conflict("an administrator cannot delete its own identity"));
    }
    let kind =
        core.read(|memory| memory.model.identities.get(&id).map(|stored| stored.entity.kind));
    if kind == Some(IdentityKind::Router) {
        return Err(Failure::conflict("the identity belongs to a router; delete the router"));
    }
    core.change(Change::DeleteIdentity(id.clone())).await?;
    tracing::info!(by = %caller.identity.id, %id, "identity deleted");
    Ok(answer::ok(json!({})))
}
