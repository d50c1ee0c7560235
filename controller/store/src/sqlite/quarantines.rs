//! Why identities are in quarantine.

use std::collections::BTreeMap;

use nightgate_model::{id::IdentityId, quarantine::Quarantine};
use rusqlite::{Connection, params};

use super::{
    database,
    record::{json, parse},
};
use crate::StoreError;

/// Notes a quarantine, in the place of an earlier one of the identity.
pub(super) fn set(connection: &Connection, quarantine: &Quarantine) -> Result<(), StoreError> {
    let sql = "INSERT INTO quarantines (identity, quarantine) VALUES (?1, ?2) \
        ON CONFLICT (identity) DO UPDATE SET quarantine = excluded.quarantine";
    let values = params![quarantine.identity.as_str(), json("quarantine", quarantine)?];
    connection.execute(sql, values).map(drop).map_err(database("write quarantine"))
}

/// Forgets the quarantine of an identity.
pub(super) fn remove(connection: &Connection, identity: &IdentityId) -> Result<(), StoreError> {
    connection
        .execute("DELETE FROM quarantines WHERE identity = ?1", [identity.as_str()])
        .map(drop)
        .map_err(database("remove quarantine"))
}

/// All of them.
pub(super) fn all(connection: &Connection) -> Result<BTreeMap<IdentityId, Quarantine>, StoreError> {
    let read = database("read quarantines");
    let mut statement = connection.prepare("SELECT quarantine FROM quarantines").map_err(&read)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(&read)?;
    rows.map(|row| {
        let quarantine: Quarantine = parse("quarantine", &row.map_err(&read)?)?;
        Ok((quarantine.identity.clone(), quarantine))
    })
    .collect()
}
