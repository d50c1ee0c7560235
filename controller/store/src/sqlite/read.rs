//! Rows to entities.

use std::collections::BTreeMap;

use nightgate_model::{
    entity::{EdgeRouter, Identity, IdentityKind, Service, ServicePolicy},
    id::{IdentityId, PolicyId, RouterId, ServiceId},
};
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::de::DeserializeOwned;

use super::database;
use crate::{EnrollmentTarget, EnrollmentToken, Model, StoreError, Stored, Timestamp};

pub(super) fn model(connection: &Connection) -> Result<Model, StoreError> {
    Ok(Model {
        identities: collect(connection, IDENTITIES, identity, |entity| entity.id.clone())?,
        services: collect(connection, SERVICES, service, |entity| entity.id.clone())?,
        policies: collect(connection, POLICIES, policy, |entity| entity.id.clone())?,
        routers: collect(connection, ROUTERS, router, |entity| entity.id.clone())?,
    })
}

pub(super) fn index(connection: &Connection) -> Result<u64, StoreError> {
    connection
        .query_row("SELECT model_index FROM history", [], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
        .map_err(database("read model index"))
}

pub(super) fn enrollment(
    connection: &Connection,
    token: &EnrollmentToken,
) -> Result<Option<(EnrollmentTarget, Timestamp)>, StoreError> {
    let query = "SELECT identity, router, expires_at FROM enrollments WHERE token_digest = ?1";
    connection
        .query_row(query, [token.digest()], |row| {
            let target = match row.get::<_, Option<String>>(0)? {
                Some(identity) => EnrollmentTarget::Identity(IdentityId::new(identity)),
                None => EnrollmentTarget::Router(RouterId::new(row.get::<_, String>(1)?)),
            };
            Ok((target, Timestamp(row.get(2)?)))
        })
        .optional()
        .map_err(database("read enrollment"))
}

/// Reads a JSON column.
pub(super) fn json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Damaged { what, source })
}

const IDENTITIES: &str = "SELECT created_at, updated_at, id, name, router, is_admin, disabled, \
    role_attributes, fingerprint FROM identities";
const SERVICES: &str = "SELECT created_at, updated_at, id, name, role_attributes, \
    encryption_required, config FROM services";
const POLICIES: &str = "SELECT created_at, updated_at, id, name, permission, semantic, \
    identity_roles, service_roles FROM service_policies";
const ROUTERS: &str = "SELECT created_at, updated_at, id, name, is_tunneler_enabled, disabled, \
    fingerprint, address FROM edge_routers";

/// Runs a query whose first two columns are the timestamps.
fn collect<K: Ord, T>(
    connection: &Connection,
    query: &str,
    parse: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    key: impl Fn(&T) -> K,
) -> Result<BTreeMap<K, Stored<T>>, StoreError> {
    let read = database("read entities");
    let mut statement = connection.prepare(query).map_err(&read)?;
    let mut rows = statement.query([]).map_err(&read)?;
    let mut entities = BTreeMap::new();
    while let Some(row) = rows.next().map_err(&read)? {
        let entity = parse(row)?;
        let created_at = Timestamp(column(row, 0)?);
        let updated_at = Timestamp(column(row, 1)?);
        entities.insert(key(&entity), Stored { entity, created_at, updated_at });
    }
    Ok(entities)
}

fn identity(row: &Row<'_>) -> Result<Identity, StoreError> {
    let kind = match column::<Option<String>>(row, 4)? {
        Some(_) => IdentityKind::Router,
        None => IdentityKind::Default,
    };
    Ok(Identity {
        id: IdentityId::new(column::<String>(row, 2)?),
        name: column(row, 3)?,
        kind,
        is_admin: column(row, 5)?,
        disabled: column(row, 6)?,
        role_attributes: json("identity attributes", &column::<String>(row, 7)?)?,
        fingerprint: column(row, 8)?,
    })
}

fn service(row: &Row<'_>) -> Result<Service, StoreError> {
    Ok(Service {
        id: ServiceId::new(column::<String>(row, 2)?),
        name: column(row, 3)?,
        role_attributes: json("service attributes", &column::<String>(row, 4)?)?,
        encryption_required: column(row, 5)?,
        config: json("service config", &column::<String>(row, 6)?)?,
    })
}

fn policy(row: &Row<'_>) -> Result<ServicePolicy, StoreError> {
    Ok(ServicePolicy {
        id: PolicyId::new(column::<String>(row, 2)?),
        name: column(row, 3)?,
        permission: json("policy permission", &column::<String>(row, 4)?)?,
        semantic: json("policy semantic", &column::<String>(row, 5)?)?,
        identity_roles: json("policy identity roles", &column::<String>(row, 6)?)?,
        service_roles: json("policy service roles", &column::<String>(row, 7)?)?,
    })
}

fn router(row: &Row<'_>) -> Result<EdgeRouter, StoreError> {
    Ok(EdgeRouter {
        id: RouterId::new(column::<String>(row, 2)?),
        name: column(row, 3)?,
        is_tunneler_enabled: column(row, 4)?,
        disabled: column(row, 5)?,
        fingerprint: column(row, 6)?,
        address: column(row, 7)?,
    })
}

fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, index: usize) -> Result<T, StoreError> {
    row.get(index).map_err(database("read column"))
}
