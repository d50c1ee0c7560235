//! Key exchange: X25519, then BLAKE2b-512 over the shared secret and both public keys.

use std::fmt;

use libsodium_rs::{crypto_kx, ensure_init};

use crate::stream::{Inbound, Outbound, SealError};

/// Bytes of a public key (RFC 7748 section 6.1; `crypto_kx_PUBLICKEYBYTES`).
pub const PUBLIC_KEY_LENGTH: usize = 32;

/// An X25519 public key, as it travels in the `PublicKey` header (1003).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PublicKey([u8; PUBLIC_KEY_LENGTH]);

/// An X25519 key pair. The secret half is wiped from memory when dropped.
pub struct KeyPair {
    public: PublicKey,
    secret: crypto_kx::SecretKey,
}

/// The two keys of one circuit, one per direction, as one end of it holds them.
pub struct SessionKeys(crypto_kx::SessionKeys);

/// A key exchange that could not be done.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyExchangeError {
    /// libsodium could not start: the system has no source of randomness.
    #[error("key exchange: libsodium failed to initialize, expected a source of randomness")]
    Library,
    /// The peer sent something that is no public key.
    #[error("public key of the peer: found {found} bytes, expected {PUBLIC_KEY_LENGTH}")]
    PublicKeyLength {
        /// Bytes received.
        found: usize,
    },
    /// The peer sent a point of small order, which would make the shared secret predictable
    /// (RFC 7748 section 6.1: the all-zero check).
    #[error("public key of the peer: it is a point of small order, expected a random point")]
    WeakPublicKey,
}

impl PublicKey {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_LENGTH] {
        &self.0
    }
}

impl From<[u8; PUBLIC_KEY_LENGTH]> for PublicKey {
    fn from(bytes: [u8; PUBLIC_KEY_LENGTH]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = KeyExchangeError;

    fn try_from(bytes: &[u8]) -> Result<Self, KeyExchangeError> {
        <[u8; PUBLIC_KEY_LENGTH]>::try_from(bytes)
            .map(Self)
            .map_err(|_length| KeyExchangeError::PublicKeyLength { found: bytes.len() })
    }
}

impl KeyPair {
    /// Makes a fresh random key pair.
    ///
    /// # Errors
    /// The system has no source of randomness.
    pub fn generate() -> Result<Self, KeyExchangeError> {
        ensure_init().map_err(|_cause| KeyExchangeError::Library)?;
        let pair = crypto_kx::KeyPair::generate().map_err(|_cause| KeyExchangeError::Library)?;
        Ok(Self { public: PublicKey(pair.public_key.into()), secret: pair.secret_key })
    }

    /// The half to send to the peer.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Computes the session keys of the end that dials (the key exchange's client).
    ///
    /// # Errors
    /// The host's public key is a point of small order.
    pub fn dialer_keys(&self, host: &PublicKey) -> Result<SessionKeys, KeyExchangeError> {
        crypto_kx::client_session_keys(&self.public.0.into(), &self.secret, &host.0.into())
            .map(SessionKeys)
            .map_err(|_cause| KeyExchangeError::WeakPublicKey)
    }

    /// Computes the session keys of the end that hosts (the key exchange's server).
    ///
    /// # Errors
    /// The dialer's public key is a point of small order.
    pub fn host_keys(&self, dialer: &PublicKey) -> Result<SessionKeys, KeyExchangeError> {
        crypto_kx::server_session_keys(&self.public.0.into(), &self.secret, &dialer.0.into())
            .map(SessionKeys)
            .map_err(|_cause| KeyExchangeError::WeakPublicKey)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

impl SessionKeys {
    /// Opens the two secret streams of the circuit.
    ///
    /// # Errors
    /// libsodium refused to start the outbound stream.
    pub fn into_streams(self) -> Result<(Outbound, Inbound), SealError> {
        Ok((Outbound::new(self.0.tx)?, Inbound::new(self.0.rx)))
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKeys").finish_non_exhaustive()
    }
}
