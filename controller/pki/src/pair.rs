//! A key and its certificate as two files, `NAME.key` and `NAME.crt`.

use std::path::PathBuf;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    Directory, FileAccess, PkiError,
    directory::KeyFile,
    files::{read, write},
};

/// A kind of key that the authority makes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeyKind {
    /// ECDSA on P-256: everywhere but where clients cannot verify it.
    P256,
    /// RSA of 3072 bits, as strong as P-256 (NIST SP 800-57 part 1 table 2).
    Rsa,
}

impl KeyKind {
    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072),
        }
    }

    fn read(self, pem: &str) -> Result<KeyPair, rcgen::Error> {
        let algorithm = match self {
            Self::P256 => &PKCS_ECDSA_P256_SHA256,
            Self::Rsa => &PKCS_RSA_SHA256,
        };
        KeyPair::from_pem_and_sign_algo(pem, algorithm)
    }

    fn expected(self) -> &'static str {
        match self {
            Self::P256 => "a P-256 private key in PEM (PKCS #8)",
            Self::Rsa => "an RSA private key in PEM (PKCS #8)",
        }
    }

    fn made(self) -> &'static str {
        match self {
            Self::P256 => "a P-256 key",
            Self::Rsa => "an RSA key",
        }
    }
}

/// Where a pair lives.
pub(crate) struct PairFiles {
    pub(crate) key: KeyFile,
    pub(crate) certificate: PathBuf,
}

impl PairFiles {
    pub(crate) fn new(dir: &Directory, name: &str) -> Self {
        Self { key: dir.key(name), certificate: dir.path().join(format!("{name}.crt")) }
    }

    /// The first certificate of the file; `None` if there is no file.
    pub(crate) fn load_certificate(&self) -> Result<Option<CertificateDer<'static>>, PkiError> {
        let Some(pem) = read(&self.certificate)? else { return Ok(None) };
        let expected = PkiError::Content {
            path: self.certificate.clone(),
            expected: "an X.509 certificate in PEM",
        };
        let Ok(der) = CertificateDer::from_pem_slice(&pem) else { return Err(expected) };
        if X509Certificate::from_der(&der).is_err() {
            return Err(expected);
        }
        Ok(Some(der))
    }

    /// The key that belongs to `certificate`.
    pub(crate) fn load_key_of(
        &self,
        certificate: &CertificateDer<'_>,
        kind: KeyKind,
    ) -> Result<KeyPair, PkiError> {
        let key = load_key(&self.key, kind)?.ok_or_else(|| PkiError::Missing {
            missing: self.key.path.clone(),
            present: self.certificate.clone(),
        })?;
        if key.public_key_raw() == parse(certificate).public_key().subject_public_key.as_ref() {
            return Ok(key);
        }
        Err(PkiError::Mismatch {
            certificate: self.certificate.clone(),
            key: self.key.path.clone(),
        })
    }

    pub(crate) fn save_certificates(&self, pem: &str) -> Result<(), PkiError> {
        write(&self.certificate, pem.as_bytes(), FileAccess::Everyone)
    }

    /// Refuses a certificate that has ended.
    pub(crate) fn check_valid(
        &self,
        certificate: &CertificateDer<'_>,
        now: OffsetDateTime,
    ) -> Result<(), PkiError> {
        let end = parse(certificate).validity().not_after;
        if end.timestamp() > now.unix_timestamp() {
            return Ok(());
        }
        Err(PkiError::Expired { path: self.certificate.clone(), at: end.to_string() })
    }
}

/// Reads a certificate that was already accepted once.
pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> X509Certificate<'a> {
    X509Certificate::from_der(certificate)
        .expect("only certificates that parsed, or that rcgen made, are kept")
        .1
}

/// Loads a private key; `None` if there is no file.
pub(crate) fn load_key(file: &KeyFile, kind: KeyKind) -> Result<Option<KeyPair>, PkiError> {
    let Some(pem) = file.load()? else { return Ok(None) };
    let expected = kind.expected();
    let content = |_malformed| PkiError::Content { path: file.path.clone(), expected };
    kind.read(&pem).map(Some).map_err(content)
}

/// Makes a key and writes it.
pub(crate) fn make_key(file: &KeyFile, kind: KeyKind) -> Result<KeyPair, PkiError> {
    let key = kind.generate().map_err(|source| PkiError::Make { what: kind.made(), source })?;
    file.save(&key.serialize_pem())?;
    Ok(key)
}
