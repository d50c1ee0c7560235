//! What travels in a circuit's messages: sealed records where the service demands encryption, plain
//! bytes where it does not.

use bytes::{Bytes, BytesMut};
use nightgate_e2ee::{
    Inbound, KeyExchangeError, KeyPair, Outbound, PublicKey, RecordError, SealError, SessionKeys,
};

use crate::intercept::Encryption;

/// Plaintext bytes of one message at most; OpenZiti's SDKs merge writes up to this size.
pub const MAX_PLAINTEXT: usize = 31 * 1024;

/// One end's part of the key exchange, before the other end's is known.
#[derive(Debug)]
pub enum Offer {
    /// A fresh key pair.
    Encrypted(KeyPair),
    /// Nothing is offered: the service is not encrypted.
    Plain,
}

/// The sending half of a protected circuit.
#[derive(Debug)]
pub enum Sealer {
    /// Each message is one record.
    Encrypted(Box<Outbound>),
    /// Messages carry the bytes as they are.
    Plain,
}

/// The receiving half of a protected circuit.
#[derive(Debug)]
pub enum Opener {
    /// Each message is one record.
    Encrypted(Box<Inbound>),
    /// Messages carry the bytes as they are.
    Plain,
}

/// Two ends that cannot agree on how to protect their circuit.
#[derive(Debug, thiserror::Error)]
pub enum ProtectionError {
    /// The service must be encrypted and the peer sent no key, or the other way round.
    #[error("the peer sent a public key of {found} bytes, expected {expected}")]
    PeerKey {
        /// Bytes received.
        found: usize,
        /// What the service's settings ask for.
        expected: &'static str,
    },
    /// The keys do not fit.
    #[error(transparent)]
    Exchange(#[from] KeyExchangeError),
    /// The outbound stream could not be started.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Offer {
    /// Makes what a service needs.
    ///
    /// # Errors
    /// The system has no source of randomness.
    pub fn new(encryption: Encryption) -> Result<Self, KeyExchangeError> {
        Ok(match encryption {
            Encryption::Required => Self::Encrypted(KeyPair::generate()?),
            Encryption::Off => Self::Plain,
        })
    }

    /// What to send to the peer; empty for nothing.
    pub fn public_key(&self) -> Bytes {
        match self {
            Self::Encrypted(keys) => Bytes::copy_from_slice(keys.public_key().as_bytes()),
            Self::Plain => Bytes::new(),
        }
    }

    /// Completes the exchange at the end that dialed, with what the host sent.
    ///
    /// # Errors
    /// The host's key is missing, unexpected or weak.
    pub fn as_dialer(&self, peer_key: &[u8]) -> Result<(Sealer, Opener), ProtectionError> {
        self.complete(peer_key, KeyPair::dialer_keys)
    }

    /// Completes the exchange at the end that hosts, with what the dialer sent.
    ///
    /// # Errors
    /// The dialer's key is missing, unexpected or weak.
    pub fn as_host(&self, peer_key: &[u8]) -> Result<(Sealer, Opener), ProtectionError> {
        self.complete(peer_key, KeyPair::host_keys)
    }

    fn complete(
        &self,
        peer_key: &[u8],
        agree: impl FnOnce(&KeyPair, &PublicKey) -> Result<SessionKeys, KeyExchangeError>,
    ) -> Result<(Sealer, Opener), ProtectionError> {
        match self {
            Self::Encrypted(_) if peer_key.is_empty() => Err(ProtectionError::PeerKey {
                found: 0,
                expected: "a key: the service must be encrypted end to end",
            }),
            Self::Encrypted(keys) => {
                let (outbound, inbound) =
                    agree(keys, &PublicKey::try_from(peer_key)?)?.into_streams()?;
                Ok((Sealer::Encrypted(Box::new(outbound)), Opener::Encrypted(Box::new(inbound))))
            }
            // The peer would encrypt what this end cannot read.
            Self::Plain if !peer_key.is_empty() => Err(ProtectionError::PeerKey {
                found: peer_key.len(),
                expected: "none: the service is not encrypted end to end",
            }),
            Self::Plain => Ok((Sealer::Plain, Opener::Plain)),
        }
    }
}

impl Sealer {
    /// What the first message must carry, if there is such a message.
    pub fn header(&self) -> Option<Bytes> {
        match self {
            Self::Encrypted(outbound) => Some(Bytes::copy_from_slice(&outbound.header())),
            Self::Plain => None,
        }
    }

    /// Makes one message of all of `plaintext`, which is empty afterwards.
    ///
    /// # Errors
    /// The record could not be sealed.
    pub fn seal(&mut self, plaintext: &mut BytesMut) -> Result<Bytes, SealError> {
        match self {
            Self::Encrypted(outbound) => {
                let record = outbound.seal(plaintext)?;
                plaintext.clear();
                Ok(record.into())
            }
            Self::Plain => Ok(plaintext.split().freeze()),
        }
    }
}

impl Opener {
    /// Takes the plaintext out of a message; empty if it carries none.
    ///
    /// # Errors
    /// The message is not what the peer sealed next.
    pub fn open(&mut self, message: Bytes) -> Result<Bytes, RecordError> {
        match self {
            Self::Encrypted(inbound) => inbound
                .open(&message)
                .map(|plaintext| plaintext.map(Bytes::from).unwrap_or_default()),
            Self::Plain => Ok(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encrypted_ends_understand_each_other_and_nobody_else_does() {
        let dialer = Offer::new(Encryption::Required).unwrap();
        let host = Offer::new(Encryption::Required).unwrap();
        let (mut sealer, _) = dialer.as_dialer(&host.public_key()).unwrap();
        let (_, mut opener) = host.as_host(&dialer.public_key()).unwrap();

        assert_eq!(opener.open(sealer.header().unwrap()).unwrap(), "");
        let sealed = sealer.seal(&mut BytesMut::from("marker")).unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"marker"));
        assert_eq!(opener.open(sealed).unwrap(), "marker");
    }

    #[test]
    fn plain_ends_pass_the_bytes_on() {
        let offer = Offer::new(Encryption::Off).unwrap();
        assert!(offer.public_key().is_empty());
        let (mut sealer, mut opener) = offer.as_host(&[]).unwrap();

        assert_eq!(sealer.header(), None);
        let message = sealer.seal(&mut BytesMut::from("hello")).unwrap();
        assert_eq!(opener.open(message).unwrap(), "hello");
    }

    #[test]
    fn a_peer_that_does_not_encrypt_is_refused_when_encryption_is_required() {
        let offer = Offer::new(Encryption::Required).unwrap();

        assert!(matches!(offer.as_dialer(&[]), Err(ProtectionError::PeerKey { found: 0, .. })));
        assert!(offer.as_host(&[1; 31]).is_err());
        assert!(offer.as_dialer(&[0; 32]).is_err());
    }

    #[test]
    fn a_peer_that_encrypts_is_refused_when_encryption_is_off() {
        let key = Offer::new(Encryption::Required).unwrap().public_key();

        assert!(Offer::Plain.as_host(&key).is_err());
    }
}
