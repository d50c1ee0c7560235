//! Copies of the file, and what may be wrong with one.

use std::{ops::ControlFlow, path::Path};

use rusqlite::{Connection, OpenFlags, backup::Backup};

use super::{SqliteStore, audit, configure, database, read, schema, sessions};
use crate::StoreError;

/// By how much a restored file's index is put forward: more changes than anybody has made since the copy,
/// so that no index comes a second time.
const RESTORED: u64 = 1_000_000;

/// Most faults that are told of one kind.
const MOST: usize = 20;

impl SqliteStore {
    /// Copies the file as it is between two changes, also while a process serves it, into a new file
    /// that needs no others beside it (SQLite's online backup).
    ///
    /// # Errors
    /// One of the files cannot be used, or the disk is full.
    pub fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
        let copying = database("copy database");
        let source = open_read_only(from)?;
        let mut target = Connection::open(to).map_err(&copying)?;
        // All pages in one step: changes are not held up, for readers of a write-ahead log hold up nobody.
        Backup::new(&source, &mut target).and_then(|copy| copy.step(-1)).map_err(&copying)?;
        target.pragma_update(None, "journal_mode", "DELETE").map_err(&copying)
    }

    /// What is wrong with a file, which is only read. Empty if nothing is.
    ///
    /// # Errors
    /// The file cannot be read, is no database or is of a later version.
    pub fn check(path: &Path) -> Result<Vec<String>, StoreError> {
        let checking = database("check database");
        let connection = open_read_only(path)?;
        let version = schema::check_version(&connection)?;
        let mut faults = integrity(&connection).map_err(&checking)?;
        faults.extend(foreign_keys(&connection).map_err(&checking)?);
        // An older file is read after it has been brought up to date.
        if faults.is_empty() && version == schema::CURRENT {
            faults.extend(contents(&connection).err().map(|error| error.to_string()));
        }
        Ok(faults)
    }

    /// Makes a copy of an earlier state ready to be served: clients have to authenticate again, and
    /// the index is greater than any that was ever published.
    ///
    /// # Errors
    /// The file cannot be changed.
    pub fn prepare_restored(path: &Path) -> Result<(), StoreError> {
        let preparing = database("prepare restored database");
        let mut connection = Connection::open(path).map_err(&preparing)?;
        configure(&connection).map_err(&preparing)?;
        schema::migrate(&mut connection)?;
        let sql = format!(
            "DELETE FROM api_sessions; UPDATE history SET model_index = model_index + {RESTORED};"
        );
        let transaction = connection.transaction().map_err(&preparing)?;
        transaction.execute_batch(&sql).map_err(&preparing)?;
        transaction.commit().map_err(&preparing)?;
        connection.close().map_err(|(_, source)| preparing(source))
    }
}

fn open_read_only(path: &Path) -> Result<Connection, StoreError> {
    let opening = database("open database");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(&opening)?;
    connection.busy_timeout(super::BUSY_TIMEOUT).map_err(&opening)?;
    Ok(connection)
}

fn integrity(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({MOST})"))?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
    let lines = lines.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

fn foreign_keys(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let rows = statement.query_map([], |row| {
        let (table, parent) = (row.get::<_, String>(0)?, row.get::<_, String>(2)?);
        Ok(format!("an entry of {table} refers to one of {parent} that does not exist"))
    })?;
    rows.take(MOST).collect()
}

/// Reads all there is, as a start and the audit log would.
fn contents(connection: &Connection) -> Result<(), StoreError> {
    read::model(connection)?;
    read::index(connection)?;
    sessions::all(connection)?;
    audit::read(connection, &mut |_| ControlFlow::Continue(()))
}
