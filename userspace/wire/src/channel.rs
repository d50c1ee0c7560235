//! Channel version 2: the framing of every OpenZiti connection, and of our control channel.
//!
//! ```text
//! 0  4  magic        03 06 09 0c
//! 4  4  content type i32
//! 8  4  sequence     i32
//! 12 4  headers length u32
//! 16 4  body length    u32
//! 20 .. headers, body
//! ```
//! All integers little-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::headers::{HeaderError, Headers};

/// First four bytes of every message.
pub const MAGIC: [u8; 4] = [0x03, 0x06, 0x09, 0x0c];

/// Bytes before the headers.
const PREFIX: usize = 20;

/// Content types of the channel itself.
pub mod content {
    /// First message of a dialer.
    pub const HELLO: i32 = 0;
    /// Answer to a request.
    pub const RESULT: i32 = 2;
    /// Latency probe; the answer is a [`RESULT`] that reflects header 128.
    pub const LATENCY: i32 = 3;
}

/// Header numbers of the channel itself.
pub mod header {
    /// Text: the connection's id, chosen by the acceptor.
    pub const CONNECTION_ID: i32 = 0;
    /// `i32`: sequence of the request this answers.
    pub const REPLY_FOR: i32 = 1;
    /// Flag of a result.
    pub const RESULT_SUCCESS: i32 = 2;
    /// JSON: version of the acceptor.
    pub const HELLO_VERSION: i32 = 4;
    /// Text: the acceptor's id.
    pub const ID: i32 = 8;
    /// First of the headers that an answer copies from its request.
    pub const REFLECTED: i32 = 128;
}

/// Longest header section and body a reader accepts, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Header section.
    pub headers: usize,
    /// Body.
    pub body: usize,
}

impl Limits {
    /// Before the peer is authenticated; the limits of OpenZiti's own acceptors.
    pub const HELLO: Self = Self { headers: 16_384, body: 4_192 };
    /// On an authenticated edge channel. The C SDK merges writes up to 31 KiB; the rest is room
    /// for SDKs that send larger datagrams.
    pub const EDGE: Self = Self { headers: 16_384, body: 256 * 1024 };
    /// On a control channel, where one body is the whole replicated model.
    pub const CONTROL: Self = Self { headers: 16_384, body: 256 * 1024 * 1024 };
}

/// One message.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Message {
    /// What it is; see [`content`] and [`crate::edge`].
    pub content_type: i32,
    /// Chosen by the sender, growing; answers name it.
    pub sequence: i32,
    /// Numbered fields.
    pub headers: Headers,
    /// Payload.
    pub body: Bytes,
}

/// Bytes that are not a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// The first four bytes are not [`MAGIC`].
    #[error("message starts with {found:02x?}, expected {MAGIC:02x?}")]
    Magic {
        /// What was there instead.
        found: [u8; 4],
    },
    /// The announced header section is longer than the limit.
    #[error("header section of {length} bytes, limit {limit}")]
    HeadersTooLong {
        /// Announced length in bytes.
        length: usize,
        /// Limit in bytes.
        limit: usize,
    },
    /// The announced body is longer than the limit.
    #[error("body of {length} bytes, limit {limit}")]
    BodyTooLong {
        /// Announced length in bytes.
        length: usize,
        /// Limit in bytes.
        limit: usize,
    },
    /// The header section cannot be read.
    #[error(transparent)]
    Headers(#[from] HeaderError),
}

impl Message {
    /// A message without headers or body.
    pub fn new(content_type: i32) -> Self {
        Self { content_type, ..Self::default() }
    }

    /// Replaces the body.
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The sequence of the request that this message answers.
    pub fn reply_for(&self) -> Option<i32> {
        self.headers.u32(header::REPLY_FOR).map(u32::cast_signed)
    }

    /// Marks this message as the answer to `request`.
    pub fn in_reply_to(mut self, request: i32) -> Self {
        self.headers.put_u32(header::REPLY_FOR, request.cast_unsigned());
        self
    }

