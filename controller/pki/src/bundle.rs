//! The certificates that clients trust, in the two forms they ask for.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use cms::{
    cert::{CertificateChoices, x509::Certificate},
    content_info::{CmsVersion, ContentInfo},
    signed_data::{CertificateSet, EncapsulatedContentInfo, SignedData, SignerInfos},
};
use der::{
    Any, Decode as _, Encode as _,
    asn1::{ObjectIdentifier, SetOfVec},
};
use rustls_pki_types::CertificateDer;

use crate::issue::pem_of;

/// `id-data`, RFC 5652 section 4.
const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
/// `id-signedData`, RFC 5652 section 5.1.
const ID_SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

/// The certificates that clients trust.
pub struct CaBundle {
    pem: String,
    pkcs7: String,
}

impl CaBundle {
    pub(crate) fn new(certificates: &[CertificateDer<'_>]) -> Result<Self, der::Error> {
        Ok(Self {
            pem: certificates.iter().map(pem_of).collect(),
            pkcs7: BASE64_STANDARD.encode(certs_only(certificates)?),
        })
    }

    /// One PEM block for each certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Base64 of a certs-only PKCS #7 message: the body of `/.well-known/est/cacerts`
    /// (RFC 7030 section 4.1.3).
    pub fn pkcs7(&self) -> &str {
        &self.pkcs7
    }
}

/// Encodes a certs-only SignedData (RFC 5652 section 5, RFC 7030 section 4.1.3).
fn certs_only(certificates: &[CertificateDer<'_>]) -> Result<Vec<u8>, der::Error> {
    let mut set = SetOfVec::new();
    for certificate in certificates {
        set.insert(CertificateChoices::Certificate(Certificate::from_der(certificate)?))?;
    }
    let signed = SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::new(),
        encap_content_info: EncapsulatedContentInfo { econtent_type: ID_DATA, econtent: None },
        certificates: Some(CertificateSet(set)),
        crls: None,
        signer_infos: SignerInfos(SetOfVec::new()),
    };
    ContentInfo { content_type: ID_SIGNED_DATA, content: Any::encode_from(&signed)? }.to_der()
}
