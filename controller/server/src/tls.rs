//! The TLS that the controller's port speaks.

use std::sync::Arc;

use nightgate_model::control;
use nightgate_pki::Authority;
use rustls::{ServerConfig, crypto::aws_lc_rs, server::VerifierBuilderError, version::TLS13};

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

/// TLS 1.3 with the server certificate. Clients may come without a certificate, but one that they
/// present must be trusted.
pub(crate) fn server_config(
    authority: &Authority,
    clients: Arc<ClientTrust>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(authority.server_chain(), authority.server_key())?;
    config.alpn_protocols = vec![control::ALPN.to_vec(), b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
