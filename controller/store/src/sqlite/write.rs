//! Changes to rows.

use nightgate_model::id::Identifier as _;
use rusqlite::{
    Connection,
    ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE},
    params, params_from_iter,
    types::Value,
};

use super::{
    audit, credentials, database, mfas, passwords, quarantines, read,
    record::{Record, json},
    sessions,
};
use crate::{AnyEntity, By, Change, EnrollmentTarget, Step, StoreError, Tags, Timestamp};

/// Makes a change; the caller's transaction is dropped on error.
pub(super) fn apply(
    connection: &Connection,
    change: &Change,
    at: Timestamp,
) -> Result<(), StoreError> {
    for step in &change.steps {
        match step {
            Step::Create(any) => {
                with_entity!(any, entity => create(connection, entity, at))?;
                share_configs(connection, any)?;
            }
            Step::Update(any) => {
                with_entity!(any, entity => update(connection, entity, at))?;
                share_configs(connection, any)?;
                if let AnyEntity::Identity(identity) = any
                    && identity.disabled
                {
                    sessions::remove_all_of(connection, &identity.id)?;
                }
            }
            Step::SetTags(kind, id, tags) => {
                with_kind!(kind, E => set_tags::<E>(connection, id, tags, at))?;
            }
            Step::Delete(kind, id) => with_kind!(kind, E => delete::<E>(connection, id))?,
            Step::Quarantine(quarantine) => quarantines::set(connection, quarantine)?,
            Step::Release(identity) => quarantines::remove(connection, identity)?,
            Step::Enroll(target, enrollment) => {
                credentials::enroll(connection, target, enrollment, at)?;
            }
            Step::DeleteEnrollment(id) => credentials::delete_enrollment(connection, id)?,
            Step::SetPassword(login) => passwords::set(connection, login)?,
            Step::RemovePassword(identity) => passwords::remove(connection, identity)?,
            Step::SetMfa(mfa) => mfas::set(connection, mfa)?,
            Step::RemoveMfa(identity) => mfas::remove(connection, identity)?,
            Step::SetSecondFactor(whose, state) => {
                sessions::set_second_factor(connection, whose, *state)?;
            }
            Step::Certify(EnrollmentTarget::Identity(identity), certificate) => {
                credentials::certify(connection, identity, certificate, at)?;
            }
            Step::Certify(EnrollmentTarget::Router(router), certificate) => {
                credentials::renew_router(connection, router, certificate, at)?;
            }
            Step::EndSessions(identity, By::Certificate) => {
                sessions::remove_certificate_sessions_of(connection, identity)?;
            }
            Step::EndSessions(identity, By::Password) => {
                sessions::remove_password_sessions_of(connection, identity)?;
            }
            Step::OfferCertificate(target, offered) => {
                credentials::offer(connection, target, offered)?;
            }
            Step::Decertify(identity) => credentials::decertify(connection, identity, at)?,
            Step::Redeem { token, redeemed } => {
                credentials::redeem(connection, token, redeemed, at)?;
            }
        }
    }
    audit::append(connection, &change.audit, at)
}

/// Increments the model index and returns it.
pub(super) fn advance_index(connection: &Connection) -> Result<u64, StoreError> {
    connection
        .execute("UPDATE history SET model_index = model_index + 1", [])
        .map_err(database("advance model index"))?;
    read::index(connection)
}

fn create<R: Record>(connection: &Connection, entity: &R, at: Timestamp) -> Result<(), StoreError> {
    let columns = R::COLUMNS.join(", ");
    let places: Vec<_> = (4..).take(R::COLUMNS.len()).map(|n| format!("?{n}")).collect();
    let sql = format!(
        "INSERT INTO {} (id, name, created_at, updated_at, {columns}) VALUES (?1, ?2, ?3, ?3, {})",
        R::TABLE,
        places.join(", ")
    );
    execute(connection, &sql, entity, at).map(drop)
}

/// Relates a service to the configs that it shares.
fn share_configs(connection: &Connection, any: &AnyEntity) -> Result<(), StoreError> {
    let AnyEntity::Service(service) = any else { return Ok(()) };
    let (write, id) = (database("relate configs to service"), service.id.as_str());
    connection.execute("DELETE FROM service_configs WHERE service = ?1", [id]).map_err(&write)?;
    for config in &service.configs {
        let sql = "INSERT INTO service_configs (service, config) VALUES (?1, ?2)";
        connection.execute(sql, [id, config.as_str()]).map_err(&write)?;
    }
    Ok(())
}

fn update<R: Record>(connection: &Connection, entity: &R, at: Timestamp) -> Result<(), StoreError> {
    let columns: Vec<_> = (4..).zip(R::COLUMNS).map(|(n, c)| format!("{c} = ?{n}")).collect();
    let sql = format!(
        "UPDATE {} SET name = ?2, updated_at = ?3, {} WHERE id = ?1",
        R::TABLE,
        columns.join(", ")
    );
    found::<R>(execute(connection, &sql, entity, at)?, entity.id().text())
}

fn set_tags<R: Record>(
    connection: &Connection,
    id: &str,
    tags: &Tags,
    at: Timestamp,
) -> Result<(), StoreError> {
    let sql = format!("UPDATE {} SET tags = ?2, updated_at = ?3 WHERE id = ?1", R::TABLE);
    let rows = connection.execute(&sql, params![id, json("tags", tags)?, at.0]);
    found::<R>(rows.map_err(database("write tags"))?, id)
}

fn delete<R: Record>(connection: &Connection, id: &str) -> Result<(), StoreError> {
    let sql = format!("DELETE FROM {} WHERE id = ?1", R::TABLE);
    found::<R>(connection.execute(&sql, [id]).map_err(database("delete entity"))?, id)
}

/// Refuses a statement that found no row.
fn found<R: Record>(rows: usize, id: &str) -> Result<(), StoreError> {
    if rows == 0 { Err(StoreError::NotFound { kind: R::KIND, id: id.into() }) } else { Ok(()) }
}

fn execute<R: Record>(
    connection: &Connection,
    sql: &str,
    entity: &R,
    at: Timestamp,
) -> Result<usize, StoreError> {
    let mut values: Vec<Value> =
        vec![entity.id().text().to_owned().into(), entity.name().to_owned().into(), at.0.into()];
    values.append(&mut entity.values()?);
    connection.execute(sql, params_from_iter(values)).map_err(|source| {
        let code = source.sqlite_error().map(|failure| failure.extended_code);
        if matches!(code, Some(SQLITE_CONSTRAINT_UNIQUE | SQLITE_CONSTRAINT_PRIMARYKEY)) {
            StoreError::NameTaken { kind: R::KIND, name: entity.name().into() }
        } else {
            StoreError::Database { operation: "write entity", source }
        }
    })
}
