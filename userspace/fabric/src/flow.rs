//! One direction of a circuit at its two ends: numbering, acknowledging, windows.
//!
//! The sender keeps each message until the other end has it, so that it can be sent again on another
//! path. How much may be under way is the receiver's to say, and after a loss the sender's. The receiver's window
//! follows what its client consumes in a round trip (dynamic right-sizing, Fisk and Feng 2001); round trips are
//! measured by stamps that the sender sends back (as in RFC 7323, section 4).

mod congestion;
mod receiver;
mod sender;

use nightgate_wire::link::Payload;

pub(crate) use self::{
    receiver::{Arrival, Receiver},
    sender::{Outgoing, Sender},
};

/// Bytes that may be under way in one direction of a new circuit, and at least later on. More than the
/// heaviest message, which could never be sent otherwise.
pub const INITIAL_WINDOW: u64 = 512 * 1024;

/// Bytes that may be under way at most: 1 Gbit/s over 130 ms.
pub const MAX_WINDOW: u64 = 16 * 1024 * 1024;

/// Bytes a message counts beyond its body, so that empty messages cannot flood a receiver.
const OVERHEAD: u64 = 64;

/// What a message counts against the window, in bytes: its body, its UUID and 64 more.
pub fn weight(payload: &Payload) -> u64 {
    payload.body.len() as u64 + payload.uuid.len() as u64 + OVERHEAD
}

/// A message that may not be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SendError {
    /// The circuit is not open.
    #[error("the circuit is closed")]
    Closed,
    /// More than the credit that was given.
    #[error("message of {weight} bytes, credit of {credit}")]
    NoCredit {
        /// What the message counts.
        weight: u64,
        /// What is left.
        credit: u64,
    },
}
