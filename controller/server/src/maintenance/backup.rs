//! Making a backup.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nightgate_pki::{FileAccess, write_atomically};
use nightgate_store::SqliteStore;

use super::{
    MaintenanceError,
    check::faults,
    copy_file, failed, files_below, make_folder,
    manifest::{FILE, Manifest},
    parent, sync,
};
use crate::{Settings, controller::database_file};

/// What [`backup`] made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackedUp {
    /// Number of files, the manifest not counted.
    pub files: usize,
}

/// Copies a controller directory into a new directory `to`, also while a controller serves it: the
/// database as it is between two changes, certificates, keys, settings and identity files.
///
/// `to` appears when it is complete and has been checked. It holds keys: its mode is 0700.
///
/// # Errors
/// `dir` is no controller directory, `to` exists, a file cannot be read or written, or what was copied
/// is damaged.
pub fn backup(dir: &Path, to: &Path) -> Result<BackedUp, MaintenanceError> {
    if Settings::load(dir)?.is_none() {
        return Err(MaintenanceError::NoController(dir.into()));
    }
    if to.exists() {
        return Err(MaintenanceError::Exists(to.into()));
    }
    let staged = staging_place(to);
    if staged.exists() {
        // Left by a backup that was interrupted.
        fs::remove_dir_all(&staged).map_err(failed("remove", &staged))?;
    }
    make_folder(&staged)?;
    SqliteStore::copy(&database_file(dir), &database_file(&staged))?;
    restrict(&database_file(&staged))?;
    for file in files_below(dir)?.into_iter().filter(|file| is_kept(file)) {
        copy_file(&dir.join(&file), &staged.join(&file))?;
    }
    let faults = faults(&staged)?;
    if !faults.is_empty() {
        return Err(MaintenanceError::Damaged { path: dir.into(), faults });
    }
    let manifest = Manifest::of(&staged)?;
    write_atomically(&staged.join(FILE), &manifest.to_json(), FileAccess::Owner)
        .map_err(failed("write", &staged.join(FILE)))?;
    sync(&staged)?;
    fs::rename(&staged, to).map_err(failed("make", to))?;
    sync(parent(to))?;
    Ok(BackedUp { files: manifest.paths().count() })
}

/// Whether a file is copied as it is: all but the database, the lock, and what a write may leave.
fn is_kept(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    !name.starts_with("nightgate.db") && name != "lock" && !name.ends_with(".new")
}

fn staging_place(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".incomplete");
    PathBuf::from(name)
}

/// Mode 0600, and on the disk.
fn restrict(file: &Path) -> Result<(), MaintenanceError> {
    use std::os::unix::fs::PermissionsExt as _;
    let restrict = || {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
        fs::File::open(file)?.sync_all()
    };
    restrict().map_err(failed("write", file))
}
