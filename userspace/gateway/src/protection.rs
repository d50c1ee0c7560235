//! What travels in a circuit's messages: sealed records where the service demands encryption, plain
//! bytes where it does not.

use std::mem::take;

use bytes::Bytes;
use nightgate_e2ee::{
    AgreementError, Binding, EarlyOffer, EarlySecret, Own, Proposal, Protection, RecordError,
    SealError, Share,
};
use nightgate_router::KeyShare;

use crate::intercept::Encryption;

/// Bytes of one message that is not encrypted, at most; OpenZiti's SDKs merge writes up to this size.
const MAX_PLAIN: usize = 31 * 1024;

/// The dialing end's part of the agreement, before the host has answered.
#[derive(Debug)]
pub enum Offer {
    /// Fresh keys, for every method that this end knows.
    Encrypted {
        /// The keys.
        proposal: Box<Proposal>,
        /// What will do.
        encryption: Encryption,
        /// Data that goes with the dial: how many bytes, and sealed.
        early: Option<(usize, Bytes)>,
    },
    /// Nothing is offered: the service is not encrypted.
    Plain,
}

/// A circuit that both ends agree on how to protect.
#[derive(Debug)]
pub struct Protected {
    /// The sending half.
    pub sealer: Sealer,
    /// The receiving half.
    pub opener: Opener,
    /// Id of the peer's identity, if it has proven one.
    pub peer: Option<String>,
    /// At the dialer, how many bytes the host took with the dial.
    pub taken: usize,
    /// At the host, what it took with the dial.
    pub early_data: Bytes,
    /// What the circuit leaves for data that goes with a later dial, if it does.
    pub left: Option<EarlySecret>,
}

/// The sending half of a protected circuit.
#[derive(Debug)]
pub enum Sealer {
    /// Each message is one record.
    Encrypted(nightgate_e2ee::Sealer),
    /// Messages carry the bytes as they are.
    Plain,
}

/// The receiving half of a protected circuit.
#[derive(Debug)]
pub enum Opener {
    /// Each message is one record.
    Encrypted(nightgate_e2ee::Opener),
    /// Messages carry the bytes as they are.
    Plain,
}

/// Two ends that cannot agree on how to protect their circuit.
#[derive(Debug, thiserror::Error)]
pub enum ProtectionError {
    /// The service is not encrypted, but the peer would encrypt.
    #[error("the peer sent a key, expected none: the service is not encrypted end to end")]
    Unexpected,
    /// The keys do not fit, are missing, or prove no identity.
    #[error(transparent)]
    Agreement(#[from] AgreementError),
    /// The peer proves no identity, which the service demands.
    #[error(
        "the peer proved no identity, which end-to-end.v1 of the service demands: it does not speak our \
        end-to-end encryption, or a router on the path suppressed it"
    )]
    NotNative,
    /// The peer is somebody else than it should be.
    #[error("the peer proved to be identity {found}, {expected}")]
    Peer {
        /// Who it is.
        found: String,
        /// Who it should be.
        expected: String,
    },
}

impl Offer {
    /// Makes what a service needs.
    ///
    /// # Errors
    /// The system has no source of randomness, or the own key does not sign.
    pub fn new(
        encryption: Encryption,
        own: Option<Own>,
        binding: Binding<'_>,
    ) -> Result<Self, ProtectionError> {
        let proposal = match encryption {
            Encryption::Required | Encryption::Native => Proposal::new(own, binding)?,
            Encryption::AesGcm => Proposal::aes_gcm(own, binding)?,
            Encryption::Off => return Ok(Self::Plain),
        };
        Ok(Self::Encrypted { proposal: Box::new(proposal), encryption, early: None })
    }

    /// Id of the host with whom the earlier handshake was that this rests on, if it does; the host that is reached may not
    /// know of it.
    pub fn resumed_peer(&self) -> Option<&str> {
        match self {
            Self::Encrypted { proposal, .. } => proposal.resumed_peer().map(|peer| &peer.id[..]),
            Self::Plain => None,
        }
    }

    /// Lets the beginning of what the client has to say go with the dial, if this rests on an earlier handshake, or else
    /// an earlier circuit has left a secret for it.
    ///
    /// # Errors
    /// The record could not be sealed.
    pub fn carry_first(
        &mut self,
        secret: Option<EarlySecret>,
        first: &[u8],
        app_data: &[u8],
    ) -> Result<(), ProtectionError> {
        if let Self::Encrypted { proposal, early, .. } = self {
            let sealed = proposal.seal_early(secret, (first, app_data))?;
            *early = sealed.map(|(length, sealed)| (length, sealed.into()));
        }
        Ok(())
    }

    /// The host did not know of the earlier handshake: the next offers for the service rest on none.
    pub fn missed(self) {
        if let Self::Encrypted { proposal, .. } = self {
            proposal.missed();
        }
    }

    /// What to send to the host.
    pub fn key_share(&self) -> KeyShare {
        match self {
            Self::Encrypted { proposal, early, .. } => {
                let sealed = early.as_ref().map(|(_, sealed)| sealed.clone());
                let early_data = sealed.unwrap_or_default();
                KeyShare { early_data, ..key_share(proposal.share()) }
            }
            Self::Plain => KeyShare::default(),
        }
    }

    /// Completes the agreement with what the host sent.
    ///
    /// # Errors
    /// The host's key is missing, unexpected or weak, or its handshake proves no identity.
    pub fn complete(self, host: &KeyShare) -> Result<Protected, ProtectionError> {
        match self {
            Self::Encrypted { mut proposal, encryption, early } => {
                let taken = early.filter(|_| !host.early_data.is_empty()).map_or(0, |it| it.0);
                if taken > 0 {
                    proposal.early_taken();
                }
                let protection = proposal.complete(&host.public_key, &host.handshake)?;
                Protected { taken, ..Protected::from(protection) }.admitted(encryption)
            }
            Self::Plain => Protected::plain(host),
        }
    }
}

