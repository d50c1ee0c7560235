//! What a certificate is asked for with.

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};

/// No key, or no request for it, could be made.
#[derive(Debug, thiserror::Error)]
#[error("make a P-256 key and a certificate signing request")]
pub struct RequestError(#[from] rcgen::Error);

/// A new P-256 key and a request to certify it (PKCS #10, RFC 2986), both PEM.
///
/// # Errors
/// The random source or the subject does not do.
pub fn key_and_request(subject: &str) -> Result<(String, String), RequestError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "Nightgate");
    params.distinguished_name.push(DnType::CommonName, subject);
    let request = params.serialize_request(&key)?.pem()?;
    Ok((key.serialize_pem(), request))
}
