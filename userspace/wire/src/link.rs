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
//! `Rerouted`, `Unroute`, `Trace` and `Traced` are header sections ([`crate::Headers`]), so that either end may add fields
//! that the other ignores.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::headers::{HeaderError, Headers};

/// Application protocol (RFC 7301) of links.
pub const ALPN: &[u8] = b"nightgate-link";

/// Version of this frame set; both ends refuse another one.
pub const VERSION: u32 = 5;

/// Longest body of a frame in bytes: the longest edge message and its prefix.
pub const MAX_BODY: usize = 256 * 1024 + 1024;

const PREFIX: usize = 16;
const PAYLOAD_PREFIX: usize = 20;
const NUMBER_BODY: usize = 8;
const ACK_BODY: usize = 21;

/// Header numbers of frame bodies.
pub mod header {
    /// Hello, `u32`: [`super::VERSION`].
    pub const VERSION: i32 = 1;
    /// Hello: link groups that the dialer dials, or the listener listens for, one per line.
    pub const GROUPS: i32 = 2;
    /// Open and Reroute: ids of all routers on the path, one per line, the dialer's first.
    pub const PATH: i32 = 10;
    /// Open, text: terminator.
    pub const TERMINATOR: i32 = 11;
    /// Open, text: service.
    pub const SERVICE: i32 = 12;
    /// Open, text: dialing identity.
    pub const DIALER: i32 = 13;
    /// Open, text: what the dialing identity calls itself towards the host.
    pub const CALLER: i32 = 14;
    /// Open and Opened: key exchange public key.
    pub const PUBLIC_KEY: i32 = 15;
    /// Open: opaque data from dialer to host.
    pub const APP_DATA: i32 = 16;
    /// Open, text: instance among the service's terminators; empty or missing for none.
    pub const INSTANCE: i32 = 17;
    /// Open and Opened: handshake of our end-to-end encryption.
    pub const HANDSHAKE: i32 = 18;
    /// Open, text: the service session token of the dialing identity.
    pub const SESSION: i32 = 19;
    /// Refused, text: cause, a closed list of words.
    pub const CAUSE: i32 = 20;
    /// Refused, text: for people.
    pub const DETAIL: i32 = 21;
    /// Open: by which a router that dials as itself proves it; a header section of
    /// [`super::proof`].
    pub const PROOF: i32 = 30;
    /// Open, 32 bytes: public key (Ed25519, RFC 8032) by which the dialer's end signs its Reroutes.
    pub const ANCHOR: i32 = 31;
    /// Reroute, eight bytes: the circuit that asks for another path.
    pub const CIRCUIT: i32 = 32;
    /// Reroute and Rerouted: the body of an [`super::Ack`] frame.
    pub const ACK: i32 = 33;
    /// Refused and Unroute, two ids, one per line: the routers between which no link is left.
    pub const LOST: i32 = 34;
    /// Trace and Traced, `u32`: by which the asking end knows the answer.
    pub const TRACE: i32 = 35;
    /// Trace, `u32`: how many hops to go, at least 1. Traced: how many were left where it ended.
    pub const HOPS: i32 = 36;
    /// Traced, text: the router that answers.
    pub const ROUTER: i32 = 37;
    /// Traced, `u32` 1: the path ends there.
    pub const LAST: i32 = 38;
    /// Open: sealed data that goes with the dial. Opened, one byte, 1: the host took it.
    pub const EARLY_DATA: i32 = 39;
    /// Reroute, 64 bytes: signature over the circuit, the number of the path, the turn and the path.
    pub const SIGNATURE: i32 = 40;
    /// Reroute, eight bytes, big-endian: how many paths the dialer's end has asked for, with this one.
    pub const TURN: i32 = 41;
}

/// Header numbers of the proof in an `Open`.
pub mod proof {
    /// When it was made: eight bytes, little-endian, milliseconds since the Unix epoch.
    pub const TIME: i32 = 1;
    /// `u32`: the signature's scheme (RFC 8446 section 4.2.3).
    pub const SCHEME: i32 = 2;
    /// The signature over [`super::signed`].
    pub const SIGNATURE: i32 = 3;
    /// The certificate whose key signed, DER; its issuers have the numbers that follow.
    pub const CHAIN: i32 = 10;
}

