//! Second factors.

use std::collections::BTreeMap;

use nightgate_model::id::IdentityId;
use rusqlite::{Connection, params};

use super::database;
use crate::{Mfa, StoreError, Timestamp};

/// Gives an identity a second factor, in the place of one that it had.
pub(super) fn set(connection: &Connection, mfa: &Mfa) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO mfas \
        (identity, id, is_verified, sealed, last_step, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let values = params![
        mfa.identity.as_str(),
        mfa.id,
        mfa.is_verified,
        mfa.sealed,
        mfa.last_step.cast_signed(),
        mfa.created_at.0,
    ];
    connection.execute(sql, values).map(drop).map_err(database("write second factor"))
}

/// Takes the second factor of an identity away.
pub(super) fn remove(connection: &Connection, identity: &IdentityId) -> Result<(), StoreError> {
    connection
        .execute("DELETE FROM mfas WHERE identity = ?1", [identity.as_str()])
        .map(drop)
        .map_err(database("remove second factor"))
}

/// All of them.
pub(super) fn all(connection: &Connection) -> Result<BTreeMap<IdentityId, Mfa>, StoreError> {
    let read = database("read second factors");
    let sql = "SELECT identity, id, is_verified, sealed, last_step, created_at FROM mfas";
    let mut statement = connection.prepare(sql).map_err(&read)?;
    let rows = statement
        .query_map([], |row| {
            let identity = IdentityId::new(row.get::<_, String>(0)?);
            let mfa = Mfa {
                identity: identity.clone(),
                id: row.get(1)?,
                is_verified: row.get(2)?,
                sealed: row.get(3)?,
                last_step: row.get::<_, i64>(4)?.cast_unsigned(),
                created_at: Timestamp(row.get(5)?),
            };
            Ok((identity, mfa))
        })
        .map_err(&read)?;
    rows.map(|row| row.map_err(&read)).collect()
}
