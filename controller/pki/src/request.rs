//! Certificate signing requests (RFC 2986).

use rcgen::SubjectPublicKeyInfo;
use x509_parser::{
    certification_request::X509CertificationRequest, pem::parse_x509_pem, prelude::FromDer as _,
};

/// A request that is not signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// Not PEM, or not a PKCS #10 request.
    #[error("not a PKCS #10 certificate signing request in PEM")]
    Malformed,
    /// The requester does not hold the key.
    #[error("the request is not signed by the key it names")]
    Unproven,
    /// The key type is not supported.
    #[error("unsupported key: use ECDSA P-256, P-384, P-521, Ed25519 or RSA")]
    Key,
}

/// Checks that a request is signed by the key it names, and returns that key.
///
/// Everything else in a request is ignored: subject, names and usages are the authority's to choose.
pub(crate) fn proven_key(pem: &[u8]) -> Result<SubjectPublicKeyInfo, RequestError> {
    let Ok((_, pem)) = parse_x509_pem(pem) else { return Err(RequestError::Malformed) };
    let Ok((rest, request)) = X509CertificationRequest::from_der(&pem.contents) else {
        return Err(RequestError::Malformed);
    };
    if !rest.is_empty() {
        return Err(RequestError::Malformed);
    }
    if request.verify_signature().is_err() {
        return Err(RequestError::Unproven);
    }
    SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .or(Err(RequestError::Key))
}

/// Checks that a request is signed by the key it names.
///
/// # Errors
/// It is malformed, unproven or has an unsupported key.
pub fn check(pem: &[u8]) -> Result<(), RequestError> {
    proven_key(pem).map(drop)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};

    use super::*;

    #[test]
    fn the_key_of_a_proven_request_is_returned() {
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let proven = proven_key(request.pem().unwrap().as_bytes()).unwrap();
        assert_eq!(proven.der_bytes(), key.public_key_raw());
    }

    #[test]
    fn a_request_with_another_key_than_its_signer_is_refused() {
        let key = KeyPair::generate().unwrap();
        let other = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let mut der = request.der().to_vec();
        let at = der
            .windows(65)
            .position(|window| window == key.public_key_raw())
            .expect("the request holds the key");
        der[at..at + 65].copy_from_slice(other.public_key_raw());
        let pem = pem_of(&der);
        assert_eq!(proven_key(pem.as_bytes()), Err(RequestError::Unproven));
    }

    #[test]
    fn garbage_is_malformed() {
        for garbage in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        ] {
            assert_eq!(proven_key(garbage.as_bytes()), Err(RequestError::Malformed), "{garbage}");
        }
    }

    fn pem_of(der: &[u8]) -> String {
        use base64::prelude::*;
        let body = BASE64_STANDARD.encode(der);
        let lines: Vec<_> =
            body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            lines.join("\n")
        )
    }
}
