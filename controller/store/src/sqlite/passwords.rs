//! Passwords.

use std::collections::BTreeMap;

use nightgate_model::id::IdentityId;
use rusqlite::{Connection, OptionalExtension as _, ffi::SQLITE_CONSTRAINT_UNIQUE, params};

use super::{database, sessions};
use crate::{PasswordLogin, StoreError};

/// Sets a password; sessions that began with the one before end.
pub(super) fn set(connection: &Connection, login: &PasswordLogin) -> Result<(), StoreError> {
    sessions::remove_password_sessions_of(connection, &login.identity)?;
    let sql = "INSERT INTO passwords (identity, username, hash) VALUES (?1, ?2, ?3) \
        ON CONFLICT (identity) DO UPDATE SET username = excluded.username, hash = excluded.hash";
    let values = params![login.identity.as_str(), login.username, login.hash];
    connection.execute(sql, values).map(drop).map_err(|source| {
        let code = source.sqlite_error().map(|failure| failure.extended_code);
        if code == Some(SQLITE_CONSTRAINT_UNIQUE) {
            StoreError::UsernameTaken { username: login.username.clone() }
        } else {
            StoreError::Database { operation: "set password", source }
        }
    })
}

/// Takes a password away; sessions that began with it end.
pub(super) fn remove(connection: &Connection, identity: &IdentityId) -> Result<(), StoreError> {
    sessions::remove_password_sessions_of(connection, identity)?;
    connection
        .execute("DELETE FROM passwords WHERE identity = ?1", [identity.as_str()])
        .map(drop)
        .map_err(database("remove password"))
}

/// The names that identities log in with.
pub(super) fn usernames(
    connection: &Connection,
) -> Result<BTreeMap<IdentityId, String>, StoreError> {
    let read = database("read usernames");
    let mut statement =
        connection.prepare("SELECT identity, username FROM passwords").map_err(&read)?;
    let rows = statement
        .query_map([], |row| Ok((IdentityId::new(row.get::<_, String>(0)?), row.get(1)?)))
        .map_err(&read)?;
    rows.map(|row| row.map_err(&read)).collect()
}

/// The login of this name.
pub(super) fn find(
    connection: &Connection,
    username: &str,
) -> Result<Option<PasswordLogin>, StoreError> {
    let sql = "SELECT identity, username, hash FROM passwords WHERE username = ?1";
    connection
        .query_row(sql, [username], |row| {
            Ok(PasswordLogin {
                identity: IdentityId::new(row.get::<_, String>(0)?),
                username: row.get(1)?,
                hash: row.get(2)?,
            })
        })
        .optional()
        .map_err(database("read password"))
}
