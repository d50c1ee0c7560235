//! Keys of a connection, which rustls derives, and its ciphers with them.

use rustls::{
    ConnectionTrafficSecrets, Error, HandshakeType, ProtocolVersion, SupportedCipherSuite,
    client::ClientConnectionData,
    crypto::cipher::{AeadKey, Iv, MessageDecrypter, MessageEncrypter},
    kernel::KernelConnection,
    server::ServerConnectionData,
};

/// What rustls keeps of a connection after its handshake.
pub(crate) enum Keys {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Keys {
    pub(crate) fn is_tls13(&self) -> bool {
        let version = match self {
            Self::Client(keys) => keys.protocol_version(),
            Self::Server(keys) => keys.protocol_version(),
        };
        version == ProtocolVersion::TLSv1_3
    }

    fn suite(&self) -> SupportedCipherSuite {
        match self {
            Self::Client(keys) => keys.negotiated_cipher_suite(),
            Self::Server(keys) => keys.negotiated_cipher_suite(),
        }
    }

    /// Records that one key may protect (`CipherSuiteCommon::confidentiality_limit`).
    pub(crate) fn limit(&self) -> u64 {
        match self.suite() {
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
        }
    }

    /// Keeps a ticket for a later connection (RFC 8446 section 4.6.1). Servers are sent none.
    pub(crate) fn keep_ticket(&mut self, ticket: &[u8]) -> Result<(), Error> {
        match self {
            Self::Client(keys) => keys.handle_new_session_ticket(ticket),
            Self::Server(_) => Err(Error::InappropriateHandshakeMessage {
                expect_types: vec![HandshakeType::KeyUpdate],
                got_type: HandshakeType::NewSessionTicket,
            }),
        }
    }

    /// What opens the records after the next key update.
    pub(crate) fn next_decrypter(&mut self) -> Result<Box<dyn MessageDecrypter>, Error> {
        let (_, secrets) = match self {
            Self::Client(keys) => keys.update_rx_secret()?,
            Self::Server(keys) => keys.update_rx_secret()?,
        };
        self.decrypter(secrets)
    }

    /// What seals the records after the next key update.
    pub(crate) fn next_encrypter(&mut self) -> Result<Box<dyn MessageEncrypter>, Error> {
        let (_, secrets) = match self {
            Self::Client(keys) => keys.update_tx_secret()?,
            Self::Server(keys) => keys.update_tx_secret()?,
        };
        self.encrypter(secrets)
    }

    pub(crate) fn decrypter(
        &self,
        secrets: ConnectionTrafficSecrets,
    ) -> Result<Box<dyn MessageDecrypter>, Error> {
        let (key, iv) = parts(secrets)?;
        Ok(match self.suite() {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
            SupportedCipherSuite::Tls12(suite) => {
                let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
                suite.aead_alg.decrypter(key, &iv.as_ref()[..fixed])
            }
        })
    }

    pub(crate) fn encrypter(
        &self,
        secrets: ConnectionTrafficSecrets,
    ) -> Result<Box<dyn MessageEncrypter>, Error> {
        let (key, iv) = parts(secrets)?;
        Ok(match self.suite() {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
            SupportedCipherSuite::Tls12(suite) => {
                let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
                let (fixed, explicit) = iv.as_ref().split_at(fixed);
                suite.aead_alg.encrypter(key, fixed, explicit)
            }
        })
    }
}

fn parts(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("a cipher that is not known here".to_owned())),
    }
}
