//! Checking a controller directory or a backup.

use std::path::Path;

use nightgate_store::SqliteStore;
use serde::Serialize;

use super::{MaintenanceError, manifest::Manifest};
use crate::{Settings, clock, controller::database_file, controller::pki_dir};

/// What one check has found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// What was checked: `settings`, `database`, `certificates`, `copies`.
    pub check: &'static str,
    /// All that is wrong; empty if nothing is.
    pub faults: Vec<String>,
}

/// Checks a controller directory, which may be served meanwhile, or a backup: settings, database
/// (integrity, foreign keys, contents), certificates and keys, and the files of a backup against its
/// manifest. Only reads.
///
/// # Errors
/// `dir` is neither, or a file cannot be read.
pub fn check(dir: &Path) -> Result<Vec<Finding>, MaintenanceError> {
    let mut findings = vec![Finding { check: "settings", faults: settings(dir)? }];
    findings.push(Finding { check: "database", faults: database(dir) });
    findings.push(Finding { check: "certificates", faults: certificates(dir) });
    match Manifest::load(dir) {
        Ok(manifest) => {
            findings.push(Finding { check: "copies", faults: manifest.faults(dir)? });
        }
        Err(MaintenanceError::NoBackup(_)) => {}
        Err(error) => findings.push(Finding { check: "copies", faults: vec![error.to_string()] }),
    }
    Ok(findings)
}

/// All that is wrong with a directory.
pub(super) fn faults(dir: &Path) -> Result<Vec<String>, MaintenanceError> {
    Ok(check(dir)?.into_iter().flat_map(|finding| finding.faults).collect())
}

fn settings(dir: &Path) -> Result<Vec<String>, MaintenanceError> {
    match Settings::load(dir) {
        Ok(Some(settings)) => {
            Ok(settings.hosts().err().map(|error| error.to_string()).into_iter().collect())
        }
        Ok(None) => Err(MaintenanceError::NoController(dir.into())),
        Err(error) => Ok(vec![error.to_string()]),
    }
}

fn database(dir: &Path) -> Vec<String> {
    let file = database_file(dir);
    match SqliteStore::check(&file) {
        Ok(faults) => {
            faults.into_iter().map(|fault| format!("{}: {fault}", file.display())).collect()
        }
        Err(error) => vec![format!("{}: {error}", file.display())],
    }
}

fn certificates(dir: &Path) -> Vec<String> {
    pki_dir(dir)
        .and_then(|pki| nightgate_pki::check(pki, clock::now()))
        .unwrap_or_else(|error| vec![error.to_string()])
}
