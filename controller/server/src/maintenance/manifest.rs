//! `backup.json`: what a backup consists of.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{MaintenanceError, failed, files_below};

/// Version of the format.
const VERSION: u32 = 1;

/// Name of the manifest.
pub(super) const FILE: &str = "backup.json";

/// Every file of a backup with its digest.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    version: u32,
    /// Paths relative to the backup, and the SHA-256 of the files in lower-case hex.
    files: BTreeMap<PathBuf, String>,
}

impl Manifest {
    /// The manifest of all files in a directory that has none yet.
    pub(super) fn of(dir: &Path) -> Result<Self, MaintenanceError> {
        let mut files = BTreeMap::new();
        for path in files_below(dir)? {
            let digest = digest(&dir.join(&path))?;
            files.insert(path, digest);
        }
        Ok(Self { version: VERSION, files })
    }

    pub(super) fn load(dir: &Path) -> Result<Self, MaintenanceError> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(MaintenanceError::NoBackup(dir.into()));
            }
            Err(source) => {
                return Err(MaintenanceError::File { operation: "read", path, source });
            }
        };
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|source| MaintenanceError::Manifest { path: path.clone(), source })?;
        match manifest.version {
            VERSION => Ok(manifest),
            found => Err(MaintenanceError::Version { path, found, known: VERSION }),
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("paths of our own and hex are text")
    }

    /// Paths of all files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// What is not as it was backed up.
    pub(super) fn faults(&self, dir: &Path) -> Result<Vec<String>, MaintenanceError> {
        let mut faults = Vec::new();
        for (path, expected) in &self.files {
            let file = dir.join(path);
            // A path that leads out of the backup was not written by us.
            let is_inside =
                path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if !is_inside || !file.exists() {
                faults.push(format!("{} is missing", file.display()));
            } else if digest(&file)? != *expected {
                faults.push(format!("{} is not the file that was backed up", file.display()));
            }
        }
        Ok(faults)
    }
}

fn digest(file: &Path) -> Result<String, MaintenanceError> {
    let contents = fs::read(file).map_err(failed("read", file))?;
    Ok(Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect())
}
