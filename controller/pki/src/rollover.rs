//! The signer's roll-over: another intermediate signs from now on, and those before it stay trusted while
//! certificates of theirs may be in use.
//!
//! The root's roll-over: another root, and another intermediate, whose key both roots certify. While others may know
//! the old root only, the old root's certificate of it is the one that is presented; whoever enrolls or renews
//! is given both roots. When everybody's certificate has been renewed, nobody needs the old one any more.
//!
//! Every step can be the last one before a crash; the next start goes on from there.

use std::{
    fs::{self, File},
    path::Path,
};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use time::{Duration, OffsetDateTime};

use crate::{
    Directory, FileAccess, PkiError,
    authority::ENDPOINT_LIFETIME,
    ca::{make_intermediate, make_root, root_issuer, sign_intermediate},
    files::{read, remove_if_present, write},
    issue::{fingerprint, pem_of},
    pair::{KeyKind, PairFiles, make_key, parse},
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
    let (root, certificate) = begin(dir, now)?;
    make_intermediate(&next(dir), (&root, &certificate), now)?;
    finish(dir)
}

/// Makes another root, and an intermediate under both roots that signs from the next start on. The old root stays
/// trusted for as long as certificates of those who know no other may be in use; its key is gone.
///
/// # Errors
/// The root's key is not there, the last roll-over of a root is not over, or a file cannot be read or written.
pub fn roll_over_root(dir: impl Into<Directory>, now: OffsetDateTime) -> Result<(), PkiError> {
    let dir = &dir.into();
    let (root, certificate) = begin(dir, now)?;
    let old = root_issuer((&root, &certificate))?;
    let (new_root, signer) = (PairFiles::new(dir, "root-next"), next(dir));
    let new = make_root(&new_root, now)?;
    let key = make_key(&signer.key, KeyKind::P256)?;
    let by_old = sign_intermediate(&key, &old, now)?;
    let pem = pem_of(&by_old) + &pem_of(&certificate);
    write(&dir.path().join(OLD_ROOT_NEXT), pem.as_bytes(), FileAccess::Everyone)?;
    let by_new = sign_intermediate(&key, &root_issuer((&new_root, &new))?, now)?;
    signer.save_certificates(&pem_of(&by_new))?;
    finish(dir)
}

/// Brings what was begun before to its end, and gives the root, whose roll-over has to be over.
fn begin(
    dir: &Directory,
    now: OffsetDateTime,
) -> Result<(PairFiles, CertificateDer<'static>), PkiError> {
    finish(dir)?;
    // Remains of a root that never came to be must not come with the next intermediate.
    let next_root = PairFiles::new(dir, "root-next");
    for path in [next_root.certificate, next_root.key.path, dir.path().join(OLD_ROOT_NEXT)] {
        remove_if_present(&path).map_err(|source| PkiError::File {
            operation: "remove",
            path: path.clone(),
            source,
        })?;
    }
    let (root, current) = (PairFiles::new(dir, "root"), PairFiles::new(dir, "intermediate"));
    let Some(certificate) = root.load_certificate()? else {
        return Err(PkiError::Missing { missing: root.certificate, present: current.certificate });
    };
    root.check_valid(&certificate, now)?;
    if let Some(signer) = current.load_certificate()?
        && let Some(old) = OldRoot::load(dir, &signer, now)?
    {
        return Err(PkiError::RollingOver { until: old.until() });
    }
    Ok((root, certificate))
}

/// A root before the present one, while others may know no other.
pub(crate) struct OldRoot {
    pub(crate) root: CertificateDer<'static>,
    /// The present intermediate's certificate by it.
    pub(crate) signer: CertificateDer<'static>,
}

impl OldRoot {
    /// The old root of this intermediate, if there is one and it is needed.
    pub(crate) fn load(
        dir: &Directory,
        intermediate: &CertificateDer<'static>,
        now: OffsetDateTime,
    ) -> Result<Option<Self>, PkiError> {
        let Ok([signer, root]) = <[_; 2]>::try_from(certificates(dir, OLD_ROOT)?) else {
            return Ok(None);
        };
        let old = Self { root, signer };
        let is_of = parse(&old.signer).public_key() == parse(intermediate).public_key();
        Ok(Some(old).filter(|old| is_of && now < old.until()))
    }

    /// When it is needed no more.
    fn until(&self) -> OffsetDateTime {
        let began = parse(&self.signer).validity().not_before.to_datetime();
        let end = parse(&self.root).validity().not_after.to_datetime();
        end.min(began + OVERLAP)
    }
}

/// Goes on with a roll-over that was begun: remembers the old certificate, then moves keys and certificates of the new
/// ones to their places. The intermediate's certificate is written last and moved last, so it says whether there is
/// something to do.
pub(crate) fn finish(dir: &Directory) -> Result<(), PkiError> {
    let (current, next) = (PairFiles::new(dir, "intermediate"), next(dir));
    let Some(new) = next.load_certificate()? else { return Ok(()) };
    if let Some(old) = current.load_certificate()? {
        let mut known = certificates(dir, PREVIOUS)?;
        if old != new && !known.contains(&old) {
            known.push(old);
            let pem: String = known.iter().map(pem_of).collect();
            write(&dir.path().join(PREVIOUS), pem.as_bytes(), FileAccess::Everyone)?;
        }
    }
    let (root, next_root) = (PairFiles::new(dir, "root"), PairFiles::new(dir, "root-next"));
    for (from, to) in [
        (dir.path().join(OLD_ROOT_NEXT), dir.path().join(OLD_ROOT)),
        (next_root.key.path, root.key.path),
        (next_root.certificate, root.certificate),
        (next.key.path, current.key.path),
    ] {
        if from.exists() {
            replace(&from, &to)?;
        }
    }
    replace(&next.certificate, &current.certificate)
}

/// The intermediates before `current` that are still trusted.
pub(crate) fn previous(
    dir: &Directory,
    current: &CertificateDer<'static>,
    now: OffsetDateTime,
) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let mut line = certificates(dir, PREVIOUS)?;
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
    for certificate in certificates(dir, PREVIOUS)? {
        described.push(one(PREVIOUS.into(), "has signed", &certificate, false));
    }
    if let Ok([_, root]) = <[_; 2]>::try_from(certificates(dir, OLD_ROOT)?) {
        described.push(one(OLD_ROOT.into(), "was trusted by everybody", &root, false));
    }
    Ok(described)
}

/// The intermediates that once signed, the oldest first.
const PREVIOUS: &str = "previous.pem";

/// The present intermediate's certificate by the root before, and that root.
const OLD_ROOT: &str = "old-root.pem";

/// The same while it is made.
const OLD_ROOT_NEXT: &str = "old-root-next.pem";

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

/// The certificates of a file; none if it does not exist.
fn certificates(dir: &Directory, name: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let path = dir.path().join(name);
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
