//! The tables, and how older files become current ones.

use rusqlite::{Connection, TransactionBehavior};

use super::database;
use crate::StoreError;

/// Step `n` turns version `n` (`user_version`) into version `n + 1`.
const MIGRATIONS: [&str; 16] = [
    FIRST,
    UPDATES_AND_AUDIT,
    ROUTER_POLICIES,
    CONFIGS,
    PASSWORDS,
    CREDENTIALS,
    RENEWAL,
    TAGS,
    AUTH_POLICIES,
    QUARANTINES,
    NATIVE_CLIENTS,
    ROUTER_RENEWAL,
    USAGE,
    PATHS,
    TERMINATORS,
    SECOND_FACTORS,
];

/// By the hour since the Unix epoch. Who is gone stays: no references.
const USAGE: &str = "
CREATE TABLE usage (
    hour INTEGER NOT NULL,
    service TEXT NOT NULL,
    dialer TEXT NOT NULL,
    host TEXT NOT NULL,
    circuits INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    received INTEGER NOT NULL,
    PRIMARY KEY (hour, service, dialer, host)
) STRICT, WITHOUT ROWID;
";

const PATHS: &str = "
ALTER TABLE services ADD COLUMN terminator_strategy TEXT NOT NULL DEFAULT '\"smartrouting\"';
ALTER TABLE edge_routers ADD COLUMN cost INTEGER NOT NULL DEFAULT 0;
ALTER TABLE edge_routers ADD COLUMN no_traversal INTEGER NOT NULL DEFAULT 0;
";

const TERMINATORS: &str = "
ALTER TABLE services ADD COLUMN terminators TEXT NOT NULL DEFAULT '[]';
";

const SECOND_FACTORS: &str = "
CREATE TABLE mfas (
    identity TEXT PRIMARY KEY REFERENCES identities (id) ON DELETE CASCADE,
    id TEXT NOT NULL UNIQUE,
    is_verified INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    last_step INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

ALTER TABLE api_sessions ADD COLUMN mfa_due INTEGER NOT NULL DEFAULT 0;
ALTER TABLE api_sessions ADD COLUMN mfa_passed_at INTEGER;
";

const QUARANTINES: &str = "
CREATE TABLE quarantines (
    identity TEXT PRIMARY KEY REFERENCES identities (id) ON DELETE CASCADE,
    quarantine TEXT NOT NULL
) STRICT;
";

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

const UPDATES_AND_AUDIT: &str = "
ALTER TABLE identities ADD COLUMN disabled_until INTEGER;
ALTER TABLE edge_routers ADD COLUMN role_attributes TEXT NOT NULL DEFAULT '[]';

CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    author_id TEXT NOT NULL,
    author_name TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL,
    entity TEXT NOT NULL,
    name TEXT NOT NULL,
    before TEXT,
    after TEXT
) STRICT;
";

