//! The TLS that the controller's port speaks.

use std::sync::Arc;

use nightgate_model::control;
use nightgate_pki::{Authority, ServerIdentity};
use rustls::{
    CipherSuite, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert, VerifierBuilderError},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use crate::trust::ClientTrust;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Certificates or keys are not usable.
    #[error("set up TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// The CA certificates are not usable.
    #[error("set up client authentication: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

/// TLS 1.3 with the server certificate, and TLS 1.2 with the other one for legacy clients if they are
/// served. Clients may come without a certificate, but one that they present must be trusted.
pub(crate) fn server_config(
    authority: &Authority,
    clients: Arc<ClientTrust>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificates = Certificates::new(authority, &provider)?;
    let versions: &[_] = if certificates.legacy.is_some() { &[&TLS13, &TLS12] } else { &[&TLS13] };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(certificates));
    // Client certificates prove nothing in TLS 1.2 without it (RFC 7627 section 1).
    config.require_ems = true;
    config.alpn_protocols = vec![control::ALPN.to_vec(), b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Which certificate a client gets: it checks its enrollment token with the certificate's key, and
/// clients that speak nothing newer than TLS 1.2 know no other tokens than those of RSA keys.
#[derive(Debug)]
struct Certificates {
    modern: Arc<CertifiedKey>,
    legacy: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    fn new(authority: &Authority, provider: &CryptoProvider) -> Result<Self, rustls::Error> {
        let certified = |server: ServerIdentity| {
            CertifiedKey::from_der(server.chain, server.key, provider).map(Arc::new)
        };
        Ok(Self {
            modern: certified(authority.server())?,
            legacy: authority.legacy_server().map(certified).transpose()?,
        })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_modern = hello.cipher_suites().iter().any(is_of_tls13);
        let chosen = if is_modern { Some(&self.modern) } else { self.legacy.as_ref() };
        chosen.cloned()
    }
}

/// RFC 8446 appendix B.4: such a suite says nothing to an older version.
fn is_of_tls13(suite: &CipherSuite) -> bool {
    (0x1301..=0x1305).contains(&u16::from(*suite))
}