impl Protected {
    /// The hosting end's part of the agreement, at once: what to send to the dialer, and what comes of
    /// it. Takes data that came with the dial if it can.
    ///
    /// # Errors
    /// The dialer's key is missing, unexpected or weak, or its handshake proves no identity.
    pub fn answer(
        encryption: Encryption,
        own: Option<&Own>,
        binding: Binding<'_>,
        (dialer, early): (&KeyShare, Option<EarlyOffer<'_>>),
    ) -> Result<(KeyShare, Self), ProtectionError> {
        match encryption {
            Encryption::Off => Ok((KeyShare::default(), Self::plain(dialer)?)),
            Encryption::Required | Encryption::AesGcm | Encryption::Native => {
                let (key, handshake) = (&dialer.public_key, &dialer.handshake);
                let (share, protection) =
                    Protection::answer_early(None, own, binding, key, (handshake, early))?;
                let took = if protection.early_data.is_some() { &[1][..] } else { &[] };
                let share = KeyShare { early_data: Bytes::from_static(took), ..key_share(share) };
                Ok((share, Self::from(protection).admitted(encryption)?))
            }
        }
    }

    /// Refuses a peer that proves no identity where it has to.
    fn admitted(self, encryption: Encryption) -> Result<Self, ProtectionError> {
        match (encryption, &self.peer) {
            (Encryption::Native, None) => Err(ProtectionError::NotNative),
            (_, _) => Ok(self),
        }
    }

    fn plain(peer: &KeyShare) -> Result<Self, ProtectionError> {
        // The peer would encrypt what this end cannot read.
        if *peer != KeyShare::default() {
            return Err(ProtectionError::Unexpected);
        }
        Ok(Self {
            sealer: Sealer::Plain,
            opener: Opener::Plain,
            peer: None,
            taken: 0,
            early_data: Bytes::new(),
            left: None,
        })
    }
}

impl From<Protection> for Protected {
    fn from(protection: Protection) -> Self {
        Self {
            sealer: Sealer::Encrypted(protection.sealer),
            opener: Opener::Encrypted(protection.opener),
            peer: protection.peer.map(|peer| peer.id),
            taken: 0,
            early_data: protection.early_data.map_or_else(Bytes::new, Bytes::from),
            left: protection.early,
        }
    }
}

fn key_share(share: Share) -> KeyShare {
    KeyShare {
        public_key: share.public_key.into(),
        handshake: share.handshake.into(),
        ..KeyShare::default()
    }
}

impl Sealer {
    /// What the first message must carry, if there is such a message.
    pub fn header(&self) -> Option<Bytes> {
        match self {
            Self::Encrypted(sealer) => sealer.header().map(|it| Bytes::copy_from_slice(&it)),
            Self::Plain => None,
        }
    }

    /// Plaintext bytes of one message at most.
    pub fn max_plaintext(&self) -> usize {
        match self {
            Self::Encrypted(sealer) => sealer.max_plaintext(),
            Self::Plain => MAX_PLAIN,
        }
    }

    /// Makes the body of one message, which will carry these flags, of all of `plaintext`, which is
    /// empty afterwards.
    ///
    /// # Errors
    /// The record could not be sealed.
    pub fn seal(&mut self, plaintext: &mut Vec<u8>, flags: u32) -> Result<Bytes, SealError> {
        let fills = plaintext.len() >= plaintext.capacity() / 2;
        let body = match self {
            Self::Encrypted(sealer) if fills => sealer.seal_in_place(take(plaintext), flags)?,
            // A message that waits for its acknowledgement keeps no more memory than it needs.
            Self::Encrypted(sealer) => sealer.seal(plaintext, flags)?,
            Self::Plain if fills => take(plaintext),
            Self::Plain => plaintext.to_vec(),
        };
        plaintext.clear();
        Ok(body.into())
    }

    /// Bytes of room behind a plaintext that save a copy when it is sealed.
    pub fn overhead(&self) -> usize {
        match self {
            Self::Encrypted(sealer) => sealer.overhead(),
            Self::Plain => 0,
        }
    }
}

impl Opener {
    /// Takes the plaintext out of a message that carried these flags; empty if it carries none.
    ///
    /// # Errors
    /// The message is not what the peer sealed next.
    pub fn open(&mut self, message: Bytes, flags: u32) -> Result<Bytes, RecordError> {
        match self {
            Self::Encrypted(opener) => open(opener, message, flags),
            Self::Plain => Ok(message),
        }
    }

    /// To be asked when the circuit is over: whether the peer's stream is complete, as far as can be
    /// told.
    ///
    /// # Errors
    /// The stream was cut.
    pub fn finish(&self) -> Result<(), RecordError> {
        match self {
            Self::Encrypted(opener) => opener.finish(),
            Self::Plain => Ok(()),
        }
    }
}

/// Opens a message, where it is if nobody else has it.
fn open(
    opener: &mut nightgate_e2ee::Opener,
    message: Bytes,
    flags: u32,
) -> Result<Bytes, RecordError> {
    let message = match message.try_into_mut() {
        Ok(mut record) => match opener.open_in_place(&mut record, flags) {
            Some(length) => {
                record.truncate(length?);
                return Ok(record.freeze());
            }
            None => record.freeze(),
        },
        Err(shared) => shared,
    };
    Ok(opener.open(&message, flags)?.map(Bytes::from).unwrap_or_default())
}

#[cfg(test)]
mod tests;