/// With the policies that make the tables say what was so before: everything through every router.
const ROUTER_POLICIES: &str = "
CREATE TABLE edge_router_policies (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    semantic TEXT NOT NULL,
    identity_roles TEXT NOT NULL,
    edge_router_roles TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
INSERT INTO edge_router_policies SELECT 'default', 'all-identities-all-routers', '\"AnyOf\"',
    '[\"#all\"]', '[\"#all\"]', now, now
    FROM (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now);

CREATE TABLE service_edge_router_policies (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    semantic TEXT NOT NULL,
    service_roles TEXT NOT NULL,
    edge_router_roles TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
INSERT INTO service_edge_router_policies SELECT 'default', 'all-services-all-routers', '\"AnyOf\"',
    '[\"#all\"]', '[\"#all\"]', now, now
    FROM (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now);
";

const CONFIGS: &str = "
CREATE TABLE config_types (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    json_schema TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE configs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    config_type TEXT NOT NULL REFERENCES config_types (id),
    data TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX configs_config_type ON configs (config_type);

CREATE TABLE service_configs (
    service TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    config TEXT NOT NULL REFERENCES configs (id),
    PRIMARY KEY (service, config)
) STRICT;
CREATE INDEX service_configs_config ON service_configs (config);
";

const PASSWORDS: &str = "
CREATE TABLE passwords (
    identity TEXT PRIMARY KEY REFERENCES identities (id) ON DELETE CASCADE,
    username TEXT NOT NULL UNIQUE,
    hash TEXT NOT NULL
) STRICT;
";

const CREDENTIALS: &str = "
CREATE TABLE cas (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    cert_pem TEXT NOT NULL,
    is_verified INTEGER NOT NULL,
    is_auth INTEGER NOT NULL,
    is_auto INTEGER NOT NULL,
    is_ott INTEGER NOT NULL,
    identity_roles TEXT NOT NULL,
    name_format TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

ALTER TABLE enrollments ADD COLUMN method TEXT NOT NULL DEFAULT '\"ott\"';
ALTER TABLE enrollments ADD COLUMN ca TEXT REFERENCES cas (id) ON DELETE CASCADE;
ALTER TABLE enrollments ADD COLUMN username TEXT;
ALTER TABLE enrollments ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
UPDATE enrollments SET method = '\"erott\"' WHERE router IS NOT NULL;
CREATE INDEX enrollments_ca ON enrollments (ca);

CREATE TABLE certificates (
    identity TEXT PRIMARY KEY REFERENCES identities (id) ON DELETE CASCADE,
    fingerprint TEXT NOT NULL UNIQUE,
    pem TEXT NOT NULL,
    ca TEXT REFERENCES cas (id)
) STRICT;
CREATE INDEX certificates_ca ON certificates (ca);
INSERT INTO certificates SELECT id, fingerprint, '', NULL FROM identities
    WHERE fingerprint IS NOT NULL;
";

const RENEWAL: &str = "
ALTER TABLE certificates ADD COLUMN offered_fingerprint TEXT;
ALTER TABLE certificates ADD COLUMN offered_pem TEXT;
CREATE UNIQUE INDEX certificates_offered ON certificates (offered_fingerprint);
INSERT OR IGNORE INTO certificates (identity, fingerprint, pem)
    SELECT id, fingerprint, '' FROM identities WHERE fingerprint IS NOT NULL;

CREATE TABLE ended_sessions (
    id TEXT PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT;
CREATE INDEX ended_sessions_until ON ended_sessions (until);
";

const TAGS: &str = "
ALTER TABLE identities ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
ALTER TABLE cas ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
ALTER TABLE config_types ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
ALTER TABLE configs ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
ALTER TABLE services ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
ALTER TABLE service_policies ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
ALTER TABLE edge_routers ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
ALTER TABLE edge_router_policies ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
ALTER TABLE service_edge_router_policies ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
";

/// With the policy that says what was so before: certificates and passwords for everybody.
const AUTH_POLICIES: &str = "
CREATE TABLE auth_policies (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    primary_auth TEXT NOT NULL,
    secondary_auth TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    tags TEXT NOT NULL DEFAULT '{}'
) STRICT;
INSERT INTO auth_policies (id, name, primary_auth, secondary_auth, created_at, updated_at)
    SELECT 'default', 'Default', '{}', '{}', now, now
    FROM (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now);
ALTER TABLE identities ADD COLUMN auth_policy TEXT REFERENCES auth_policies (id);
CREATE INDEX identities_auth_policy ON identities (auth_policy);
";

const NATIVE_CLIENTS: &str = "
ALTER TABLE api_sessions ADD COLUMN native INTEGER NOT NULL DEFAULT 0;
";

/// With the certificates that are there at the beginning of their lines.
const ROUTER_RENEWAL: &str = "
ALTER TABLE certificates ADD COLUMN origin TEXT NOT NULL DEFAULT '';
UPDATE certificates SET origin = fingerprint;

CREATE TABLE router_certificates (
    router TEXT PRIMARY KEY REFERENCES edge_routers (id) ON DELETE CASCADE,
    fingerprint TEXT NOT NULL UNIQUE,
    pem TEXT NOT NULL,
    origin TEXT NOT NULL,
    offered_fingerprint TEXT UNIQUE,
    offered_pem TEXT
) STRICT;
INSERT INTO router_certificates (router, fingerprint, pem, origin)
    SELECT id, fingerprint, '', fingerprint FROM edge_routers WHERE fingerprint IS NOT NULL;
";

/// Version of the schema that this program uses.
pub(super) const CURRENT: i64 = MIGRATIONS.len() as i64;

/// Version of the file's schema.
///
/// # Errors
/// It is later than this program's, or the file is no database.
pub(super) fn check_version(connection: &Connection) -> Result<i64, StoreError> {
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(database("read schema version"))?;
    if (1..=CURRENT).contains(&found) {
        Ok(found)
    } else {
        Err(StoreError::Newer { found, known: CURRENT })
    }
}

/// Brings the schema up to date, one transaction for each step.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    loop {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(database("begin migration"))?;
        let found: i64 = transaction
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(database("read schema version"))?;
        let Some(step) = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found)) else {
            return check_version(&transaction).map(drop);
        };
        transaction.execute_batch(step).map_err(database("migrate"))?;
        transaction
            .pragma_update(None, "user_version", found + 1)
            .map_err(database("write schema version"))?;
        transaction.commit().map_err(database("commit migration"))?;
    }
}

#[cfg(test)]
mod tests {
    use nightgate_model::{
        entity::Identity,
        id::{IdentityId, RouterId},
    };

    use super::*;
    use crate::{SqliteStore, Store as _};

    /// A database as the first release made it.
    const OLD: &str = "
    INSERT INTO edge_routers VALUES ('r', 'gw', 1, 0, 'ff', 'gw:443', 1, 2);
    INSERT INTO identities VALUES ('i', 'alice', NULL, 0, 0, '[\"staff\"]', '00', 3, 4);
    INSERT INTO identities VALUES ('r', 'gw', 'r', 0, 0, '[\"gateways\"]', 'ff', 1, 2);
    INSERT INTO services VALUES ('s', 'web', '[]', 1, '{}', 5, 6);
    INSERT INTO service_policies VALUES
        ('p', 'p', '\"Dial\"', '\"AnyOf\"', '[\"#staff\"]', '[\"@s\"]', 7, 8);
    INSERT INTO api_sessions VALUES ('a', 'i', '00', '[]', 9, 10);
    UPDATE history SET model_index = 7;
    PRAGMA user_version = 1;
    ";

    #[test]
    fn a_database_of_the_first_release_keeps_everything_and_gives_every_router() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nightgate.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(FIRST).unwrap();
        connection.execute_batch(OLD).unwrap();
        drop(connection);

        let loaded = SqliteStore::open(&path).unwrap().load().unwrap();

        let alice = &loaded.model.identities[&IdentityId::new("i")];
        assert_eq!((alice.created_at.0, alice.updated_at.0), (3, 4));
        let Identity { role_attributes, disabled_until, .. } = &alice.entity;
        assert_eq!((role_attributes.len(), *disabled_until), (1, None));
        assert_eq!(loaded.index, 7);
        assert_eq!(loaded.api_sessions[0].fingerprint.as_deref(), Some("00"));
        assert_eq!(loaded.model.certificates[&IdentityId::new("i")].origin, "00");
        assert_eq!(loaded.model.router_certificates[&RouterId::new("r")].origin, "ff");
        let model = &loaded.model;
        let counts = [model.identities.len(), model.services.len(), model.policies.len()];
        assert_eq!((counts, model.routers.len()), ([2, 1, 1], 1));
        let router_policy = model.router_policies.values().next().unwrap();
        assert_eq!(router_policy.entity.identity_roles[0].to_string(), "#all");
        let service_policy = model.service_router_policies.values().next().unwrap();
        assert_eq!(service_policy.entity.edge_router_roles[0].to_string(), "#all");
    }
}
