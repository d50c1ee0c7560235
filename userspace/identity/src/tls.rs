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

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    use rustls::{ClientConnection, Connection, HandshakeKind, NamedGroup, ServerConnection};

    use super::*;

    const NAME: &str = "router.example";
    const ALPN: &[u8] = b"test";

    /// An identity that may be client and server.
    fn identity() -> Identity {
        let (authority, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let trusted = params.self_signed(&authority).unwrap().pem();
        let issuer = Issuer::new(params, authority);
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "r1");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        let controller = "https://ctrl.example:443".into();
        Identity::new(controller, key.serialize_pem(), certificate, trusted).unwrap()
    }

    /// Moves what one end has to say to the other.
    fn pass(from: &mut Connection, to: &mut Connection) {
        let mut wire = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            to.read_tls(&mut wire).unwrap();
            to.process_new_packets().unwrap();
        }
    }

    #[test]
    fn two_ends_agree_on_a_hybrid_key_exchange_in_one_round_trip() {
        let identity = identity();
        let client = identity.client_config(&[ALPN]).unwrap();
        let trust = ClientTrust::new(&identity).unwrap();
        let server = identity.server_config(trust, &[ALPN], OldestTls::default()).unwrap();
        let name = NAME.try_into().unwrap();
        let mut client: Connection = ClientConnection::new(client.into(), name).unwrap().into();
        let mut server: Connection = ServerConnection::new(server.into()).unwrap().into();
        while client.is_handshaking() || server.is_handshaking() {
            pass(&mut client, &mut server);
            pass(&mut server, &mut client);
        }
        for end in [&client, &server] {
            let group = end.negotiated_key_exchange_group().map(|group| group.name());
            assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
            assert_eq!(end.handshake_kind(), Some(HandshakeKind::Full), "no hello was retried");
            assert!(end.peer_certificates().is_some_and(|chain| !chain.is_empty()));
        }
    }
}
