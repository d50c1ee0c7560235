//! What every certificate of the authority has in common.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose,
    SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, ServerName};
use sha1::{Digest as _, Sha1};
use time::{Duration, OffsetDateTime};

/// How far a peer's clock may be behind ours.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// A certificate that the authority signed for someone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issued {
    /// The certificate and its issuer, PEM.
    pub chain_pem: String,
    /// SHA-1 of the certificate's DER, lower-case hex.
    pub fingerprint: String,
}

/// A certificate together with a key that was made for it.
pub struct IssuedWithKey {
    /// The certificate.
    pub issued: Issued,
    /// The private key, PEM (PKCS #8).
    pub key_pem: String,
}

/// SHA-1 of a certificate's DER, lower-case hex: OpenZiti's name for a certificate.
pub fn fingerprint(der: &[u8]) -> String {
    format!("{:x}", Sha1::digest(der))
}

/// One PEM block.
pub(crate) fn pem_of(certificate: &CertificateDer<'_>) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    let body = BASE64_STANDARD.encode(certificate);
    let mut pem = String::with_capacity(body.len() + body.len() / 64 + 64);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        // RFC 7468 section 2: lines of 64 characters.
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Subject, serial and validity; the caller adds names and usages.
pub(crate) fn params(
    common_name: &str,
    now: OffsetDateTime,
    lifetime: Duration,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Nightgate");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from_slice(uuid::Uuid::new_v4().as_bytes()));
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + lifetime;
    params.use_authority_key_identifier_extension = true;
    params
}

/// Adds what a certificate of a TLS endpoint needs.
pub(crate) fn leaf(
    mut params: CertificateParams,
    usages: &[ExtendedKeyUsagePurpose],
    names: Vec<SanType>,
) -> CertificateParams {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
    params.subject_alt_names = names;
    params
}

/// The subject alternative name of a host.
pub(crate) fn host_name(host: &ServerName<'_>) -> Result<SanType, rcgen::Error> {
    if let ServerName::IpAddress(address) = host {
        return Ok(SanType::IpAddress((*address).into()));
    }
    Ok(SanType::DnsName(host.to_str().as_ref().try_into()?))
}
