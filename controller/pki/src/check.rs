//! What may be wrong with the files of an authority.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::X509Certificate;

use crate::{
    Directory, PkiError,
    directory::KeyFile,
    pair::{KeyKind, PairFiles, load_key, parse},
};

/// Pairs without which no controller starts.
const NEEDED: [&str; 3] = ["root", "intermediate", "server"];

/// What is wrong with the files in `dir`, which are only read. Empty if nothing is.
///
/// Every `NAME.crt` has to be valid at `now` and signed by a CA whose certificate is there too; every
/// `NAME.key` has to be readable by its owner only, and to belong to the certificate beside it. The
/// root's key may be kept elsewhere.
///
/// # Errors
/// The directory cannot be read.
pub fn check(dir: impl Into<Directory>, now: OffsetDateTime) -> Result<Vec<String>, PkiError> {
    let dir = &dir.into();
    let names = pair_names(dir.path()).map_err(|source| PkiError::File {
        operation: "read",
        path: dir.path().into(),
        source,
    })?;
    let mut faults = Vec::new();
    for name in NEEDED.into_iter().filter(|name| !names.contains(*name)) {
        faults.push(format!("{} is missing", PairFiles::new(dir, name).certificate.display()));
    }
    let mut certificates = Vec::new();
    for name in &names {
        let files = PairFiles::new(dir, name);
        match check_pair(&files, name, now) {
            Ok(certificate) => certificates.extend(certificate.map(|found| (files, found))),
            Err(error) => faults.push(error.to_string()),
        }
    }
    let parsed: Vec<_> = certificates.iter().map(|(_, found)| parse(found)).collect();
    for ((files, _), certificate) in certificates.iter().zip(&parsed) {
        if !parsed.iter().any(|issuer| has_signed(issuer, certificate)) {
            let path = files.certificate.display();
            faults
                .push(format!("{path} is signed by no CA that is here; restore it from a backup"));
        }
    }
    faults.extend(open_keys(dir, &names));
    Ok(faults)
}

/// Names of all pairs of which at least one file is there. A key of its own, without a certificate,
/// is no pair.
fn pair_names(dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_pair =
            path.extension().is_some_and(|extension| extension == "crt" || extension == "key");
        if let Some(name) = path.file_stem().filter(|_| is_pair) {
            names.insert(name.to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn check_pair(
    files: &PairFiles,
    name: &str,
    now: OffsetDateTime,
) -> Result<Option<CertificateDer<'static>>, PkiError> {
    let Some(certificate) = files.load_certificate()? else {
        return read_key(&files.key).map(|()| None);
    };
    files.check_valid(&certificate, now)?;
    let is_elsewhere = name == "root" && !files.key.exists();
    if !is_elsewhere {
        let of_kind = |kind| files.load_key_of(&certificate, kind).map(drop);
        of_kind(KeyKind::P256).or_else(|error| of_kind(KeyKind::Rsa).map_err(|_other| error))?;
    }
    Ok(Some(certificate))
}

/// Reads a key of either kind.
fn read_key(file: &KeyFile) -> Result<(), PkiError> {
    let of_kind = |kind| load_key(file, kind).map(drop);
    of_kind(KeyKind::P256).or_else(|error| of_kind(KeyKind::Rsa).map_err(|_other| error))
}

fn has_signed(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    issuer.is_ca()
        && issuer.subject() == certificate.issuer()
        && certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

/// Keys that others than their owner may read.
fn open_keys(dir: &Directory, names: &BTreeSet<String>) -> Vec<String> {
    let keys = names.iter().map(|name| PairFiles::new(dir, name).key.path);
    let mode = |key: &PathBuf| Some(fs::metadata(key).ok()?.permissions().mode() & 0o777);
    keys.filter_map(|key| Some((mode(&key)?, key)))
        .filter(|(mode, _)| mode & 0o077 != 0)
        .map(|(mode, key)| format!("{} has mode {mode:o}; `chmod 600` it", key.display()))
        .collect()
}
