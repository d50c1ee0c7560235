//! Enrollments, and the certificates that come of them.

use std::collections::BTreeMap;

use nightgate_model::{
    id::{CaId, IdentityId, RouterId},
    kind::EntityKind,
};
use rusqlite::{Connection, ffi::SQLITE_CONSTRAINT_UNIQUE, params};

use super::{
    database, passwords,
    record::{Columns, json},
    sessions,
};
use crate::{
    Certificate, Enrollment, EnrollmentId, EnrollmentTarget, EnrollmentToken, OfferedCertificate,
    PendingEnrollment, Redeemed, StoreError, Timestamp,
};

/// The name of an enrollment, as [`EnrollmentToken::id`] makes it.
const ID: &str = "lower(hex(substr(token_digest, 1, 16)))";

/// All pending enrollments.
pub(super) fn enrollments(
    connection: &Connection,
) -> Result<BTreeMap<EnrollmentId, PendingEnrollment>, StoreError> {
    let sql = format!(
        "SELECT {ID} AS id, identity, router, method, ca, username, created_at, expires_at \
         FROM enrollments"
    );
    collect(connection, &sql, |row| {
        let target = match row.get::<Option<String>>("identity")? {
            Some(identity) => EnrollmentTarget::Identity(IdentityId::new(identity)),
            None => EnrollmentTarget::Router(RouterId::new(row.get::<String>("router")?)),
        };
        let pending = PendingEnrollment {
            target,
            method: row.json("method")?,
            ca: row.get::<Option<String>>("ca")?.map(CaId::new),
            username: row.get("username")?,
            created_at: Timestamp(row.get("created_at")?),
            expires_at: Timestamp(row.get("expires_at")?),
        };
        Ok((row.get("id")?, pending))
    })
}

/// The certificates of all identities.
pub(super) fn certificates(
    connection: &Connection,
) -> Result<BTreeMap<IdentityId, Certificate>, StoreError> {
    let sql = "SELECT identity, fingerprint, pem, ca, origin, offered_fingerprint, offered_pem \
        FROM certificates";
    collect(connection, sql, |row| {
        let ca = row.get::<Option<String>>("ca")?.map(CaId::new);
        let certificate = Certificate { ca, ..certificate(row)? };
        Ok((IdentityId::new(row.get::<String>("identity")?), certificate))
    })
}

/// The certificates of all routers.
pub(super) fn router_certificates(
    connection: &Connection,
) -> Result<BTreeMap<RouterId, Certificate>, StoreError> {
    let sql = "SELECT router, fingerprint, pem, origin, offered_fingerprint, offered_pem \
        FROM router_certificates";
    collect(connection, sql, |row| {
        Ok((RouterId::new(row.get::<String>("router")?), certificate(row)?))
    })
}

/// One of our own.
fn certificate(row: &Columns<'_>) -> Result<Certificate, StoreError> {
    Ok(Certificate {
        fingerprint: row.get("fingerprint")?,
        pem: row.get("pem")?,
        ca: None,
        origin: row.get("origin")?,
        offered: match row.get::<Option<String>>("offered_fingerprint")? {
            None => None,
            Some(fingerprint) => {
                Some(OfferedCertificate { fingerprint, pem: row.get("offered_pem")? })
            }
        },
    })
}

pub(super) fn enroll(
    connection: &Connection,
    target: &EnrollmentTarget,
    enrollment: &Enrollment,
    at: Timestamp,
) -> Result<(), StoreError> {
    let (identity, router) = match target {
        EnrollmentTarget::Identity(id) => (Some(id.as_str()), None),
        EnrollmentTarget::Router(id) => (None, Some(id.as_str())),
    };
    let sql = "INSERT INTO enrollments \
        (token_digest, identity, router, expires_at, method, ca, username, created_at) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let values = params![
        enrollment.token.digest(),
        identity,
        router,
        enrollment.expires_at.0,
        json("enrollment method", &enrollment.method)?,
        enrollment.ca.as_ref().map(CaId::as_str),
        enrollment.username,
        at.0,
    ];
    connection.execute(sql, values).map(drop).map_err(database("add enrollment"))
}

pub(super) fn delete_enrollment(connection: &Connection, id: &str) -> Result<(), StoreError> {
    let sql = format!("DELETE FROM enrollments WHERE {ID} = ?1");
    match connection.execute(&sql, [id]).map_err(database("delete enrollment"))? {
        0 => Err(StoreError::TokenInvalid),
        _ => Ok(()),
    }
}

/// Removes the token and records what it was redeemed with; whoever comes second finds no token to remove.
pub(super) fn redeem(
    connection: &Connection,
    token: &EnrollmentToken,
    redeemed: &Redeemed,
    at: Timestamp,
) -> Result<(), StoreError> {
    let (kind, id) = redeemed.subject();
    let column = if kind == EntityKind::EdgeRouter { "router" } else { "identity" };
    let sql = format!("DELETE FROM enrollments WHERE token_digest = ?1 AND {column} = ?2");
    let removed =
        connection.execute(&sql, params![token.digest(), id]).map_err(database("use up token"))?;
    if removed == 0 {
        return Err(StoreError::TokenInvalid);
    }
    match redeemed {
        Redeemed::Identity { id, certificate } => certify(connection, id, certificate, at),
        Redeemed::Password(login) => passwords::set(connection, login),
        Redeemed::Router { id, certificate, address } => {
            let sql = "UPDATE edge_routers SET address = ?2 WHERE id = ?1";
            let values = params![id.as_str(), address];
            connection.execute(sql, values).map_err(database("record address"))?;
            certify_router(connection, id, certificate, at)?;
            // Its own identity, if it has one, has its id and authenticates with the same certificate.
            certify(connection, &id.as_identity(), certificate, at)
        }
    }
}

