//! One interface to both methods: the host's side of an agreement on one, then seal and open.

use std::sync::Arc;

use nightgate_identity::{Credentials, ProvenIdentity};

use crate::{
    RecordError, SealError,
    native::{self, Binding, Cipher, EarlyOffer, EarlySecret, HandshakeError, Lines, Now},
    openziti::{
        Direction, HEADER_LENGTH, Inbound, KeyExchangeError, KeyPair, Outbound, POINT_LENGTH,
        PointPair, PublicKey, SessionKeys,
    },
};

/// Data flag (header 1010, OpenZiti's FIN): the message is the last of its direction.
pub const END: u32 = 1;

/// OpenZiti's SDKs merge writes up to this size, in bytes, and expect no more.
const MAX_OPENZITI_PLAINTEXT: usize = 31 * 1024;

/// Plaintext bytes of one message of [`Method::Native`] at most: what the kernel gives out at once when it has put segments
/// together (GRO_MAX_SIZE of Linux 6.18), less what a record and its frames add.
pub const MAX_NATIVE_PLAINTEXT: usize = 64 * 1024 - 256;

/// How a circuit is encrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// OpenZiti's: X25519 and XChaCha20-Poly1305. Proves nobody's identity; its end can be forged.
    OpenZiti,
    /// OpenZiti's, for clients started with it: P-256 and AES-256-GCM. Proves as little.
    AesGcm,
    /// Ours: X-Wing, this cipher, both identities proven, an authenticated end.
    Native(Cipher),
}

/// The ends of a circuit that cannot agree on keys.
#[derive(Debug, thiserror::Error)]
pub enum AgreementError {
    /// OpenZiti's key exchange failed.
    #[error(transparent)]
    KeyExchange(#[from] KeyExchangeError),
    /// The handshake of the native method failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The peer takes part in no method.
    #[error("the peer sent no key, but the service requires encryption")]
    NoKey,
    /// The first record could not be prepared.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What one end sends for an agreement.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Share {
    /// For OpenZiti's method; empty if it is not used.
    pub public_key: Vec<u8>,
    /// For the native method; empty if it is not used.
    pub handshake: Vec<u8>,
}

/// What an identity proves itself with, and what it keeps of that for later circuits.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its key and certificates.
    pub credentials: Arc<Credentials>,
    /// What its handshakes leave for later circuits with the same peers; none if each circuit is to have a handshake.
    pub lines: Option<Arc<Lines>>,
}

impl Own {
    /// Keeps what handshakes leave in `lines`.
    pub fn keeping(credentials: Arc<Credentials>, lines: &Arc<Lines>) -> Self {
        Self { credentials, lines: Some(Arc::clone(lines)) }
    }
}

impl From<Arc<Credentials>> for Own {
    /// Keeps nothing for later circuits.
    fn from(credentials: Arc<Credentials>) -> Self {
        Self { credentials, lines: None }
    }
}

/// Both directions of an encrypted circuit.
#[derive(Debug)]
pub struct Protection {
    /// Seals what goes out.
    pub sealer: Sealer,
    /// Opens what comes in.
    pub opener: Opener,
    /// The method the ends agreed on.
    pub method: Method,
    /// Who the peer proved to be; none with OpenZiti's methods.
    pub peer: Option<ProvenIdentity>,
    /// For data that goes with a later dial; none with OpenZiti's methods, and where the circuit rests on an earlier
    /// handshake.
    pub early: Option<EarlySecret>,
    /// At the host, what came with the dial and was taken.
    pub early_data: Option<Vec<u8>>,
}

/// The sealing half.
#[derive(Debug)]
pub struct Sealer(Sealing);

#[derive(Debug)]
enum Sealing {
    OpenZiti(Box<Outbound>),
    AesGcm(Box<Direction>),
    Native(Box<native::Sealing>),
}

/// The opening half.
#[derive(Debug)]
pub struct Opener(Opening);

#[derive(Debug)]
enum Opening {
    OpenZiti(Box<Inbound>),
    AesGcm(Box<Direction>),
    Native(Box<native::Opening>),
}