/// What a router signs that dials as itself: all of the `Open` but the proof, and when.
pub fn signed(circuit: CircuitId, headers: &Headers, time: u64) -> Vec<u8> {
    const CONTEXT: &[u8] = b"nightgate open 1\0";
    let mut rest = headers.clone();
    rest.remove(header::PROOF);
    let mut signed = BytesMut::from(CONTEXT);
    signed.put_u64(circuit.0);
    signed.put_u64(time);
    rest.encode(&mut signed);
    signed.into()
}

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
    /// Asks for a [`Frame::Pong`] with the same number.
    Ping(u64),
    /// Answers a ping.
    Pong(u64),
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

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const OPEN: u8 = 2;
    pub(super) const OPENED: u8 = 3;
    pub(super) const REFUSED: u8 = 4;
    pub(super) const PAYLOAD: u8 = 5;
    pub(super) const ACK: u8 = 6;
    pub(super) const CLOSE: u8 = 7;
    pub(super) const PING: u8 = 8;
    pub(super) const PONG: u8 = 9;
    pub(super) const REROUTE: u8 = 10;
    pub(super) const REROUTED: u8 = 11;
    pub(super) const FIN: u8 = 12;
    pub(super) const UNROUTE: u8 = 13;
    pub(super) const TRACE: u8 = 14;
    pub(super) const TRACED: u8 = 15;
}

mod wish {
    pub(super) const NOTHING: u8 = 0;
    pub(super) const REPEAT: u8 = 1;
    pub(super) const ANSWER: u8 = 2;
}

impl Ack {
    /// Its form in bodies of frames: three integers and the wish.
    pub fn to_bytes(self) -> [u8; ACK_BODY] {
        let mut bytes = [0; ACK_BODY];
        let mut out = &mut bytes[..];
        out.put_u64(self.received);
        out.put_u64(self.limit);
        out.put_u32(self.stamp);
        out.put_u8(match self.wish {
            Wish::Nothing => wish::NOTHING,
            Wish::Repeat => wish::REPEAT,
            Wish::Answer => wish::ANSWER,
        });
        bytes
    }

    /// Reads that form.
    ///
    /// # Errors
    /// The length is another, or the wish unknown.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, LinkFrameError> {
        if bytes.len() != ACK_BODY {
            return Err(LinkFrameError::Length { kind: kind::ACK, length: bytes.len() });
        }
        let (received, limit, stamp) = (bytes.get_u64(), bytes.get_u64(), bytes.get_u32());
        let wish = match bytes.get_u8() {
            wish::NOTHING => Wish::Nothing,
            wish::REPEAT => Wish::Repeat,
            wish::ANSWER => Wish::Answer,
            wish => return Err(LinkFrameError::Wish { wish }),
        };
        Ok(Self { received, limit, stamp, wish })
    }
}

impl Frame {
    /// Appends the encoded frame without the message's body, if it carries one, and gives that: it comes next.
    pub fn encode_head(self, out: &mut BytesMut) -> Bytes {
        let Self::Payload(path, message) = self else {
            self.encode(out);
            return Bytes::new();
        };
        encode_payload_head(out, path, &message);
        message.payload.body
    }

