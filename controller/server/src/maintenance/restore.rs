//! Restoring a backup.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nightgate_store::SqliteStore;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use time::{OffsetDateTime, macros::format_description};

use super::{
    MaintenanceError, check::faults, copy_file, failed, make_folder, manifest::Manifest, parent,
    sync,
};
use crate::{
    Settings, clock,
    controller::{DirectoryLock, database_file},
};

/// What [`restore`] did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Restored {
    /// Where the directory is that was there before; none if there was none.
    pub before: Option<PathBuf>,
}

/// Puts a backup in the place of a controller directory, in one step: at any moment `dir` is either
/// what it was or the whole backup. What was there stays beside it, under another name.
///
/// Clients have to authenticate again, and routers get the earlier model. Identities and routers that
/// enrolled after the backup are unknown; enrollment tokens that were used after it can be used again
/// until they expire.
///
/// # Errors
/// The backup is damaged, a running controller uses `dir`, `dir` is no controller directory, or a file
/// cannot be read or written. `dir` is unchanged then.
pub fn restore(backup: &Path, dir: &Path) -> Result<Restored, MaintenanceError> {
    let manifest = Manifest::load(backup)?;
    let faults = faults(backup)?;
    if !faults.is_empty() {
        return Err(MaintenanceError::Damaged { path: backup.into(), faults });
    }
    let is_taken = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_missing) => false,
    };
    if is_taken && Settings::load(dir)?.is_none() {
        return Err(MaintenanceError::NoController(dir.into()));
    }
    let _lock = if is_taken {
        Some(DirectoryLock::acquire(dir).map_err(MaintenanceError::InUse)?)
    } else {
        None
    };
    let staged = place_beside(dir, clock::now());
    make_folder(&staged)?;
    for path in manifest.paths() {
        copy_file(&backup.join(path), &staged.join(path))?;
        sync(parent(&staged.join(path)))?;
    }
    SqliteStore::prepare_restored(&database_file(&staged))?;
    sync(&staged)?;
    exchange(&staged, dir, is_taken)?;
    sync(parent(dir))?;
    Ok(Restored { before: is_taken.then_some(staged) })
}

/// Where the backup is made ready and, after the exchange, the former directory stays.
fn place_beside(dir: &Path, now: OffsetDateTime) -> PathBuf {
    let format = format_description!("[year][month][day]T[hour][minute][second]");
    let stamp = now.format(format).unwrap_or_default();
    let mut name = dir.as_os_str().to_owned();
    name.push(format!(".before-restore-{stamp}-{}", std::process::id()));
    PathBuf::from(name)
}

/// Exchanges two directories, or moves one where none is, or an empty one.
fn exchange(staged: &Path, dir: &Path, is_taken: bool) -> Result<(), MaintenanceError> {
    if !is_taken {
        return fs::rename(staged, dir).map_err(failed("make", dir));
    }
    renameat2(AT_FDCWD, staged, AT_FDCWD, dir, RenameFlags::RENAME_EXCHANGE)
        .map_err(|error| failed("replace", dir)(error.into()))
}
