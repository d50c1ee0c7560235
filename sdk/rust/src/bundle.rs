//! The controller's CA bundle as EST serves it (RFC 7030 section 4.1.3): base64 of a certs-only
//! PKCS#7 message.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cms::{cert::CertificateChoices, content_info::ContentInfo, signed_data::SignedData};
use der::{Decode as _, Encode as _, oid::db::rfc5911::ID_SIGNED_DATA};
use rustls_pki_types::CertificateDer;

/// A CA bundle that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not base64.
    #[error("CA bundle: expected base64")]
    Base64(#[source] base64::DecodeError),
    /// Not a PKCS#7 message.
    #[error("CA bundle: expected DER of a PKCS#7 message, found {0}")]
    Der(der::Error),
    /// Another PKCS#7 message, or one without certificates.
    #[error("CA bundle: expected PKCS#7 signed data with at least one certificate")]
    NoCertificates,
}

/// Reads the text of `/.well-known/est/cacerts`.
pub(crate) fn read(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let base64: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let message = BASE64_STANDARD.decode(base64).map_err(BundleError::Base64)?;
    let content = ContentInfo::from_der(&message).map_err(BundleError::Der)?;
    if content.content_type != ID_SIGNED_DATA {
        return Err(BundleError::NoCertificates);
    }
    let signed: SignedData = content.content.decode_as().map_err(BundleError::Der)?;
    let mut certificates = Vec::new();
    for choice in signed.certificates.iter().flat_map(|set| set.0.iter()) {
        match choice {
            CertificateChoices::Certificate(certificate) => {
                certificates.push(certificate.to_der().map_err(BundleError::Der)?.into());
            }
            CertificateChoices::Other(_) => {}
        }
    }
    if certificates.is_empty() { Err(BundleError::NoCertificates) } else { Ok(certificates) }
}
