//! TLS 1.3 before there is an identity: during enrollment.

use std::sync::Arc;

use nightgate_identity::{TlsSetupError, provider};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::token::EnrollmentToken;

/// Application protocols (RFC 7301) of the controller's REST API.
pub(crate) const REST_ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// For the first contact during enrollment: accepts a server if, and only if, its certificate's key
/// signed the enrollment token.
pub(crate) fn first_contact(token: EnrollmentToken) -> Result<ClientConfig, TlsSetupError> {
    let provider = provider();
    let verifier = FirstContact { token, provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = REST_ALPN.map(<[u8]>::to_vec).into();
    Ok(config)
}

/// For the rest of enrollment: trusts the bundle and presents nothing.
pub(crate) fn trusting(
    bundle: Vec<CertificateDer<'static>>,
) -> Result<ClientConfig, TlsSetupError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(bundle)?)
        .with_no_client_auth();
    config.alpn_protocols = REST_ALPN.map(<[u8]>::to_vec).into();
    Ok(config)
}

/// As [`trusting`], and presents a certificate of another CA.
pub(crate) fn presenting(
    bundle: Vec<CertificateDer<'static>>,
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, TlsSetupError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(bundle)?)
        .with_client_auth_cert(certificates, key)?;
    config.alpn_protocols = REST_ALPN.map(<[u8]>::to_vec).into();
    Ok(config)
}

fn roots(bundle: Vec<CertificateDer<'static>>) -> Result<RootCertStore, rustls::Error> {
    let mut store = RootCertStore::empty();
    for certificate in bundle {
        store.add(certificate)?;
    }
    Ok(store)
}

#[derive(Debug)]
struct FirstContact {
    token: EnrollmentToken,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for FirstContact {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _issuers: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.token.verify_signed_by(leaf) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(reason) => Err(rustls::Error::General(reason.to_string())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
