//! The certificates that sign others: the root, and the intermediate under it.

use rcgen::{BasicConstraints, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use crate::{
    Directory, PkiError,
    issue::{params, pem_of},
    pair::{KeyKind, PairFiles, make_key},
};

const ROOT_LIFETIME: Duration = Duration::days(20 * 365);
const INTERMEDIATE_LIFETIME: Duration = Duration::days(10 * 365);

/// The root; made unless something already depends on one.
pub(crate) fn open_root(
    dir: &Directory,
    now: OffsetDateTime,
) -> Result<CertificateDer<'static>, PkiError> {
    let files = PairFiles::new(dir, "root");
    if let Some(root) = files.load_certificate()? {
        files.check_valid(&root, now)?;
        return Ok(root);
    }
    let present = PairFiles::new(dir, "intermediate").certificate;
    if present.exists() {
        return Err(PkiError::Missing { missing: files.certificate, present });
    }
    make_root(&files, now)
}

/// Makes a root: its key first.
pub(crate) fn make_root(
    files: &PairFiles,
    now: OffsetDateTime,
) -> Result<CertificateDer<'static>, PkiError> {
    let key = make_key(&files.key, KeyKind::P256)?;
    let mut params = params("Nightgate root CA", now, ROOT_LIFETIME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = params
        .self_signed(&key)
        .map_err(|source| PkiError::Make { what: "the root certificate", source })?;
    files.save_certificates(&pem_of(root.der()))?;
    Ok(root.der().clone())
}

/// The intermediate; made with the root's key.
pub(crate) fn open_intermediate(
    dir: &Directory,
    root: &CertificateDer<'static>,
    now: OffsetDateTime,
) -> Result<(CertificateDer<'static>, KeyPair), PkiError> {
    let files = PairFiles::new(dir, "intermediate");
    if let Some(intermediate) = files.load_certificate()? {
        files.check_valid(&intermediate, now)?;
        let key = files.load_key_of(&intermediate, KeyKind::P256)?;
        return Ok((intermediate, key));
    }
    make_intermediate(&files, (&PairFiles::new(dir, "root"), root), now)
}

/// Makes an intermediate with the root's key: its own key first.
pub(crate) fn make_intermediate(
    files: &PairFiles,
    root: (&PairFiles, &CertificateDer<'static>),
    now: OffsetDateTime,
) -> Result<(CertificateDer<'static>, KeyPair), PkiError> {
    let issuer = root_issuer(root)?;
    let key = make_key(&files.key, KeyKind::P256)?;
    let intermediate = sign_intermediate(&key, &issuer, now)?;
    files.save_certificates(&pem_of(&intermediate))?;
    Ok((intermediate, key))
}

/// A root with its key.
pub(crate) fn root_issuer(
    (files, root): (&PairFiles, &CertificateDer<'static>),
) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let key = files.load_key_of(root, KeyKind::P256)?;
    Issuer::from_ca_cert_der(root, key)
        .map_err(|source| PkiError::Make { what: "the issuer", source })
}

/// An intermediate's certificate by a root.
pub(crate) fn sign_intermediate(
    key: &KeyPair,
    issuer: &Issuer<'static, KeyPair>,
    now: OffsetDateTime,
) -> Result<CertificateDer<'static>, PkiError> {
    let mut params = params("Nightgate signing CA", now, INTERMEDIATE_LIFETIME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let signed = params.signed_by(key, issuer);
    let signed =
        signed.map_err(|source| PkiError::Make { what: "the intermediate certificate", source })?;
    Ok(signed.der().clone())
}
