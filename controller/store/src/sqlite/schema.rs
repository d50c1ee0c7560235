//! The tables, and how older files become current ones.

use rusqlite::{Connection, TransactionBehavior};

use super::database;
use crate::StoreError;

/// Step `n` turns version `n` (`user_version`) into version `n + 1`.
const MIGRATIONS: [&str; 1] = [FIRST];

const FIRST: &str = "
CREATE TABLE history (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    model_index INTEGER NOT NULL
) STRICT;
INSERT INTO history (id, model_index) VALUES (1, 0);

CREATE TABLE edge_routers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    is_tunneler_enabled INTEGER NOT NULL,
    disabled INTEGER NOT NULL,
    fingerprint TEXT UNIQUE,
    address TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE identities (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    router TEXT UNIQUE REFERENCES edge_routers (id) ON DELETE CASCADE,
    is_admin INTEGER NOT NULL,
    disabled INTEGER NOT NULL,
    role_attributes TEXT NOT NULL,
    fingerprint TEXT UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE services (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role_attributes TEXT NOT NULL,
    encryption_required INTEGER NOT NULL,
    config TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE service_policies (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    permission TEXT NOT NULL,
    semantic TEXT NOT NULL,
    identity_roles TEXT NOT NULL,
    service_roles TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE enrollments (
    token_digest BLOB PRIMARY KEY,
    identity TEXT REFERENCES identities (id) ON DELETE CASCADE,
    router TEXT REFERENCES edge_routers (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL,
    CHECK ((identity IS NULL) <> (router IS NULL))
) STRICT;
CREATE INDEX enrollments_identity ON enrollments (identity);
CREATE INDEX enrollments_router ON enrollments (router);

CREATE TABLE api_sessions (
    id TEXT PRIMARY KEY,
    identity TEXT NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
    fingerprint TEXT NOT NULL,
    config_types TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX api_sessions_identity ON api_sessions (identity);
CREATE INDEX api_sessions_expires_at ON api_sessions (expires_at);
";

/// Brings the schema up to date, one transaction for each step.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    const KNOWN: i64 = MIGRATIONS.len() as i64;
    loop {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(database("begin migration"))?;
        let found: i64 = transaction
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(database("read schema version"))?;
        let Some(step) = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found)) else {
            return if found == KNOWN {
                Ok(())
            } else {
                Err(StoreError::Newer { found, known: KNOWN })
            };
        };
        transaction.execute_batch(step).map_err(database("migrate"))?;
        transaction
            .pragma_update(None, "user_version", found + 1)
            .map_err(database("write schema version"))?;
        transaction.commit().map_err(database("commit migration"))?;
    }
}
