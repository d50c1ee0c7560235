//! One interface to both methods: agree on one, then seal and open.

use std::{sync::Arc, time::Instant};

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

/// Bytes that the kernel gives out at once when it has put segments together (GRO_MAX_SIZE of Linux 6.18), less what a
/// record and its frames add.
const MAX_NATIVE_PLAINTEXT: usize = 64 * 1024 - 256;

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

impl From<Arc<Credentials>> for Own {
    /// Keeps nothing for later circuits.
    fn from(credentials: Arc<Credentials>) -> Self {
        Self { credentials, lines: None }
    }
}

/// The dialer's side of an agreement, while the host has not answered.
pub struct Proposal {
    /// For OpenZiti's methods; none if this rests on an earlier handshake, which the host then needs to know of.
    keys: Option<Keys>,
    native: Option<Native>,
}

/// The dialer's share in the native method.
struct Native {
    dialing: native::Dialing,
    own: Own,
    service: String,
    instance: String,
}

/// The dialer's share in a method of OpenZiti's.
enum Keys {
    X25519(KeyPair),
    P256(PointPair),
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
    /// For data that goes with a later dial; none with OpenZiti's methods.
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

impl Proposal {
    /// Proposes OpenZiti's method and, with credentials, the native one; or to rest on an earlier handshake with a host of
    /// this service ([`Self::is_resumed`]).
    ///
    /// # Errors
    /// The system has no source of randomness, or the credentials' key does not sign.
    pub fn new(own: Option<Own>, binding: Binding<'_>) -> Result<Self, AgreementError> {
        match Self::resumed(own.as_ref(), binding) {
            Some(resumed) => Ok(resumed),
            None => Self::with(Keys::X25519(KeyPair::generate()?), own, binding),
        }
    }

    /// Proposes OpenZiti's method in the form for hosts started with AES-GCM and, with credentials, the
    /// native one, as [`Self::new`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn aes_gcm(own: Option<Own>, binding: Binding<'_>) -> Result<Self, AgreementError> {
        match Self::resumed(own.as_ref(), binding) {
            Some(resumed) => Ok(resumed),
            None => Self::with(Keys::P256(PointPair::generate()?), own, binding),
        }
    }

    fn resumed(own: Option<&Own>, binding: Binding<'_>) -> Option<Self> {
        let own = own?;
        let turn = own.lines.as_ref()?.turn(binding, Instant::now())?;
        let native = Native::new(native::Dialing::resume(turn, binding), own.clone(), binding);
        Some(Self { keys: None, native: Some(native) })
    }

    fn with(keys: Keys, own: Option<Own>, binding: Binding<'_>) -> Result<Self, AgreementError> {
        let native = own
            .map(|own| {
                let offered = (Cipher::offered_here(), own.lines.is_some());
                let key = keys.public_key();
                native::Dialing::start(&own.credentials, offered, binding, key)
                    .map(|dialing| Native::new(dialing, own, binding))
            })
            .transpose()?;
        Ok(Self { keys: Some(keys), native })
    }

    /// Whether this rests on an earlier handshake with a host of this service. A host that does not know of it, or no
    /// longer, refuses; then tell [`Self::missed`], and propose anew.
    pub fn is_resumed(&self) -> bool {
        self.native.as_ref().is_some_and(|native| native.dialing.is_resumed())
    }

    /// The host refused: for a while, proposals for this service rest on no earlier handshake.
    pub fn missed(self) {
        if let Some(Native { own: Own { lines: Some(lines), .. }, service, instance, .. }) =
            self.native
        {
            lines.missed(&service, &instance, Instant::now());
        }
    }

    /// What to send to the host.
    pub fn share(&self) -> Share {
        Share {
            public_key: self.keys.as_ref().map_or_else(Vec::new, |keys| keys.public_key().to_vec()),
            handshake: self
                .native
                .as_ref()
                .map_or_else(Vec::new, |native| native.dialing.offer().to_vec()),
        }
    }

    /// Seals what goes with the dial, under what an earlier circuit to the host has left; none if the native method is not
    /// proposed.
    ///
    /// # Errors
    /// `plaintext` is too long for one record.
    pub fn seal_early(
        &mut self,
        secret: EarlySecret,
        plaintext: &[u8],
    ) -> Result<Option<Vec<u8>>, AgreementError> {
        let Some(native) = &mut self.native else { return Ok(None) };
        Ok(Some(native.dialing.seal_early(secret, plaintext)?.to_vec()))
    }

    /// The host says that it took what went with the dial: to be told before [`Self::complete`]. If it did not, what
    /// the ends seal from now on cannot be opened.
    pub fn early_taken(&mut self) {
        if let Some(native) = &mut self.native {
            native.dialing.early_taken();
        }
    }

    /// Completes the agreement with what the host sent. A host that does not know the native method
    /// leads to OpenZiti's: the caller decides by [`Protection::method`] whether that will do.
    ///
    /// # Errors
    /// The host sent no key, a weak one, or an answer that is not its answer to this proposal.
    pub fn complete(
        self,
        public_key: &[u8],
        handshake: &[u8],
    ) -> Result<Protection, AgreementError> {
        match (self.native, self.keys) {
            (Some(native), _) if !handshake.is_empty() => native.complete(handshake),
            (_, None) => Err(AgreementError::NoKey),
            (_, Some(_)) if public_key.is_empty() => Err(AgreementError::NoKey),
            (_, Some(Keys::X25519(keys))) => {
                Protection::open_ziti(keys.dialer_keys(&PublicKey::try_from(public_key)?)?)
            }
            (_, Some(Keys::P256(keys))) => {
                Ok(Protection::aes_gcm(keys.dialer_directions(public_key)?))
            }
        }
    }
}

impl Native {
    fn new(dialing: native::Dialing, own: Own, binding: Binding<'_>) -> Self {
        let Binding { service, instance, .. } = binding;
        Self { dialing, own, service: service.to_owned(), instance: instance.to_owned() }
    }

    fn complete(self, answer: &[u8]) -> Result<Protection, AgreementError> {
        let Self { dialing, own, service, instance } = self;
        let now = Now::read();
        let mut agreed = dialing.finish(&own.credentials, answer, now)?;
        if let (Some(lines), Some(line)) = (&own.lines, agreed.line.take()) {
            lines.keep_dialing(&service, &instance, line, now.instant);
        }
        Ok(agreed.into())
    }
}

impl Keys {
    fn public_key(&self) -> &[u8] {
        match self {
            Self::X25519(keys) => keys.public_key().as_bytes(),
            Self::P256(keys) => keys.public_key(),
        }
    }
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
    /// so ([`Proposal::early_taken`]).
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

    fn open_ziti(keys: SessionKeys) -> Result<Self, AgreementError> {
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

    fn aes_gcm([outbound, inbound]: [Direction; 2]) -> Self {
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
            early: Some(early),
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

impl std::fmt::Debug for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proposal").field("native", &self.native.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod early_tests;
#[cfg(test)]
mod resumed_tests;
#[cfg(test)]
mod tests;