impl Protection {
    /// The host's side of an agreement, at once: takes the native method if the dialer proposes it
    /// and there are credentials, else OpenZiti's: with `keys` or, without, with fresh ones, in the form that the dialer's
    /// key belongs to. Returns what to answer.
    ///
    /// # Errors
    /// The dialer sent no key, a weak one, or a proposal that proves no identity.
    pub fn answer(
        keys: Option<&KeyPair>,
        own: Option<&Own>,
        binding: Binding<'_>,
        public_key: &[u8],
        handshake: &[u8],
    ) -> Result<(Share, Self), AgreementError> {
        Self::answer_early(keys, own, binding, public_key, (handshake, None))
    }

    /// As [`Self::answer`], and takes the data that came with the dial if its secret is there: the dialer has to be told
    /// so ([`crate::Proposal::early_taken`]).
    ///
    /// # Errors
    /// As for [`Self::answer`]. Data that cannot be taken is no error.
    pub fn answer_early(
        keys: Option<&KeyPair>,
        own: Option<&Own>,
        binding: Binding<'_>,
        public_key: &[u8],
        (handshake, early): (&[u8], Option<EarlyOffer<'_>>),
    ) -> Result<(Share, Self), AgreementError> {
        match own {
            Some(own) if !handshake.is_empty() && !native::is_of_another_version(handshake) => {
                Self::answer_native(own, binding, public_key, (handshake, early))
            }
            Some(_) | None if public_key.is_empty() => Err(AgreementError::NoKey),
            Some(_) | None if public_key.len() == POINT_LENGTH => {
                let keys = PointPair::generate()?;
                let agreed = keys.host_directions(public_key)?;
                let public_key = keys.public_key().to_vec();
                Ok((Share { public_key, handshake: Vec::new() }, Self::aes_gcm(agreed)))
            }
            Some(_) | None => match keys {
                Some(keys) => Self::answer_open_ziti(keys, public_key),
                None => Self::answer_open_ziti(&KeyPair::generate()?, public_key),
            },
        }
    }

    fn answer_native(
        own: &Own,
        binding: Binding<'_>,
        public_key: &[u8],
        offered: (&[u8], Option<EarlyOffer<'_>>),
    ) -> Result<(Share, Self), AgreementError> {
        let host = native::Host {
            credentials: &own.credentials,
            ciphers: Cipher::offered_here(),
            lines: own.lines.as_deref(),
        };
        let (handshake, mut agreed) =
            native::respond(&host, binding, public_key, offered, Now::read())?;
        if let (Some(lines), Some(line)) = (&own.lines, agreed.line.take()) {
            lines.keep_hosting(line);
        }
        Ok((Share { public_key: Vec::new(), handshake }, agreed.into()))
    }

    fn answer_open_ziti(
        keys: &KeyPair,
        public_key: &[u8],
    ) -> Result<(Share, Self), AgreementError> {
        let agreed = keys.host_keys(&PublicKey::try_from(public_key)?)?;
        let public_key = keys.public_key().as_bytes().to_vec();
        Ok((Share { public_key, handshake: Vec::new() }, Self::open_ziti(agreed)?))
    }

    pub(crate) fn open_ziti(keys: SessionKeys) -> Result<Self, AgreementError> {
        let (outbound, inbound) = keys.into_streams()?;
        Ok(Self {
            sealer: Sealer(Sealing::OpenZiti(Box::new(outbound))),
            opener: Opener(Opening::OpenZiti(Box::new(inbound))),
            method: Method::OpenZiti,
            peer: None,
            early: None,
            early_data: None,
        })
    }

    pub(crate) fn aes_gcm([outbound, inbound]: [Direction; 2]) -> Self {
        Self {
            sealer: Sealer(Sealing::AesGcm(Box::new(outbound))),
            opener: Opener(Opening::AesGcm(Box::new(inbound))),
            method: Method::AesGcm,
            peer: None,
            early: None,
            early_data: None,
        }
    }
}

impl From<native::Agreed> for Protection {
    fn from(agreed: native::Agreed) -> Self {
        let native::Agreed { cipher, peer, outbound, inbound, early, early_data, line: _ } = agreed;
        Self {
            sealer: Sealer(Sealing::Native(Box::new(native::Sealing::new(cipher, outbound)))),
            opener: Opener(Opening::Native(Box::new(native::Opening::new(cipher, inbound)))),
            method: Method::Native(cipher),
            peer: Some(peer),
            early,
            early_data,
        }
    }
}

impl Sealer {
    /// What the first message must carry alone, if the method has such a message.
    pub fn header(&self) -> Option<[u8; HEADER_LENGTH]> {
        match &self.0 {
            Sealing::OpenZiti(outbound) => Some(outbound.header()),
            Sealing::AesGcm(_) | Sealing::Native(_) => None,
        }
    }

    /// Plaintext bytes that one message should carry at most, so that the peer takes it.
    pub fn max_plaintext(&self) -> usize {
        match &self.0 {
            Sealing::OpenZiti(_) | Sealing::AesGcm(_) => MAX_OPENZITI_PLAINTEXT,
            Sealing::Native(_) => MAX_NATIVE_PLAINTEXT,
        }
    }

    /// Makes the body of one message that will carry these flags. Bodies must be sent in the order
    /// they are made. With OpenZiti's methods, flags are not authenticated and nothing stays nothing.
    ///
    /// # Errors
    /// `plaintext` is longer than 256 GiB, or the native method's last record was sealed before.
    pub fn seal(&mut self, plaintext: &[u8], flags: u32) -> Result<Vec<u8>, SealError> {
        match &mut self.0 {
            Sealing::OpenZiti(_) | Sealing::AesGcm(_) if plaintext.is_empty() => Ok(Vec::new()),
            Sealing::OpenZiti(outbound) => outbound.seal(plaintext),
            Sealing::AesGcm(outbound) => outbound.seal(plaintext),
            Sealing::Native(sealing) => sealing.seal(plaintext, flags),
        }
    }

    /// As [`Self::seal`], in the place of the plaintext if the method can. Room for [`Self::overhead`] more bytes saves a
    /// copy.
    ///
    /// # Errors
    /// As for [`Self::seal`].
    pub fn seal_in_place(&mut self, plaintext: Vec<u8>, flags: u32) -> Result<Vec<u8>, SealError> {
        match &mut self.0 {
            Sealing::OpenZiti(_) | Sealing::AesGcm(_) => self.seal(&plaintext, flags),
            Sealing::Native(sealing) => sealing.seal_in_place(plaintext, flags),
        }
    }

    /// Bytes that [`Self::seal_in_place`] adds to a plaintext.
    pub fn overhead(&self) -> usize {
        match &self.0 {
            Sealing::OpenZiti(_) | Sealing::AesGcm(_) => 0,
            Sealing::Native(sealing) => sealing.overhead(),
        }
    }
}

impl Opener {
    /// Opens the body of one message that carried these flags, in the order of arrival. Returns none
    /// for what carries no plaintext: OpenZiti's stream header and empty bodies.
    ///
    /// # Errors
    /// The message is not what the peer sealed next; see [`RecordError`].
    pub fn open(&mut self, body: &[u8], flags: u32) -> Result<Option<Vec<u8>>, RecordError> {
        match &mut self.0 {
            Opening::OpenZiti(inbound) => inbound.open(body),
            Opening::AesGcm(inbound) => inbound.open(body),
            Opening::Native(opening) => opening.open(body, flags).map(Some),
        }
    }

    /// As [`Self::open`] where the message is, and returns the length of the plaintext, with which it begins then; `None` if the
    /// method opens into other memory only.
    ///
    /// # Errors
    /// As for [`Self::open`]. What was in the message is lost then.
    pub fn open_in_place(
        &mut self,
        body: &mut [u8],
        flags: u32,
    ) -> Option<Result<usize, RecordError>> {
        match &mut self.0 {
            Opening::OpenZiti(_) | Opening::AesGcm(_) => None,
            Opening::Native(opening) => Some(opening.open_in_place(body, flags)),
        }
    }

    /// To be asked when the circuit is over: whether the stream is complete. OpenZiti's methods
    /// cannot tell and say yes.
    ///
    /// # Errors
    /// [`RecordError::Truncated`]: the peer did not end its stream. [`RecordError::Broken`]: a record
    /// was refused.
    pub fn finish(&self) -> Result<(), RecordError> {
        match &self.0 {
            Opening::OpenZiti(_) | Opening::AesGcm(_) => Ok(()),
            Opening::Native(opening) => opening.finish(),
        }
    }
}

#[cfg(test)]
mod early_tests;
#[cfg(test)]
mod resumed_tests;
#[cfg(test)]
mod tests;