    /// Appends the encoded message.
    pub fn encode(&self, out: &mut BytesMut) {
        let headers = self.headers.encoded_len();
        out.reserve(PREFIX + headers + self.body.len());
        out.put_slice(&MAGIC);
        out.put_i32_le(self.content_type);
        out.put_i32_le(self.sequence);
        out.put_u32_le(u32::try_from(headers).unwrap_or(u32::MAX));
        out.put_u32_le(u32::try_from(self.body.len()).unwrap_or(u32::MAX));
        self.headers.encode(out);
        out.put_slice(&self.body);
    }

    /// Takes one message from the front of `input`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// The bytes are not a message or announce more than `limits` allow. The connection cannot be
    /// read any further.
    pub fn decode(input: &mut BytesMut, limits: Limits) -> Result<Option<Self>, FrameError> {
        let Some((mut prefix, _)) = input.split_first_chunk::<PREFIX>().map(|(p, r)| (&p[..], r))
        else {
            return Ok(None);
        };
        let mut found = [0; 4];
        prefix.copy_to_slice(&mut found);
        if found != MAGIC {
            return Err(FrameError::Magic { found });
        }
        let content_type = prefix.get_i32_le();
        let sequence = prefix.get_i32_le();
        let headers = prefix.get_u32_le() as usize;
        let body = prefix.get_u32_le() as usize;
        if headers > limits.headers {
            return Err(FrameError::HeadersTooLong { length: headers, limit: limits.headers });
        }
        if body > limits.body {
            return Err(FrameError::BodyTooLong { length: body, limit: limits.body });
        }
        if input.len() < PREFIX + headers + body {
            input.reserve(PREFIX + headers + body - input.len());
            return Ok(None);
        }
        input.advance(PREFIX);
        let headers = Headers::decode(input.split_to(headers).freeze())?;
        let body = input.split_to(body).freeze();
        Ok(Some(Self { content_type, sequence, headers, body }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Message {
        let mut message = Message::new(60_786).with_body("hello").in_reply_to(-1);
        message.sequence = 9;
        message.headers.put_u32(1000, 7);
        message
    }

    #[test]
    fn a_message_survives_the_wire_whatever_the_chunks() {
        let mut wire = BytesMut::new();
        sample().encode(&mut wire);
        for cut in 0..wire.len() {
            let mut input = BytesMut::from(&wire[..cut]);
            assert_eq!(Message::decode(&mut input, Limits::EDGE), Ok(None), "cut at {cut}");
            input.extend_from_slice(&wire[cut..]);
            assert_eq!(Message::decode(&mut input, Limits::EDGE), Ok(Some(sample())));
            assert!(input.is_empty());
        }
        assert_eq!(sample().reply_for(), Some(-1));
    }

    #[test]
    fn the_layout_is_openzitis() {
        let mut wire = BytesMut::new();
        let mut message = Message::new(0x0102).with_body("B");
        message.sequence = 1;
        message.headers.put_true(2);
        message.encode(&mut wire);
        assert_eq!(
            wire.as_ref(),
            b"\x03\x06\x09\x0c\x02\x01\0\0\x01\0\0\0\x09\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\0\0\x01B"
        );
    }

    #[test]
    fn an_announced_length_beyond_the_limit_is_refused_before_any_allocation() {
        let mut wire = BytesMut::from(&MAGIC[..]);
        wire.put_i32_le(0);
        wire.put_i32_le(0);
        wire.put_u32_le(0);
        wire.put_u32_le(u32::MAX);
        assert_eq!(
            Message::decode(&mut wire, Limits::HELLO),
            Err(FrameError::BodyTooLong { length: u32::MAX as usize, limit: 4_192 })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes: Vec<u8>) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Message::decode(&mut input, Limits::HELLO) {}
        }
    }
}
