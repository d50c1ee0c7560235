//! The store in one SQLite file.

mod audit;
mod credentials;
mod maintenance;
mod mfas;
mod passwords;
mod quarantines;
mod read;
mod record;
mod schema;
mod sessions;
mod usage;
mod write;

use std::{
    fs::OpenOptions,
    ops::ControlFlow,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nightgate_model::id::ApiSessionId;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::{
    ApiSession, AuditBounds, AuditEntry, Change, Loaded, PasswordLogin, Store, StoreError,
    Timestamp, Usage, UsageKey,
};

/// How long a transaction waits for one of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The store in one SQLite file: write-ahead log, synced on every commit.
pub struct SqliteStore {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens or creates the file, readable by its owner only, and brings its schema up to date.
    ///
    /// # Errors
    /// The file cannot be created or read, is not a database, or is of a later version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| StoreError::Create { path: path.into(), source })?;
        let mut connection = Connection::open(path).map_err(database("open database"))?;
        configure(&connection).map_err(database("configure database"))?;
        schema::migrate(&mut connection)?;
        Ok(Self { path: path.into(), connection: Mutex::new(connection) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic in a transaction has rolled it back: the connection is as good as before.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SqliteStore {
    fn load(&self) -> Result<Loaded, StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(database("begin"))?;
        Ok(Loaded {
            model: read::model(&transaction)?,
            index: read::index(&transaction)?,
            api_sessions: sessions::all(&transaction)?,
            ended_sessions: sessions::ended(&transaction)?,
        })
    }

    fn apply(&self, change: &Change, at: Timestamp) -> Result<u64, StoreError> {
        let mut connection = self.connection();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(database("begin"))?;
        write::apply(&transaction, change, at)?;
        let index = write::advance_index(&transaction)?;
        transaction.commit().map_err(database("commit"))?;
        Ok(index)
    }

    fn audit(
        &self,
        visit: &mut dyn FnMut(AuditEntry) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        // A connection of its own: the log may be long, and changes do not wait for readers.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&self.path, flags).map_err(database("open database"))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(database("configure database"))?;
        audit::read(&connection, visit)
    }

    fn trim_audit(&self, bounds: AuditBounds, now: Timestamp) -> Result<usize, StoreError> {
        audit::trim(&self.connection(), bounds, now)
    }

    fn add_usage(&self, lines: &[(UsageKey, Usage)], at: Timestamp) -> Result<(), StoreError> {
        usage::add(&self.connection(), lines, at)
    }

    fn usage(&self, since: Timestamp) -> Result<Vec<(UsageKey, Usage)>, StoreError> {
        usage::since(&self.connection(), since)
    }

    fn trim_usage(&self, before: Timestamp, max_lines: u32) -> Result<usize, StoreError> {
        usage::trim(&self.connection(), before, max_lines)
    }

    fn advance_index(&self) -> Result<u64, StoreError> {
        write::advance_index(&self.connection())
    }

    fn password(&self, username: &str) -> Result<Option<PasswordLogin>, StoreError> {
        passwords::find(&self.connection(), username)
    }

    fn put_api_session(&self, session: &ApiSession, now: Timestamp) -> Result<(), StoreError> {
        sessions::put(&self.connection(), session, now)
    }

    fn remove_api_session(&self, id: &ApiSessionId) -> Result<u64, StoreError> {
        let mut connection = self.connection();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(database("begin"))?;
        sessions::remove(&transaction, id)?;
        let index = write::advance_index(&transaction)?;
        transaction.commit().map_err(database("commit"))?;
        Ok(index)
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// Names the operation that the database refused.
fn database(operation: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Database { operation, source }
}
