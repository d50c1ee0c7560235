//! Changes to rows.

use nightgate_model::entity::{EdgeRouter, Identity, Service, ServicePolicy};
use rusqlite::{Connection, Params, ffi::SQLITE_CONSTRAINT_UNIQUE, params};
use serde::Serialize;

use super::{database, read};
use crate::{
    Change, Enrollment, EnrollmentTarget, EnrollmentToken, EntityKind, Redeemed, StoreError,
    Timestamp,
};

/// Makes a change; the caller's transaction is dropped on error.
pub(super) fn apply(
    connection: &Connection,
    change: &Change,
    at: Timestamp,
) -> Result<(), StoreError> {
    match change {
        Change::CreateIdentity { identity, enrollment } => {
            insert_identity(connection, identity, None, at)?;
            match enrollment {
                Some(enrollment) => {
                    let target = EnrollmentTarget::Identity(identity.id.clone());
                    insert_enrollment(connection, &target, enrollment)
                }
                None => Ok(()),
            }
        }
        Change::DeleteIdentity(id) => delete(connection, EntityKind::Identity, id.as_str()),
        Change::CreateRouter { router, identity, enrollment } => {
            insert_router(connection, router, at)?;
            if let Some(identity) = identity {
                insert_identity(connection, identity, Some(router), at)?;
            }
            let target = EnrollmentTarget::Router(router.id.clone());
            insert_enrollment(connection, &target, enrollment)
        }
        Change::DeleteRouter(id) => delete(connection, EntityKind::EdgeRouter, id.as_str()),
        Change::CreateService(service) => insert_service(connection, service, at),
        Change::DeleteService(id) => delete(connection, EntityKind::Service, id.as_str()),
        Change::CreatePolicy(policy) => insert_policy(connection, policy, at),
        Change::DeletePolicy(id) => delete(connection, EntityKind::ServicePolicy, id.as_str()),
        Change::Redeem { token, redeemed } => redeem(connection, token, redeemed, at),
    }
}

/// Increments the model index and returns it.
pub(super) fn advance_index(connection: &Connection) -> Result<u64, StoreError> {
    connection
        .execute("UPDATE history SET model_index = model_index + 1", [])
        .map_err(database("advance model index"))?;
    read::index(connection)
}

fn insert_identity(
    connection: &Connection,
    identity: &Identity,
    router: Option<&EdgeRouter>,
    at: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO identities (id, name, router, is_admin, disabled, role_attributes, \
        fingerprint, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)";
    let values = params![
        identity.id.as_str(),
        identity.name,
        router.map(|router| router.id.as_str()),
        identity.is_admin,
        identity.disabled,
        json("identity attributes", &identity.role_attributes)?,
        identity.fingerprint,
        at.0,
    ];
    insert(connection, EntityKind::Identity, &identity.name, sql, values)
}

fn insert_router(
    connection: &Connection,
    router: &EdgeRouter,
    at: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO edge_routers (id, name, is_tunneler_enabled, disabled, fingerprint, \
        address, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)";
    let values = params![
        router.id.as_str(),
        router.name,
        router.is_tunneler_enabled,
        router.disabled,
        router.fingerprint,
        router.address,
        at.0,
    ];
    insert(connection, EntityKind::EdgeRouter, &router.name, sql, values)
}

fn insert_service(
    connection: &Connection,
    service: &Service,
    at: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO services (id, name, role_attributes, encryption_required, config, \
        created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)";
    let values = params![
        service.id.as_str(),
        service.name,
        json("service attributes", &service.role_attributes)?,
        service.encryption_required,
        json("service config", &service.config)?,
        at.0,
    ];
    insert(connection, EntityKind::Service, &service.name, sql, values)
}

fn insert_policy(
    connection: &Connection,
    policy: &ServicePolicy,
    at: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO service_policies (id, name, permission, semantic, identity_roles, \
        service_roles, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)";
    let values = params![
        policy.id.as_str(),
        policy.name,
        json("policy permission", &policy.permission)?,
        json("policy semantic", &policy.semantic)?,
        json("policy identity roles", &policy.identity_roles)?,
        json("policy service roles", &policy.service_roles)?,
        at.0,
    ];
    insert(connection, EntityKind::ServicePolicy, &policy.name, sql, values)
}

fn insert_enrollment(
    connection: &Connection,
    target: &EnrollmentTarget,
    enrollment: &Enrollment,
) -> Result<(), StoreError> {
    let (identity, router) = match target {
        EnrollmentTarget::Identity(id) => (Some(id.as_str()), None),
        EnrollmentTarget::Router(id) => (None, Some(id.as_str())),
    };
    let sql = "INSERT INTO enrollments (token_digest, identity, router, expires_at) \
        VALUES (?1, ?2, ?3, ?4)";
    connection
        .execute(sql, params![enrollment.token.digest(), identity, router, enrollment.expires_at.0])
        .map(drop)
        .map_err(database("add enrollment"))
}

/// Removes the token and records the certificate; whoever comes second finds no token to remove.
fn redeem(
    connection: &Connection,
    token: &EnrollmentToken,
    redeemed: &Redeemed,
    at: Timestamp,
) -> Result<(), StoreError> {
    let (kind, id, fingerprint) = match redeemed {
        Redeemed::Identity { id, fingerprint } => ("identity", id.as_str(), fingerprint),
        Redeemed::Router { id, fingerprint, .. } => ("router", id.as_str(), fingerprint),
    };
    let sql = format!("DELETE FROM enrollments WHERE token_digest = ?1 AND {kind} = ?2");
    let removed =
        connection.execute(&sql, params![token.digest(), id]).map_err(database("use up token"))?;
    if removed == 0 {
        return Err(StoreError::TokenInvalid);
    }
    let write = database("record certificate");
    if let Redeemed::Router { address, .. } = redeemed {
        let sql = "UPDATE edge_routers SET fingerprint = ?2, address = ?3, updated_at = ?4 \
            WHERE id = ?1";
        connection.execute(sql, params![id, fingerprint, address, at.0]).map_err(&write)?;
    }
    // A router's own identity has the router's id and authenticates with the same certificate.
    let sql = "UPDATE identities SET fingerprint = ?2, updated_at = ?3 WHERE id = ?1";
    connection.execute(sql, params![id, fingerprint, at.0]).map(drop).map_err(&write)
}

fn insert(
    connection: &Connection,
    kind: EntityKind,
    name: &str,
    sql: &str,
    values: impl Params,
) -> Result<(), StoreError> {
    connection.execute(sql, values).map(drop).map_err(|source| {
        let code = source.sqlite_error().map(|failure| failure.extended_code);
        if code == Some(SQLITE_CONSTRAINT_UNIQUE) {
            StoreError::NameTaken { kind, name: name.into() }
        } else {
            StoreError::Database { operation: "add entity", source }
        }
    })
}

fn delete(connection: &Connection, kind: EntityKind, id: &str) -> Result<(), StoreError> {
    let sql = match kind {
        EntityKind::Identity => "DELETE FROM identities WHERE id = ?1",
        EntityKind::EdgeRouter => "DELETE FROM edge_routers WHERE id = ?1",
        EntityKind::Service => "DELETE FROM services WHERE id = ?1",
        EntityKind::ServicePolicy => "DELETE FROM service_policies WHERE id = ?1",
    };
    match connection.execute(sql, [id]).map_err(database("delete entity"))? {
        0 => Err(StoreError::NotFound { kind, id: id.into() }),
        _ => Ok(()),
    }
}

fn json(what: &'static str, value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Damaged { what, source })
}