    /// Appends the encoded frame.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.encoded_len());
        match self {
            Self::Hello(headers) => encode_headers(out, kind::HELLO, PathId(0), headers),
            Self::Open(path, headers) => encode_headers(out, kind::OPEN, *path, headers),
            Self::Opened(path, headers) => encode_headers(out, kind::OPENED, *path, headers),
            Self::Refused(path, headers) => encode_headers(out, kind::REFUSED, *path, headers),
            Self::Reroute(path, headers) => encode_headers(out, kind::REROUTE, *path, headers),
            Self::Rerouted(path, headers) => encode_headers(out, kind::REROUTED, *path, headers),
            Self::Unroute(path, headers) => encode_headers(out, kind::UNROUTE, *path, headers),
            Self::Trace(path, headers) => encode_headers(out, kind::TRACE, *path, headers),
            Self::Traced(path, headers) => encode_headers(out, kind::TRACED, *path, headers),
            Self::Payload(path, message) => {
                encode_payload_head(out, *path, message);
                out.put_slice(&message.payload.body);
            }
            Self::Ack(path, ack) => {
                encode_prefix(out, kind::ACK, *path, ACK_BODY);
                out.put_slice(&ack.to_bytes());
            }
            Self::Fin(path, messages) => encode_number(out, kind::FIN, *path, *messages),
            Self::Close(path) => encode_prefix(out, kind::CLOSE, *path, 0),
            Self::Ping(stamp) => encode_number(out, kind::PING, PathId(0), *stamp),
            Self::Pong(stamp) => encode_number(out, kind::PONG, PathId(0), *stamp),
        }
    }

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
            Self::Hello(_) | Self::Ping(_) | Self::Pong(_) => None,
        }
    }

    /// Bytes that it takes on a link.
    pub fn encoded_len(&self) -> usize {
        PREFIX
            + match self {
                Self::Hello(headers)
                | Self::Open(_, headers)
                | Self::Opened(_, headers)
                | Self::Refused(_, headers)
                | Self::Reroute(_, headers)
                | Self::Rerouted(_, headers)
                | Self::Unroute(_, headers)
                | Self::Trace(_, headers)
                | Self::Traced(_, headers) => headers.encoded_len(),
                Self::Payload(_, message) => payload_len(message),
                Self::Ack(..) => ACK_BODY,
                Self::Fin(..) | Self::Ping(_) | Self::Pong(_) => NUMBER_BODY,
                Self::Close(_) => 0,
            }
    }

    /// Takes one frame from the front of `input`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The bytes are not a frame. The link cannot be read any further.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Self>, LinkFrameError> {
        if input.len() < PREFIX {
            return Ok(None);
        }
        let mut prefix = &input[..PREFIX];
        let length = prefix.get_u32() as usize;
        let kind = prefix.get_u8();
        prefix.advance(3);
        let path = PathId(prefix.get_u64());
        if length > MAX_BODY {
            return Err(LinkFrameError::TooLong { length });
        }
        if input.len() < PREFIX + length {
            input.reserve(PREFIX + length - input.len());
            return Ok(None);
        }
        input.advance(PREFIX);
        decode_body(kind, path, input.split_to(length).freeze()).map(Some)
    }
}

fn encode_prefix(out: &mut BytesMut, kind: u8, path: PathId, length: usize) {
    out.reserve(PREFIX);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    out.put_u8(kind);
    out.put_bytes(0, 3);
    out.put_u64(path.0);
}

fn encode_headers(out: &mut BytesMut, kind: u8, path: PathId, headers: &Headers) {
    encode_prefix(out, kind, path, headers.encoded_len());
    headers.encode(out);
}

fn encode_number(out: &mut BytesMut, kind: u8, path: PathId, number: u64) {
    encode_prefix(out, kind, path, NUMBER_BODY);
    out.put_u64(number);
}

fn payload_len(message: &Numbered) -> usize {
    PAYLOAD_PREFIX + message.payload.uuid.len() + message.payload.body.len()
}

fn encode_payload_head(out: &mut BytesMut, path: PathId, message: &Numbered) {
    let Numbered { sequence, echo, payload } = message;
    encode_prefix(out, kind::PAYLOAD, path, payload_len(message));
    out.put_u64(*sequence);
    out.put_u32(*echo);
    out.put_u32(payload.flags);
    out.put_u32(u32::try_from(payload.uuid.len()).unwrap_or(u32::MAX));
    out.put_slice(&payload.uuid);
}

fn decode_body(kind: u8, path: PathId, body: Bytes) -> Result<Frame, LinkFrameError> {
    match kind {
        kind::HELLO => Ok(Frame::Hello(Headers::decode(body)?)),
        kind::OPEN => Ok(Frame::Open(path, Headers::decode(body)?)),
        kind::OPENED => Ok(Frame::Opened(path, Headers::decode(body)?)),
        kind::REFUSED => Ok(Frame::Refused(path, Headers::decode(body)?)),
        kind::REROUTE => Ok(Frame::Reroute(path, Headers::decode(body)?)),
        kind::REROUTED => Ok(Frame::Rerouted(path, Headers::decode(body)?)),
        kind::UNROUTE => Ok(Frame::Unroute(path, Headers::decode(body)?)),
        kind::TRACE => Ok(Frame::Trace(path, Headers::decode(body)?)),
        kind::TRACED => Ok(Frame::Traced(path, Headers::decode(body)?)),
        kind::PAYLOAD => decode_payload(path, body),
        kind::ACK => Ok(Frame::Ack(path, Ack::from_bytes(&body)?)),
        kind::FIN => Ok(Frame::Fin(path, decode_number(kind, &body)?)),
        kind::CLOSE if body.is_empty() => Ok(Frame::Close(path)),
        kind::CLOSE => Err(LinkFrameError::Length { kind, length: body.len() }),
        kind::PING => Ok(Frame::Ping(decode_number(kind, &body)?)),
        kind::PONG => Ok(Frame::Pong(decode_number(kind, &body)?)),
        _ => Err(LinkFrameError::Kind { kind }),
    }
}

