//! Frames of links as bytes.

use std::mem::take;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{Ack, Frame, LinkFrameError, MAX_BODY, Numbered, PathId, Payload, Wish};
use crate::headers::Headers;

const PREFIX: usize = 16;
const PAYLOAD_PREFIX: usize = 20;
const NUMBER_BODY: usize = 8;
const ACK_BODY: usize = 21;

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
    pub(super) const HOSTS: u8 = 16;
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
            Self::Hosts(headers) => encode_headers(out, kind::HOSTS, PathId(0), headers),
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
                | Self::Traced(_, headers)
                | Self::Hosts(headers) => headers.encoded_len(),
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
        let Some(prefix) = Prefix::read(input)? else { return Ok(None) };
        let length = PREFIX + prefix.length;
        if input.len() < length {
            return Ok(None);
        }
        // What is the frame's alone stays so: whoever takes it may write to it.
        let mut frame = if input.len() == length { take(input) } else { input.split_to(length) };
        frame.advance(PREFIX);
        decode_body(prefix.kind, prefix.path, frame.freeze()).map(Some)
    }

    /// Bytes that are missing from the frame that `input` begins with; `None` if it does not say yet how long that is.
    ///
    /// # Errors
    /// The frame is too long.
    pub fn missing(input: &[u8]) -> Result<Option<usize>, LinkFrameError> {
        let prefix = Prefix::read(input)?;
        Ok(prefix.map(|prefix| (PREFIX + prefix.length).saturating_sub(input.len())))
    }
}

/// What each frame begins with.
struct Prefix {
    length: usize,
    kind: u8,
    path: PathId,
}

impl Prefix {
    fn read(mut input: &[u8]) -> Result<Option<Self>, LinkFrameError> {
        if input.len() < PREFIX {
            return Ok(None);
        }
        let length = input.get_u32() as usize;
        if length > MAX_BODY {
            return Err(LinkFrameError::TooLong { length });
        }
        let kind = input.get_u8();
        input.advance(3);
        Ok(Some(Self { length, kind, path: PathId(input.get_u64()) }))
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
        kind::HOSTS => Ok(Frame::Hosts(Headers::decode(body)?)),
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
    use crate::link::header;

    fn round_trip(frame: Frame) {
        let mut wire = BytesMut::new();
        frame.encode(&mut wire);
        assert_eq!(wire.len(), frame.encoded_len());
        let mut partial = BytesMut::from(&wire[..wire.len() - 1]);
        assert_eq!(Frame::decode(&mut partial), Ok(None));
        let known = partial.len() >= PREFIX;
        assert_eq!(Frame::missing(&partial), Ok(known.then_some(1)));
        assert_eq!(Frame::decode(&mut wire), Ok(Some(frame)));
        assert!(wire.is_empty());
    }

    #[test]
    fn every_kind_survives_the_wire() {
        let path = PathId(0x0102_0304_0506_0708);
        let mut headers = Headers::new();
        headers.put_text(header::SERVICE, "web");
        round_trip(Frame::Hello(headers.clone()));
        round_trip(Frame::Hosts(headers.clone()));
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
        fn any_bytes_are_a_frame_or_an_error(kind in 0u8..18, body: Vec<u8>) {
            let mut input = BytesMut::new();
            encode_prefix(&mut input, kind, PathId(1), body.len());
            input.extend_from_slice(&body);
            let _outcome = Frame::decode(&mut input);
        }
    }
}
