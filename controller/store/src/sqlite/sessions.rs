//! API sessions to rows and back.

use std::collections::BTreeMap;

use nightgate_model::{
    id::{ApiSessionId, IdentityId},
    kind::EntityKind,
};
use rusqlite::{Connection, params};

use super::{
    database,
    record::{json, parse},
};
use crate::{ApiSession, SecondFactor, StoreError, TOKEN_RESERVE, Timestamp, Whose};

pub(super) fn all(connection: &Connection) -> Result<Vec<ApiSession>, StoreError> {
    let read = database("read API sessions");
    let sql = "SELECT id, identity, fingerprint, config_types, created_at, expires_at, native, \
        mfa_due, mfa_passed_at FROM api_sessions";
    let mut statement = connection.prepare(sql).map_err(&read)?;
    let rows = statement
        .query_map([], |row| {
            let session = ApiSession {
                id: ApiSessionId::new(row.get::<_, String>(0)?),
                identity: IdentityId::new(row.get::<_, String>(1)?),
                // The column is older than sessions without a certificate.
                fingerprint: Some(row.get(2)?).filter(|text: &String| !text.is_empty()),
                config_types: Vec::new(),
                created_at: Timestamp(row.get(4)?),
                expires_at: Timestamp(row.get(5)?),
                native: row.get(6)?,
                second_factor: match (row.get(7)?, row.get(8)?) {
                    (true, _) => SecondFactor::Due,
                    (false, None) => SecondFactor::NotNeeded,
                    (false, Some(at)) => SecondFactor::Passed(Timestamp(at)),
                },
            };
            Ok((session, row.get::<_, String>(3)?))
        })
        .map_err(&read)?;
    rows.map(|row| {
        let (session, config_types) = row.map_err(&read)?;
        Ok(ApiSession {
            config_types: parse("API session config types", &config_types)?,
            ..session
        })
    })
    .collect()
}

pub(super) fn put(
    connection: &Connection,
    session: &ApiSession,
    now: Timestamp,
) -> Result<(), StoreError> {
    let write = database("write API session");
    let transaction = connection.unchecked_transaction().map_err(&write)?;
    // Of a session that waits for a second factor, routers are told that it is good for nothing: as long as its token.
    let keep = format!(
        "INSERT OR REPLACE INTO ended_sessions SELECT id, expires_at + {TOKEN_RESERVE} \
         FROM api_sessions WHERE fingerprint <> '' AND mfa_due AND expires_at <= ?1"
    );
    for sql in [
        &*keep,
        "DELETE FROM api_sessions WHERE expires_at <= ?1",
        "DELETE FROM ended_sessions WHERE until <= ?1",
    ] {
        transaction.execute(sql, [now.0]).map_err(&write)?;
    }
    let config_types = json("API session config types", &session.config_types)?;
    let sql = "INSERT INTO api_sessions \
        (id, identity, fingerprint, config_types, created_at, expires_at, native, \
        mfa_due, mfa_passed_at) SELECT ?1, id, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM identities WHERE id = ?2 \
        ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at";
    let (is_due, passed_at) = columns(session.second_factor);
    let values = params![
        session.id.as_str(),
        session.identity.as_str(),
        session.fingerprint.as_deref().unwrap_or_default(),
        config_types,
        session.created_at.0,
        session.expires_at.0,
        session.native,
        is_due,
        passed_at,
    ];
    if transaction.execute(sql, values).map_err(&write)? == 0 {
        let id = session.identity.to_string();
        return Err(StoreError::NotFound { kind: EntityKind::Identity, id });
    }
    transaction.commit().map_err(&write)
}

/// Sessions that were ended before their time, until their tokens have expired.
pub(super) fn ended(
    connection: &Connection,
) -> Result<BTreeMap<ApiSessionId, Timestamp>, StoreError> {
    let read = database("read ended API sessions");
    let mut statement =
        connection.prepare("SELECT id, until FROM ended_sessions").map_err(&read)?;
    let rows = statement
        .query_map([], |row| {
            Ok((ApiSessionId::new(row.get::<_, String>(0)?), Timestamp(row.get(1)?)))
        })
        .map_err(&read)?;
    rows.map(|row| row.map_err(&read)).collect()
}

/// Says how API sessions stand with a second factor.
pub(super) fn set_second_factor(
    connection: &Connection,
    whose: &Whose,
    state: SecondFactor,
) -> Result<(), StoreError> {
    let (column, value) = match whose {
        Whose::Session(id) => ("id", id.as_str()),
        Whose::Identity(id) => ("identity", id.as_str()),
    };
    let (is_due, passed_at) = columns(state);
    let sql =
        format!("UPDATE api_sessions SET mfa_due = ?2, mfa_passed_at = ?3 WHERE {column} = ?1");
    let write = database("write second factor of API sessions");
    connection.execute(&sql, params![value, is_due, passed_at]).map(drop).map_err(write)
}

fn columns(state: SecondFactor) -> (bool, Option<i64>) {
    match state {
        SecondFactor::NotNeeded => (false, None),
        SecondFactor::Due => (true, None),
        SecondFactor::Passed(at) => (false, Some(at.0)),
    }
}

pub(super) fn remove(connection: &Connection, id: &ApiSessionId) -> Result<(), StoreError> {
    end(connection, "id = ?1", id.as_str())
}

pub(super) fn remove_all_of(
    connection: &Connection,
    identity: &IdentityId,
) -> Result<(), StoreError> {
    end(connection, "identity = ?1", identity.as_str())
}

pub(super) fn remove_certificate_sessions_of(
    connection: &Connection,
    identity: &IdentityId,
) -> Result<(), StoreError> {
    end(connection, "identity = ?1 AND fingerprint <> ''", identity.as_str())
}

pub(super) fn remove_password_sessions_of(
    connection: &Connection,
    identity: &IdentityId,
) -> Result<(), StoreError> {
    end(connection, "identity = ?1 AND fingerprint = ''", identity.as_str())
}

/// Removes sessions, and remembers those whose tokens routers would take.
fn end(connection: &Connection, which: &str, value: &str) -> Result<(), StoreError> {
    let write = database("end API sessions");
    let sql = format!(
        "INSERT OR REPLACE INTO ended_sessions \
         SELECT id, expires_at + {TOKEN_RESERVE} FROM api_sessions \
         WHERE fingerprint <> '' AND {which}"
    );
    connection.execute(&sql, [value]).map_err(&write)?;
    let sql = format!("DELETE FROM api_sessions WHERE {which}");
    connection.execute(&sql, [value]).map(drop).map_err(&write)
}