fn decode_number(kind: u8, body: &Bytes) -> Result<u64, LinkFrameError> {
    <[u8; NUMBER_BODY]>::try_from(body.as_ref())
        .map(u64::from_be_bytes)
        .map_err(|_wrong_length| LinkFrameError::Length { kind, length: body.len() })
}

fn decode_payload(path: PathId, mut body: Bytes) -> Result<Frame, LinkFrameError> {
    let wrong = LinkFrameError::Length { kind: kind::PAYLOAD, length: body.len() };
    if body.len() < PAYLOAD_PREFIX {
        return Err(wrong);
    }
    let (sequence, echo, flags) = (body.get_u64(), body.get_u32(), body.get_u32());
    let uuid = body.get_u32() as usize;
    if uuid > body.len() {
        return Err(wrong);
    }
    let uuid = body.split_to(uuid);
    let payload = Payload { flags, uuid, body };
    Ok(Frame::Payload(path, Numbered { sequence, echo, payload }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(frame: Frame) {
        let mut wire = BytesMut::new();
        frame.encode(&mut wire);
        assert_eq!(wire.len(), frame.encoded_len());
        let mut partial = BytesMut::from(&wire[..wire.len() - 1]);
        assert_eq!(Frame::decode(&mut partial), Ok(None));
        assert_eq!(Frame::decode(&mut wire), Ok(Some(frame)));
        assert!(wire.is_empty());
    }

    #[test]
    fn every_kind_survives_the_wire() {
        let path = PathId(0x0102_0304_0506_0708);
        let mut headers = Headers::new();
        headers.put_text(header::SERVICE, "web");
        round_trip(Frame::Hello(headers.clone()));
        for kind in [
            Frame::Open,
            Frame::Opened,
            Frame::Refused,
            Frame::Reroute,
            Frame::Rerouted,
            Frame::Unroute,
            Frame::Trace,
            Frame::Traced,
        ] {
            round_trip(kind(path, headers.clone()));
        }
        let payload =
            Payload { flags: 1, uuid: Bytes::from_static(b"u"), body: Bytes::from_static(b"data") };
        round_trip(Frame::Payload(path, Numbered { sequence: 3, echo: 9, payload }));
        for wish in [Wish::Nothing, Wish::Repeat, Wish::Answer] {
            round_trip(Frame::Ack(path, Ack { received: 7, limit: 1 << 40, stamp: 5, wish }));
        }
        round_trip(Frame::Fin(path, 12));
        round_trip(Frame::Close(path));
        round_trip(Frame::Ping(7));
        round_trip(Frame::Pong(7));
    }

    #[test]
    fn a_body_longer_than_the_limit_is_refused_before_it_arrives() {
        let mut wire = BytesMut::new();
        encode_prefix(&mut wire, kind::PAYLOAD, PathId(1), 0);
        wire[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(
            Frame::decode(&mut wire),
            Err(LinkFrameError::TooLong { length: u32::MAX as usize })
        );
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let mut wire = BytesMut::new();
        encode_prefix(&mut wire, 200, PathId(1), 0);
        assert_eq!(Frame::decode(&mut wire), Err(LinkFrameError::Kind { kind: 200 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(kind in 0u8..15, body: Vec<u8>) {
            let mut input = BytesMut::new();
            encode_prefix(&mut input, kind, PathId(1), body.len());
            input.extend_from_slice(&body);
            let _outcome = Frame::decode(&mut input);
        }
    }
}