/// Records the certificate of an identity; nothing happens if there is no such identity.
pub(super) fn certify(
    connection: &Connection,
    identity: &IdentityId,
    certificate: &Certificate,
    at: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE identities SET fingerprint = ?2, updated_at = ?3 WHERE id = ?1";
    let values = params![identity.as_str(), certificate.fingerprint, at.0];
    if connection.execute(sql, values).map_err(taken(certificate))? == 0 {
        return Ok(());
    }
    let sql = "INSERT INTO certificates (identity, fingerprint, pem, ca, origin) \
        VALUES (?1, ?2, ?3, ?4, ?5) \
        ON CONFLICT (identity) DO UPDATE SET \
        fingerprint = excluded.fingerprint, pem = excluded.pem, ca = excluded.ca, \
        origin = excluded.origin, offered_fingerprint = NULL, offered_pem = NULL";
    let ca = certificate.ca.as_ref().map(CaId::as_str);
    let Certificate { fingerprint, pem, origin, .. } = certificate;
    let values = params![identity.as_str(), fingerprint, pem, ca, origin];
    connection.execute(sql, values).map(drop).map_err(taken(certificate))
}

/// Records the certificate that follows a router's present one, also for its own identity, if that has one.
pub(super) fn renew_router(
    connection: &Connection,
    router: &RouterId,
    certificate: &Certificate,
    at: Timestamp,
) -> Result<(), StoreError> {
    certify_router(connection, router, certificate, at)?;
    let sql = "SELECT 1 FROM identities WHERE id = ?1 AND fingerprint IS NOT NULL";
    let find = |sql| connection.prepare(sql)?.exists([router.as_str()]);
    if find(sql).map_err(database("find identity of router"))? {
        certify(connection, &router.as_identity(), certificate, at)?;
    }
    Ok(())
}

/// Records the certificate of a router; nothing happens if there is no such router.
fn certify_router(
    connection: &Connection,
    router: &RouterId,
    certificate: &Certificate,
    at: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE edge_routers SET fingerprint = ?2, updated_at = ?3 WHERE id = ?1";
    let values = params![router.as_str(), certificate.fingerprint, at.0];
    if connection.execute(sql, values).map_err(taken(certificate))? == 0 {
        return Ok(());
    }
    let sql = "INSERT INTO router_certificates (router, fingerprint, pem, origin) \
        VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (router) DO UPDATE SET \
        fingerprint = excluded.fingerprint, pem = excluded.pem, origin = excluded.origin, \
        offered_fingerprint = NULL, offered_pem = NULL";
    let Certificate { fingerprint, pem, origin, .. } = certificate;
    let values = params![router.as_str(), fingerprint, pem, origin];
    connection.execute(sql, values).map(drop).map_err(taken(certificate))
}

/// Issues the certificate that follows the present one.
pub(super) fn offer(
    connection: &Connection,
    target: &EnrollmentTarget,
    offered: &OfferedCertificate,
) -> Result<(), StoreError> {
    let (table, column) = match target {
        EnrollmentTarget::Identity(_) => ("certificates", "identity"),
        EnrollmentTarget::Router(_) => ("router_certificates", "router"),
    };
    let sql = format!(
        "UPDATE {table} SET offered_fingerprint = ?2, offered_pem = ?3 WHERE {column} = ?1"
    );
    let (_, id) = target.subject();
    let values = params![id, offered.fingerprint, offered.pem];
    connection.execute(&sql, values).map(drop).map_err(database("offer certificate"))
}

/// Takes the certificate of an identity away; sessions that began with it end.
pub(super) fn decertify(
    connection: &Connection,
    identity: &IdentityId,
    at: Timestamp,
) -> Result<(), StoreError> {
    let write = database("remove certificate");
    sessions::remove_certificate_sessions_of(connection, identity)?;
    let sql = "UPDATE identities SET fingerprint = NULL, updated_at = ?2 WHERE id = ?1";
    connection.execute(sql, params![identity.as_str(), at.0]).map_err(&write)?;
    let sql = "DELETE FROM certificates WHERE identity = ?1";
    connection.execute(sql, [identity.as_str()]).map(drop).map_err(&write)
}

fn taken(certificate: &Certificate) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
    |source| {
        let code = source.sqlite_error().map(|failure| failure.extended_code);
        if code == Some(SQLITE_CONSTRAINT_UNIQUE) {
            StoreError::CertificateTaken { fingerprint: certificate.fingerprint.clone() }
        } else {
            StoreError::Database { operation: "record certificate", source }
        }
    }
}

fn collect<K: Ord, V>(
    connection: &Connection,
    sql: &str,
    entry: impl Fn(&Columns<'_>) -> Result<(K, V), StoreError>,
) -> Result<BTreeMap<K, V>, StoreError> {
    let read = database("read credentials");
    let mut statement = connection.prepare(sql).map_err(&read)?;
    let mut rows = statement.query([]).map_err(&read)?;
    let mut entries = BTreeMap::new();
    while let Some(row) = rows.next().map_err(&read)? {
        let (key, value) = entry(&Columns(row))?;
        entries.insert(key, value);
    }
    Ok(entries)
}
