//! How certificates are named.

use rustls_pki_types::CertificateDer;
use sha1::{Digest as _, Sha1};

/// SHA-1 of a certificate's DER, lower-case hex: OpenZiti's form. It names a certificate that TLS
/// has already verified; nothing rests on SHA-1 resisting collisions.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha1::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_lower_case_hex_of_sha1() {
        // RFC 3174 section 7.3, TEST1.
        let certificate = CertificateDer::from_slice(b"abc");
        assert_eq!(fingerprint(&certificate), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }
}
