//! One direction of a circuit: a sequence of records that cannot be changed, dropped from the middle,
//! reordered or replayed without the receiver noticing.

use std::fmt;

use libsodium_rs::crypto_secretstream::xchacha20poly1305::{
    self as secretstream, Key, PullState, PushState, TAG_MESSAGE,
};

/// Bytes of the first message of each direction
/// (`crypto_secretstream_xchacha20poly1305_HEADERBYTES`).
pub const HEADER_LENGTH: usize = 24;

/// Bytes a record is longer than its plaintext: one tag byte and the 16-byte authenticator
/// (`crypto_secretstream_xchacha20poly1305_ABYTES`).
pub const RECORD_OVERHEAD: usize = 17;

const _: () = assert!(HEADER_LENGTH == secretstream::HEADERBYTES);
const _: () = assert!(RECORD_OVERHEAD == secretstream::ABYTES);

/// The sealing half of a circuit.
pub struct Outbound {
    header: [u8; HEADER_LENGTH],
    state: PushState,
}

/// The opening half of a circuit.
pub struct Inbound(InboundState);

enum InboundState {
    AwaitingHeader(Key),
    Open(PullState),
    Broken,
}

/// A record that could not be sealed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("seal a record of {length} bytes: libsodium refused, expected at most 256 GiB")]
pub struct SealError {
    length: usize,
}

/// A received record that is refused. Every later record of the direction is refused too: the only
/// thing left to do is to close the circuit.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// The first message is not a stream header.
    #[error("first encrypted message: found {found} bytes, expected a {HEADER_LENGTH}-byte header")]
    HeaderLength {
        /// Bytes received.
        found: usize,
    },
    /// The record was changed, replayed, reordered or sealed with another key, or one before it is
    /// missing.
    #[error("open a record of {length} bytes: authentication failed")]
    Authentication {
        /// Bytes received.
        length: usize,
    },
    /// An earlier record of this direction was refused.
    #[error("open a record: an earlier record was refused, expected the circuit to be closed")]
    Broken,
}

impl Outbound {
    pub(crate) fn new(key: [u8; 32]) -> Result<Self, SealError> {
        let (state, header) =
            PushState::init_push(&Key::from(key)).map_err(|_cause| SealError { length: 0 })?;
        Ok(Self { header, state })
    }

    /// What the first message of this direction carries, alone.
    pub fn header(&self) -> [u8; HEADER_LENGTH] {
        self.header
    }

    /// Seals one record, [`RECORD_OVERHEAD`] bytes longer than `plaintext`. Records must be sent in
    /// the order they are sealed.
    ///
    /// # Errors
    /// `plaintext` is longer than 256 GiB.
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        self.state
            .push(plaintext, None, TAG_MESSAGE)
            .map_err(|_cause| SealError { length: plaintext.len() })
    }
}

impl Inbound {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(InboundState::AwaitingHeader(Key::from(key)))
    }

    /// Opens the body of one message, in the order of arrival.
    ///
    /// Returns none for what carries no plaintext: the header, which the first message must be, and
    /// an empty body, which is legal at any time and authenticates nothing.
    ///
    /// # Errors
    /// The message is not what the peer sealed next; see [`RecordError`].
    pub fn open(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, RecordError> {
        if message.is_empty() {
            return Ok(None);
        }
        let opened = match &mut self.0 {
            InboundState::AwaitingHeader(key) => start(key, message).map(|state| {
                self.0 = InboundState::Open(state);
                None
            }),
            InboundState::Open(state) => state
                .pull(message, None)
                .map(|(plaintext, _tag)| Some(plaintext))
                .map_err(|_cause| RecordError::Authentication { length: message.len() }),
            InboundState::Broken => Err(RecordError::Broken),
        };
        if opened.is_err() {
            self.0 = InboundState::Broken;
        }
        opened
    }
}

fn start(key: &Key, message: &[u8]) -> Result<PullState, RecordError> {
    let header = <&[u8; HEADER_LENGTH]>::try_from(message)
        .map_err(|_length| RecordError::HeaderLength { found: message.len() })?;
    PullState::init_pull(header, key)
        .map_err(|_cause| RecordError::Authentication { length: message.len() })
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0 {
            InboundState::AwaitingHeader(_) => "awaiting header",
            InboundState::Open(_) => "open",
            InboundState::Broken => "broken",
        };
        f.debug_tuple("Inbound").field(&state).finish()
    }
}
