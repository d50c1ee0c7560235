//! Frames of a link between two of our routers.
//!
//! ```text
//! 0  4  body length u32
//! 4  1  kind        u8
//! 5  3  reserved, zero
//! 8  8  circuit     u64, zero where no circuit is meant
//! 16 .. body
//! ```
//! All integers of the fixed part big-endian. Bodies of `Hello`, `Open`, `Opened` and `Refused` are
//! header sections ([`crate::Headers`]), so that either end may add fields that the other ignores.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::headers::{HeaderError, Headers};

/// Application protocol (RFC 7301) of links.
pub const ALPN: &[u8] = b"nightgate-link";

/// Version of this frame set; both ends refuse another one.
pub const VERSION: u32 = 2;

/// Longest body of a frame in bytes: the longest edge message and its prefix.
pub const MAX_BODY: usize = 256 * 1024 + 1024;

const PREFIX: usize = 16;
const PAYLOAD_PREFIX: usize = 16;
const ACK_BODY: usize = 8;

/// Header numbers of frame bodies.
pub mod header {
    /// Hello, `u32`: [`super::VERSION`].
    pub const VERSION: i32 = 1;
    /// Hello: link groups that the dialer dials, or the listener listens for, one per line.
    pub const GROUPS: i32 = 2;
    /// Open: ids of all routers on the path, one per line, the dialer's first.
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
    /// Open: by which a router that dials as itself proves it; a header section of
    /// [`super::proof`].
    pub const PROOF: i32 = 30;
    /// Refused, text: cause, a closed list of words.
    pub const CAUSE: i32 = 20;
    /// Refused, text: for people.
    pub const DETAIL: i32 = 21;
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

/// Names a circuit on one link. Chosen by the dialing router; a router looks it up together with
/// the link it came from, so that a neighbour cannot reach circuits of others.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CircuitId(pub u64);

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

/// One frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// First frame of each end.
    Hello(Headers),
    /// Asks for a circuit along the path in the headers.
    Open(CircuitId, Headers),
    /// The circuit stands.
    Opened(CircuitId, Headers),
    /// The circuit could not be made.
    Refused(CircuitId, Headers),
    /// A message of the circuit, numbered from 0 in each direction.
    Payload(CircuitId, u64, Payload),
    /// The receiver has consumed this many bytes of bodies since the circuit began.
    Ack(CircuitId, u64),
    /// The circuit ends, in both directions at once.
    Close(CircuitId),
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
}

impl Frame {
    /// Appends the encoded frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(headers) => encode_headers(out, kind::HELLO, CircuitId(0), headers),
            Self::Open(circuit, headers) => encode_headers(out, kind::OPEN, *circuit, headers),
            Self::Opened(circuit, headers) => encode_headers(out, kind::OPENED, *circuit, headers),
            Self::Refused(circuit, headers) => {
                encode_headers(out, kind::REFUSED, *circuit, headers);
            }
            Self::Payload(circuit, sequence, payload) => {
                encode_payload(out, *circuit, *sequence, payload);
            }
            Self::Ack(circuit, consumed) => encode_number(out, kind::ACK, *circuit, *consumed),
            Self::Close(circuit) => encode_prefix(out, kind::CLOSE, *circuit, 0),
            Self::Ping(stamp) => encode_number(out, kind::PING, CircuitId(0), *stamp),
            Self::Pong(stamp) => encode_number(out, kind::PONG, CircuitId(0), *stamp),
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
        let circuit = CircuitId(prefix.get_u64());
        if length > MAX_BODY {
            return Err(LinkFrameError::TooLong { length });
        }
        if input.len() < PREFIX + length {
            input.reserve(PREFIX + length - input.len());
            return Ok(None);
        }
        input.advance(PREFIX);
        decode_body(kind, circuit, input.split_to(length).freeze()).map(Some)
    }
}

fn encode_prefix(out: &mut BytesMut, kind: u8, circuit: CircuitId, length: usize) {
    out.reserve(PREFIX + length);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    out.put_u8(kind);
    out.put_bytes(0, 3);
    out.put_u64(circuit.0);
}

fn encode_headers(out: &mut BytesMut, kind: u8, circuit: CircuitId, headers: &Headers) {
    encode_prefix(out, kind, circuit, headers.encoded_len());
    headers.encode(out);
}

fn encode_number(out: &mut BytesMut, kind: u8, circuit: CircuitId, number: u64) {
    encode_prefix(out, kind, circuit, ACK_BODY);
    out.put_u64(number);
}

