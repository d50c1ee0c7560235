//! TLS between parts of the overlay: both ends prove who they are. TLS 1.3, unless told otherwise.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    version::{TLS12, TLS13},
};

use crate::{ClientTrust, Identity, IdentityError};

/// TLS that cannot be set up with the certificates at hand.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The identity holds unusable parts.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A certificate or key does not do for TLS.
    #[error("set up TLS with the identity's key and certificates")]
    Unusable(#[from] rustls::Error),
    /// The trusted certificates cannot verify clients.
    #[error("set up the verification of client certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The cryptography of every TLS connection: aws-lc, X25519MLKEM768 offered first.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The oldest version of TLS that a server speaks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OldestTls {
    /// TLS 1.3 (RFC 8446).
    #[default]
    Tls13,
    /// TLS 1.2 (RFC 5246), for OpenZiti clients of 2022.
    Tls12,
}

impl Identity {
    /// TLS 1.3 as a client that presents this identity and trusts only its CA.
    ///
    /// # Errors
    /// The identity's key or certificates do not do for TLS.
    pub fn client_config(&self, protocols: &[&[u8]]) -> Result<ClientConfig, TlsSetupError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.certificates()?, self.private_key()?)?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    /// TLS as a server that presents this identity and demands a certificate that is trusted.
    ///
    /// # Errors
    /// The identity's key or certificates do not do for TLS.
    pub fn server_config(
        &self,
        clients: Arc<ClientTrust>,
        protocols: &[&[u8]],
        oldest: OldestTls,
    ) -> Result<ServerConfig, TlsSetupError> {
        let versions: &[_] = match oldest {
            OldestTls::Tls13 => &[&TLS13],
            OldestTls::Tls12 => &[&TLS13, &TLS12],
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(clients)
            .with_single_cert(self.certificates()?, self.private_key()?)?;
        // Client certificates prove nothing in TLS 1.2 without it (RFC 7627 section 1).
        config.require_ems = true;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    pub(crate) fn roots(&self) -> Result<RootCertStore, TlsSetupError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.trusted()? {
            roots.add(certificate)?;
        }
        Ok(roots)
    }
}
