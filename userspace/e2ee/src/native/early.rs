//! Data that goes with a dial: sealed under a secret that an earlier circuit of the same two ends left to both, and that
//! is used once.
//!
//! Before the host has answered there are no keys of the new circuit. Those of its binding would be the same for every
//! dial: whoever took them from the host later could read what was sent before, and a router could repeat it. A secret
//! that both ends forget when they use it allows neither (RFC 8446, sections 2.3 and 8.1, has the same for TLS). A circuit on
//! a line ([`super::lines`]) has such a secret already, which both ends know by the offer itself.

use std::fmt;

use super::{
    cipher::Cipher,
    lines::Turn,
    record::{Opening, Sealing},
    schedule::{ID_LENGTH, TRANSCRIPT_LENGTH, TrafficSecret},
};
use crate::SealError;

/// Bytes of the name under which both ends know a secret.
pub const EARLY_ID_LENGTH: usize = ID_LENGTH;

/// Names a secret to the end that has it; says nothing about it.
pub type EarlyId = [u8; EARLY_ID_LENGTH];

/// What a circuit leaves to both of its ends, for data that goes with one later dial from the same dialer to the same
/// host.
pub struct EarlySecret {
    cipher: Cipher,
    secret: TrafficSecret,
    peer: String,
}

/// Data that came with an offer.
pub struct EarlyOffer<'a> {
    /// As it came.
    pub sealed: &'a [u8],
    /// Gives up the secret of this name, if it is there and was not used before. Not asked for a circuit on a line.
    pub take: &'a dyn Fn(&EarlyId) -> Option<EarlySecret>,
}

impl EarlySecret {
    pub(super) fn new(cipher: Cipher, secret: TrafficSecret, peer: &str) -> Self {
        Self { cipher, secret, peer: peer.to_owned() }
    }

    /// Id of the identity at the other end of the circuit that left it, as it had proven itself.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Its name.
    pub fn id(&self) -> EarlyId {
        self.secret.id()
    }

    /// Seals what goes with the offer of this transcript: the name, then one record.
    pub(super) fn seal(
        self,
        offered: &[u8; TRANSCRIPT_LENGTH],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let id = self.id();
        let record =
            Sealing::new(self.cipher, self.secret.for_offer(offered)).seal(plaintext, 0)?;
        Ok([&id[..], &record].concat())
    }

    fn open(self, offered: &[u8; TRANSCRIPT_LENGTH], record: &[u8]) -> Option<Vec<u8>> {
        Opening::new(self.cipher, self.secret.for_offer(offered)).open(record, 0).ok()
    }
}

/// Seals what goes with the offer of a circuit on a line: one record.
pub(super) fn seal_on_line(
    turn: &Turn,
    offered: &[u8; TRANSCRIPT_LENGTH],
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    Sealing::new(turn.cipher, turn.secret.for_offer(offered)).seal(plaintext, 0)
}

impl<'a> EarlyOffer<'a> {
    /// The data, if it goes with the offer of this transcript, which rests on a line.
    pub(super) fn open_on_line(
        &self,
        turn: &Turn,
        offered: &[u8; TRANSCRIPT_LENGTH],
    ) -> Option<Vec<u8>> {
        Opening::new(turn.cipher, turn.secret.for_offer(offered)).open(self.sealed, 0).ok()
    }

    /// The data, if it is this dialer's and goes with the offer of this transcript. Its secret is used up in any case.
    pub(super) fn open(&self, dialer: &str, offered: &[u8; TRANSCRIPT_LENGTH]) -> Option<Vec<u8>> {
        let (id, record) = self.sealed.split_first_chunk()?;
        let secret = (self.take)(id)?;
        (secret.peer == dialer).then(|| secret.open(offered, record)).flatten()
    }
}

impl fmt::Debug for EarlySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlySecret").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for EarlyOffer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlyOffer").field("bytes", &self.sealed.len()).finish_non_exhaustive()
    }
}
