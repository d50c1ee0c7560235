//! The signer's roll-over: another intermediate signs from now on, and those before it stay trusted while
//! certificates of theirs may be in use.
//!
//! Every step can be the last one before a crash; the next start goes on from there.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use time::{Duration, OffsetDateTime};

use crate::{
    Directory, FileAccess, PkiError,
    authority::{ENDPOINT_LIFETIME, make_intermediate},
    files::{read, write},
    issue::{fingerprint, pem_of},
    pair::{PairFiles, parse},
};

/// How long an intermediate stays trusted after another took its place: as long as the last certificate that it
/// signed, and a day.
const OVERLAP: Duration = ENDPOINT_LIFETIME.saturating_add(Duration::days(1));

/// A certificate of the directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Described {
    /// Its file, without the folder.
    pub file: String,
    /// What it is for.
    pub purpose: &'static str,
    /// Its subject, as RFC 4514 writes names.
    pub subject: String,
    /// SHA-1 of its DER, lower-case hex.
    pub fingerprint: String,
    /// When it begins.
    pub not_before: OffsetDateTime,
    /// When it ends.
    pub not_after: OffsetDateTime,
    /// Whether its private key is there too.
    pub has_key: bool,
}

/// Makes another intermediate that signs from the next start on. The one before stays trusted for as long as
/// certificates that it has signed may be in use; its key is gone.
///
/// # Errors
/// The root's key is not there, or a file cannot be read or written.
pub fn roll_over(dir: impl Into<Directory>, now: OffsetDateTime) -> Result<(), PkiError> {
    let dir = &dir.into();
    finish(dir)?;
    let root = PairFiles::new(dir, "root");
    let current = PairFiles::new(dir, "intermediate");
    let Some(certificate) = root.load_certificate()? else {
        return Err(PkiError::Missing { missing: root.certificate, present: current.certificate });
    };
    root.check_valid(&certificate, now)?;
    make_intermediate(&next(dir), dir, &certificate, now)?;
    finish(dir)
}

/// Goes on with a roll-over that was begun: remembers the old certificate, then moves key and certificate of the new
/// one to their places. The certificate is written last and moved last, so it says whether there is something to do.
pub(crate) fn finish(dir: &Directory) -> Result<(), PkiError> {
    let (current, next) = (PairFiles::new(dir, "intermediate"), next(dir));
    let Some(new) = next.load_certificate()? else { return Ok(()) };
    if let Some(old) = current.load_certificate()? {
        let mut known = load(dir)?;
        if old != new && !known.contains(&old) {
            known.push(old);
            let pem: String = known.iter().map(pem_of).collect();
            write(&file(dir), pem.as_bytes(), FileAccess::Everyone)?;
        }
    }
    if next.key.exists() {
        replace(&next.key.path, &current.key.path)?;
    }
    replace(&next.certificate, &current.certificate)
}

/// The intermediates before `current` that are still trusted.
pub(crate) fn previous(
    dir: &Directory,
    current: &CertificateDer<'static>,
    now: OffsetDateTime,
) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let mut line = load(dir)?;
    line.push(current.clone());
    let is_trusted = |pair: &&[CertificateDer<'static>]| {
        let [old, successor] = pair else { return false };
        let replaced = parse(successor).validity().not_before.timestamp();
        let end = parse(old).validity().not_after.timestamp();
        now.unix_timestamp() < end.min(replaced + OVERLAP.whole_seconds())
    };
    Ok(line.windows(2).filter(is_trusted).map(|pair| pair[0].clone()).collect())
}

/// All certificates of the directory.
///
/// # Errors
/// A file cannot be read.
pub fn describe(dir: impl Into<Directory>) -> Result<Vec<Described>, PkiError> {
    let dir = &dir.into();
    let mut described = Vec::new();
    for (name, purpose) in [
        ("root", "trusted by everybody"),
        ("intermediate", "signs"),
        ("server", "the controller's TLS server"),
        ("server-legacy", "the controller's TLS server for clients of 2022"),
    ] {
        let files = PairFiles::new(dir, name);
        if let Some(certificate) = files.load_certificate()? {
            let file = format!("{name}.crt");
            described.push(one(file, purpose, &certificate, files.key.exists()));
        }
    }
    for certificate in load(dir)? {
        described.push(one(PREVIOUS.into(), "has signed", &certificate, false));
    }
    Ok(described)
}

const PREVIOUS: &str = "previous.pem";

fn one(
    file: String,
    purpose: &'static str,
    certificate: &CertificateDer<'_>,
    has_key: bool,
) -> Described {
    let parsed = parse(certificate);
    Described {
        file,
        purpose,
        subject: parsed.subject().to_string(),
        fingerprint: fingerprint(certificate),
        not_before: parsed.validity().not_before.to_datetime(),
        not_after: parsed.validity().not_after.to_datetime(),
        has_key,
    }
}

fn next(dir: &Directory) -> PairFiles {
    PairFiles::new(dir, "intermediate-next")
}

fn file(dir: &Directory) -> PathBuf {
    dir.path().join(PREVIOUS)
}

/// The intermediates that once signed, the oldest first.
fn load(dir: &Directory) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let path = file(dir);
    let Some(pem) = read(&path)? else { return Ok(Vec::new()) };
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    certificates
        .ok()
        .filter(|all| all.iter().all(|der| x509_parser::parse_x509_certificate(der).is_ok()))
        .ok_or(PkiError::Content { path, expected: "X.509 certificates in PEM" })
}

fn replace(from: &Path, to: &Path) -> Result<(), PkiError> {
    let directory = to.parent().unwrap_or(to);
    fs::rename(from, to).and_then(|()| File::open(directory)?.sync_all()).map_err(|source| {
        PkiError::File { operation: "move to its place", path: to.into(), source }
    })
}
