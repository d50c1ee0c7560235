//! Copies of a controller directory, and what may be wrong with one.

mod backup;
mod check;
mod manifest;
mod restore;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nightgate_pki::PkiError;
use nightgate_store::StoreError;

pub use self::{
    backup::{BackedUp, backup},
    check::{Finding, check},
    restore::{Restored, restore},
};
use crate::{SettingsError, StartError};

/// Why a backup was not made, not restored, or a directory not checked.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// The directory is no controller's.
    #[error("{} is not a controller directory: it has no controller.json", .0.display())]
    NoController(PathBuf),
    /// The directory is no backup.
    #[error("{} is not a backup: it has no backup.json; `nightgate controller backup` makes one", .0.display())]
    NoBackup(PathBuf),
    /// The place of the new directory is taken.
    #[error("{} exists; move it away or name another place", .0.display())]
    Exists(PathBuf),
    /// The backup was made by a later version.
    #[error("{}: version {found}, this program knows version {known}; use a newer program", path.display())]
    Version {
        /// The manifest.
        path: PathBuf,
        /// Version of the manifest.
        found: u32,
        /// Version of this program.
        known: u32,
    },
    /// The manifest cannot be read.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// What is in the directory is not what was backed up, or is damaged.
    #[error("{} is damaged, nothing was restored:\n{}", path.display(), faults.join("\n"))]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// All that is wrong.
        faults: Vec<String>,
    },
    /// A file or directory cannot be read or written.
    #[error("{operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The directory is in use, or cannot be locked.
    #[error("{0}; a directory is replaced only while no controller uses it")]
    InUse(StartError),
    /// The settings cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The certificates cannot be read.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The database cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Names the operation and the file that failed.
fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> MaintenanceError {
    let path = path.to_owned();
    move |source| MaintenanceError::File { operation, path: path.clone(), source }
}

/// Paths of all files below `dir`, relative to it, in order.
fn files_below(dir: &Path) -> Result<Vec<PathBuf>, MaintenanceError> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let shown = dir.join(&folder);
        for entry in fs::read_dir(&shown).map_err(failed("read", &shown))? {
            let entry = entry.map_err(failed("read", &shown))?;
            let path = folder.join(entry.file_name());
            if entry.file_type().map_err(failed("read", &dir.join(&path)))?.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A directory that only its owner can look into.
fn make_folder(path: &Path) -> Result<(), MaintenanceError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(failed("make", path))
}

/// Copies a file with its mode, to the disk.
fn copy_file(from: &Path, to: &Path) -> Result<(), MaintenanceError> {
    let contents = fs::read(from).map_err(failed("read", from))?;
    let mode = fs::metadata(from).map_err(failed("read", from))?.permissions().mode() & 0o777;
    if let Some(folder) = to.parent() {
        make_folder(folder)?;
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
        file.write_all(&contents)?;
        file.sync_all()
    };
    write().map_err(failed("write", to))
}

/// Makes sure that what was done in a directory outlives a loss of power.
fn sync(dir: &Path) -> Result<(), MaintenanceError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))
}

/// The directory that a path is in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}
