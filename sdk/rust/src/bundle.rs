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

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl crl2pkcs7 -nocrl` of two self-signed certificates, CN=a and CN=b; the first
    /// is the longer one, so that the set is not in DER order.
    const TWO: &str = "
MIIDDAYJKoZIhvcNAQcCoIIC/TCCAvkCAQExADALBgkqhkiG9w0BBwGgggLhMIIBbTCCAROgAwIBAgIUR0y721p7oVhx8uWt4TFu
I74xA7YwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYTAeFw0yNjExMjAyMjA3MjlaFw0zNjExMTcyMjA3MjlaMAwxCjAIBgNVBAMM
AWEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARBft1u3wRZNeF0tVA/YNgWGoX6uNNdTHgiP+dNRJiF8fmnYMOOKIuVTT0PoJMe
mkyxFaDV1jcaoxhlJ/4hd6Muo1MwUTAdBgNVHQ4EFgQUWOYybysQcRBxi/EhHJ8qcdyTF0gwHwYDVR0jBBgwFoAUWOYybysQcRBx
i/EhHJ8qcdyTF0gwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiAsEZB0CLCgjgEx5r4BBCULq6lcPqbGG/OV+U5S
rncJlwIhAPX8ekXwajb6EtGLtl7tnvgJVzcCcM8MGyldC01+uwmtMIIBbDCCAROgAwIBAgIUWvntCu2VjyMBSvmzp5FGwJlFp0sw
CgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYjAeFw0yNjExMjAyMjA3MjlaFw0zNjExMTcyMjA3MjlaMAwxCjAIBgNVBAMMAWIwWTAT
BgcqhkjOPQIBBggqhkjOPQMBBwNCAATNCIDj1ZZ+ZysqTF34ziI2/82ht9Lsh3p99eANd4L+Jv7RsU3elbZwu2FUEGrS6YdFhfIw
3QjAJsTtcc61V0aSo1MwUTAdBgNVHQ4EFgQU4IY1/ESirrNwluyw1njg4wscGYgwHwYDVR0jBBgwFoAU4IY1/ESirrNwluyw1njg
4wscGYgwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiBwsro26JyRDY55PQuQe+6a83HOKJfv2BPwoirjUQ6RXAIg
c75SPYltTxxruVB16ygUEysA1Xfw0T7JLFqYDe8eursxAA==
";

    #[test]
    fn bundle_of_another_implementation_is_read_byte_for_byte() {
        let certificates = read(TWO.as_bytes()).unwrap();

        let mut names: Vec<_> = certificates
            .iter()
            .map(|der| {
                let (rest, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
                assert!(rest.is_empty());
                parsed.subject().to_string()
            })
            .collect();
        names.sort();
        assert_eq!(names, ["CN=a", "CN=b"]);
    }

    #[test]
    fn other_content_is_refused() {
        assert!(matches!(read(b"<html>"), Err(BundleError::Base64(_))));
        assert!(matches!(read(b"aGVsbG8="), Err(BundleError::Der(_))));
        let truncated = &TWO.replace('\n', "")[..400];
        assert!(matches!(read(truncated.as_bytes()), Err(BundleError::Der(_))));
    }
}
