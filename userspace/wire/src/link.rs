//! Frames of a link between two of our routers.
//!
//! ```text
//! 0  4  body length u32
//! 4  1  kind        u8
//! 5  3  reserved, zero
//! 8  8  path        u64, zero where no path is meant
//! 16 .. body
//! ```
//! All integers of the fixed part big-endian. Bodies of `Hello`, `Open`, `Opened`, `Refused`, `Reroute`,
//! `Rerouted`, `Unroute`, `Trace`, `Traced` and `Hosts` are header sections ([`crate::Headers`]), so that either end may add fields
//! that the other ignores.

mod codec;
mod fields;

use bytes::Bytes;

pub use self::fields::{header, host, proof, signed};
use crate::headers::{HeaderError, Headers};

/// Application protocol (RFC 7301) of links.
pub const ALPN: &[u8] = b"nightgate-link";

/// Version of this frame set; both ends refuse another one.
pub const VERSION: u32 = 6;

/// Longest body of a frame in bytes: the longest edge message and its prefix.
pub const MAX_BODY: usize = 256 * 1024 + 1024;

/// Names a circuit for its whole life: the number of its first path.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CircuitId(pub u64);

/// Names one path of a circuit on the links it takes. Chosen by the dialing router, anew for every
/// path; a router looks it up together with the link it came from, so that a neighbour cannot reach
/// circuits of others, nor touch a path that a circuit has already.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PathId(pub u64);

impl std::fmt::Display for CircuitId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One message of a circuit; its boundaries are kept end to end.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Payload {
    /// Data flags of the edge protocol ([`crate::edge::flag`]).
    pub flags: u32,
    /// The edge protocol's UUID header, forwarded unread; empty for none.
    pub uuid: Bytes,
    /// Ciphertext, or plaintext of a service that needs no encryption.
    pub body: Bytes,
}

/// A payload in its direction of a circuit.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Numbered {
    /// Numbered from 0, on whatever path.
    pub sequence: u64,
    /// [`Ack::stamp`] of the acknowledgement that came last, sent back once; 0 for none.
    pub echo: u32,
    /// The message.
    pub payload: Payload,
}

/// How far the receiver of one direction is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ack {
    /// Messages it has, without a gap, from the first on. The sender forgets them.
    pub received: u64,
    /// Bytes, by the count of flow control, that the sender may have sent since the circuit began.
    pub limit: u64,
    /// The receiver's clock in microseconds, for [`Numbered::echo`]; 0 for none.
    pub stamp: u32,
    /// What the sender shall do besides.
    pub wish: Wish,
}

/// What an acknowledgement asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Wish {
    /// Nothing.
    #[default]
    Nothing,
    /// Messages are missing: send again from [`Ack::received`] on.
    Repeat,
    /// An acknowledgement of the other direction, at once: is anybody there?
    Answer,
}

/// One frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// First frame of each end.
    Hello(Headers),
    /// Asks for a circuit along the path in the headers.
    Open(PathId, Headers),
    /// The circuit stands.
    Opened(PathId, Headers),
    /// The circuit or the path could not be made.
    Refused(PathId, Headers),
    /// Asks for another path for a circuit that stands.
    Reroute(PathId, Headers),
    /// The other path stands; the earlier one is not used any more.
    Rerouted(PathId, Headers),
    /// A message of the circuit.
    Payload(PathId, Numbered),
    /// Tells the sender of one direction how far its receiver is.
    Ack(PathId, Ack),
    /// The circuit ends after this many messages. It is acknowledged like a message.
    Fin(PathId, u64),
    /// The circuit ends at once, in both directions.
    Close(PathId),
    /// The path ends, not the circuit.
    Unroute(PathId, Headers),
    /// Asks the router so many hops along the path who it is.
    Trace(PathId, Headers),
    /// Answers a trace.
    Traced(PathId, Headers),
    /// All hosts behind the sender that the controller may have told nobody of; what was said before counts no more.
    Hosts(Headers),
    /// Asks for a [`Frame::Pong`] with the same number.
    Ping(u64),
    /// Answers a ping.
    Pong(u64),
}

impl Frame {
    /// The path it belongs to, if any.
    pub fn path(&self) -> Option<PathId> {
        match self {
            Self::Open(path, _)
            | Self::Opened(path, _)
            | Self::Refused(path, _)
            | Self::Reroute(path, _)
            | Self::Rerouted(path, _)
            | Self::Payload(path, _)
            | Self::Ack(path, _)
            | Self::Fin(path, _)
            | Self::Close(path)
            | Self::Unroute(path, _)
            | Self::Trace(path, _)
            | Self::Traced(path, _) => Some(*path),
            Self::Hello(_) | Self::Hosts(_) | Self::Ping(_) | Self::Pong(_) => None,
        }
    }
}

/// Bytes that are not a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LinkFrameError {
    /// A kind that this version does not know.
    #[error("unknown frame kind {kind}")]
    Kind {
        /// What was there.
        kind: u8,
    },
    /// The announced body is longer than [`MAX_BODY`].
    #[error("frame body of {length} bytes, limit {MAX_BODY}")]
    TooLong {
        /// Announced length in bytes.
        length: usize,
    },
    /// The body does not have the length its kind needs.
    #[error("frame of kind {kind} with a body of {length} bytes")]
    Length {
        /// Kind of the frame.
        kind: u8,
        /// Length of its body in bytes.
        length: usize,
    },
    /// An acknowledgement asks for something unknown.
    #[error("acknowledgement with wish {wish}")]
    Wish {
        /// What was there.
        wish: u8,
    },
    /// The header section cannot be read.
    #[error(transparent)]
    Headers(#[from] HeaderError),
}