fn encode_payload(out: &mut BytesMut, circuit: CircuitId, sequence: u64, payload: &Payload) {
    let length = PAYLOAD_PREFIX + payload.uuid.len() + payload.body.len();
    encode_prefix(out, kind::PAYLOAD, circuit, length);
    out.put_u64(sequence);
    out.put_u32(payload.flags);
    out.put_u32(u32::try_from(payload.uuid.len()).unwrap_or(u32::MAX));
    out.put_slice(&payload.uuid);
    out.put_slice(&payload.body);
}

fn decode_body(kind: u8, circuit: CircuitId, body: Bytes) -> Result<Frame, LinkFrameError> {
    match kind {
        kind::HELLO => Ok(Frame::Hello(Headers::decode(body)?)),
        kind::OPEN => Ok(Frame::Open(circuit, Headers::decode(body)?)),
        kind::OPENED => Ok(Frame::Opened(circuit, Headers::decode(body)?)),
        kind::REFUSED => Ok(Frame::Refused(circuit, Headers::decode(body)?)),
        kind::PAYLOAD => decode_payload(circuit, body),
        kind::ACK => Ok(Frame::Ack(circuit, decode_number(kind, &body)?)),
        kind::CLOSE if body.is_empty() => Ok(Frame::Close(circuit)),
        kind::CLOSE => Err(LinkFrameError::Length { kind, length: body.len() }),
        kind::PING => Ok(Frame::Ping(decode_number(kind, &body)?)),
        kind::PONG => Ok(Frame::Pong(decode_number(kind, &body)?)),
        _ => Err(LinkFrameError::Kind { kind }),
    }
}

fn decode_number(kind: u8, body: &Bytes) -> Result<u64, LinkFrameError> {
    <[u8; ACK_BODY]>::try_from(body.as_ref())
        .map(u64::from_be_bytes)
        .map_err(|_wrong_length| LinkFrameError::Length { kind, length: body.len() })
}

fn decode_payload(circuit: CircuitId, mut body: Bytes) -> Result<Frame, LinkFrameError> {
    let wrong = LinkFrameError::Length { kind: kind::PAYLOAD, length: body.len() };
    if body.len() < PAYLOAD_PREFIX {
        return Err(wrong);
    }
    let sequence = body.get_u64();
    let flags = body.get_u32();
    let uuid = body.get_u32() as usize;
    if uuid > body.len() {
        return Err(wrong);
    }
    let uuid = body.split_to(uuid);
    Ok(Frame::Payload(circuit, sequence, Payload { flags, uuid, body }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(frame: Frame) {
        let mut wire = BytesMut::new();
        frame.encode(&mut wire);
        let mut partial = BytesMut::from(&wire[..wire.len() - 1]);
        assert_eq!(Frame::decode(&mut partial), Ok(None));
        assert_eq!(Frame::decode(&mut wire), Ok(Some(frame)));
        assert!(wire.is_empty());
    }

    #[test]
    fn every_kind_survives_the_wire() {
        let circuit = CircuitId(0x0102_0304_0506_0708);
        let mut headers = Headers::new();
        headers.put_text(header::SERVICE, "web");
        round_trip(Frame::Hello(headers.clone()));
        round_trip(Frame::Open(circuit, headers.clone()));
        round_trip(Frame::Opened(circuit, headers.clone()));
        round_trip(Frame::Refused(circuit, headers));
        round_trip(Frame::Payload(
            circuit,
            3,
            Payload { flags: 1, uuid: Bytes::from_static(b"u"), body: Bytes::from_static(b"data") },
        ));
        round_trip(Frame::Ack(circuit, 1 << 40));
        round_trip(Frame::Close(circuit));
        round_trip(Frame::Ping(7));
        round_trip(Frame::Pong(7));
    }

    #[test]
    fn a_body_longer_than_the_limit_is_refused_before_it_arrives() {
        let mut wire = BytesMut::new();
        encode_prefix(&mut wire, kind::PAYLOAD, CircuitId(1), 0);
        wire[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(
            Frame::decode(&mut wire),
            Err(LinkFrameError::TooLong { length: u32::MAX as usize })
        );
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let mut wire = BytesMut::new();
        encode_prefix(&mut wire, 200, CircuitId(1), 0);
        assert_eq!(Frame::decode(&mut wire), Err(LinkFrameError::Kind { kind: 200 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(kind in 0u8..12, body: Vec<u8>) {
            let mut input = BytesMut::new();
            encode_prefix(&mut input, kind, CircuitId(1), body.len());
            input.extend_from_slice(&body);
            let _outcome = Frame::decode(&mut input);
        }
    }
}
