//! Key exchange: X25519, then BLAKE2b-512 over the shared secret and both public keys.

use std::fmt;

use libsodium_rs::{crypto_kx, ensure_init};

use super::stream::{Inbound, Outbound};
use crate::SealError;

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
    /// The peer sent something that is no point of P-256 (SEC 1 section 3.2.2.1; AES-GCM only).
    #[error(
        "public key of the peer: its {found} bytes are no point of P-256, expected an uncompressed one of {} \
        bytes: both ends have to use OpenZiti's AES-GCM method, or neither",
        super::POINT_LENGTH
    )]
    Point {
        /// Bytes received.
        found: usize,
    },
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors computed by an implementation of the construction that shares no code with libsodium,
    /// from the documents: RFC 7748 (X25519), RFC 7693 (BLAKE2b), RFC 8439 (ChaCha20 and Poly1305),
    /// draft-irtf-cfrg-xchacha (HChaCha20) and libsodium's documentation of the secret stream.
    /// The dialer's secret key is 01 02 .. 20; the host's is Bob's of RFC 7748 section 6.1.
    mod vector {
        pub(super) const HOST_SECRET: &str =
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
        pub(super) const HOST_PUBLIC: &str =
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
        pub(super) const DIALER_PUBLIC: &str =
            "07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c";
        pub(super) const TO_HOST_KEY: &str =
            "28854ccec50e6b1760ee994c53660c92920f7a1158f38c5ab0dcc245d28fff37";
        pub(super) const TO_DIALER_KEY: &str =
            "0526be90960bafe1d0c745180af602004437e090e4950c649620397badf3e01f";
        /// The header, then three records: a request line, the bytes 0 to 99, one letter.
        pub(super) const TO_HOST: [&str; 4] = [
            "404142434445464748494a4b4c4d4e4f5051525354555657",
            "828d4d7558549e57655a6684bb7068b5c62340f2bc9f7ccca742fb28dba865f2bdc98e",
            "ac7e122aaa5b26ed2ee5ac944e43ce02204ffc57e2a5b69597cd3d53e4af5ddba5db61ced9831c6ec6d9\
             37a74a4afa891f733b82d9d44150b497cfa6c47b850e27c53b1520981396c28371e2d4fca1d3f1b993b8\
             eab82bf6ae9f07d6c279529fc81d367e59a5fac557830c5c492c99746ed746bd8a",
            "d6635d99c50b2380a4eb09b6a4afbd8097c3",
        ];
        /// The header, then one record: a status line.
        pub(super) const TO_DIALER: [&str; 2] = [
            "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7",
            "28b8aff532fd87253710dda29c5927fac4a618dde78b5d122d57b76b51a2cab05ca8cd9665a1f831b155\
             e3a7",
        ];
    }

    #[test]
    fn session_keys_match_the_documented_construction() {
        let (dialer, host) = vector_pairs();

        let at_dialer = dialer.dialer_keys(host.public_key()).unwrap();
        let at_host = host.host_keys(dialer.public_key()).unwrap();

        assert_eq!(at_dialer.0.tx.to_vec(), hex(vector::TO_HOST_KEY));
        assert_eq!(at_dialer.0.rx.to_vec(), hex(vector::TO_DIALER_KEY));
        assert_eq!(at_host.0.rx, at_dialer.0.tx);
        assert_eq!(at_host.0.tx, at_dialer.0.rx);
    }

    #[test]
    fn records_of_an_independent_implementation_open() {
        let (dialer, host) = vector_pairs();
        let (_, mut at_host) = host.host_keys(dialer.public_key()).unwrap().into_streams().unwrap();
        let (_, mut at_dialer) =
            dialer.dialer_keys(host.public_key()).unwrap().into_streams().unwrap();

        let to_host = vector::TO_HOST.map(|message| at_host.open(&hex(message)).unwrap());
        let to_dialer = vector::TO_DIALER.map(|message| at_dialer.open(&hex(message)).unwrap());

        assert_eq!(
            to_host,
            [
                None,
                Some(b"GET / HTTP/1.1\r\n\r\n".to_vec()),
                Some((0..100).collect()),
                Some(b"x".to_vec())
            ]
        );
        assert_eq!(to_dialer, [None, Some(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())]);
    }

    #[test]
    fn two_dialers_of_one_host_get_different_keys() {
        let host = KeyPair::generate().unwrap();
        let [first, second] = [(); 2].map(|()| {
            let dialer = KeyPair::generate().unwrap();
            dialer.dialer_keys(host.public_key()).unwrap().0.tx
        });

        assert_ne!(first, second);
    }

    #[test]
    fn point_of_small_order_is_refused_as_public_key() {
        let pair = KeyPair::generate().unwrap();
        let zero = PublicKey::from([0; PUBLIC_KEY_LENGTH]);

        assert_eq!(pair.dialer_keys(&zero).unwrap_err(), KeyExchangeError::WeakPublicKey);
        assert_eq!(pair.host_keys(&zero).unwrap_err(), KeyExchangeError::WeakPublicKey);
    }

    #[test]
    fn public_key_of_another_length_is_refused() {
        for length in [0, 31, 33, 65] {
            assert_eq!(
                PublicKey::try_from(vec![9; length].as_slice()),
                Err(KeyExchangeError::PublicKeyLength { found: length })
            );
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let (dialer, host) = vector_pairs();
        let keys = dialer.dialer_keys(host.public_key()).unwrap();

        assert_eq!(format!("{keys:?}"), "SessionKeys { .. }");
        assert!(!format!("{dialer:?}").contains("secret"));
    }

    fn vector_pairs() -> (KeyPair, KeyPair) {
        let dialer_secret: Vec<u8> = (1..=32).collect();
        (
            pair(&hex(vector::DIALER_PUBLIC), &dialer_secret),
            pair(&hex(vector::HOST_PUBLIC), &hex(vector::HOST_SECRET)),
        )
    }

    fn pair(public: &[u8], secret: &[u8]) -> KeyPair {
        KeyPair {
            public: PublicKey::try_from(public).unwrap(),
            secret: crypto_kx::SecretKey::from_bytes(secret).unwrap(),
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }
}
