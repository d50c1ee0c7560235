//! The header section of a channel message: numbered byte strings.
//!
//! Wire form, repeated: key `i32`, length `u32`, bytes; all integers little-endian. The same form
//! carries the optional parts of a link frame.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes before each header's value: key and length.
const HEADER_PREFIX: usize = 8;

/// Most headers that one message may carry; OpenZiti clients send fewer than twenty.
const MAX_HEADERS: usize = 64;

/// Numbered byte strings, each number at most once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Headers(Vec<(i32, Bytes)>);

/// A header section that cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HeaderError {
    /// A header reaches past the end of the section.
    #[error("header section ends inside a header")]
    Truncated,
    /// The same number twice.
    #[error("header {key} appears twice")]
    Repeated {
        /// The repeated number.
        key: i32,
    },
    /// More than the 64 headers a message may carry.
    #[error("more than {MAX_HEADERS} headers")]
    TooMany,
}

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a header, replacing an earlier value.
    pub fn put(&mut self, key: i32, value: impl Into<Bytes>) -> &mut Self {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some(entry) => entry.1 = value,
            None => self.0.push((key, value)),
        }
        self
    }

    /// Sets a text header (UTF-8).
    pub fn put_text(&mut self, key: i32, value: &str) -> &mut Self {
        self.put(key, Bytes::copy_from_slice(value.as_bytes()))
    }

    /// Sets a number (four bytes, little-endian).
    pub fn put_u32(&mut self, key: i32, value: u32) -> &mut Self {
        self.put(key, Bytes::copy_from_slice(&value.to_le_bytes()))
    }

    /// Sets a flag (one byte, 1).
    pub fn put_true(&mut self, key: i32) -> &mut Self {
        self.put(key, Bytes::from_static(&[1]))
    }

    /// Takes a header away.
    pub fn remove(&mut self, key: i32) {
        self.0.retain(|(known, _)| *known != key);
    }

    /// The header's bytes.
    pub fn bytes(&self, key: i32) -> Option<&Bytes> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// The header as text; absent when missing or not UTF-8.
    pub fn text(&self, key: i32) -> Option<&str> {
        self.bytes(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The header as a number; absent when missing or not four bytes.
    pub fn u32(&self, key: i32) -> Option<u32> {
        self.bytes(key).and_then(|value| value.as_ref().try_into().ok()).map(u32::from_le_bytes)
    }

    /// Whether the header is there and its one byte is 1.
    pub fn is_true(&self, key: i32) -> bool {
        self.bytes(key).is_some_and(|value| value.as_ref() == [1])
    }

    /// Length of the encoded section in bytes.
    pub fn encoded_len(&self) -> usize {
        self.0.iter().map(|(_, value)| HEADER_PREFIX + value.len()).sum()
    }

    /// All values, in the order in which they came.
    pub fn values(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter().map(|(_, value)| value)
    }

    /// Appends the encoded section.
    pub fn encode(&self, out: &mut BytesMut) {
        for (key, value) in &self.0 {
            out.put_i32_le(*key);
            out.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
            out.put_slice(value);
        }
    }

    /// Reads a whole section.
    ///
    /// # Errors
    /// The section ends inside a header, repeats a number, or has too many headers.
    pub fn decode(mut section: Bytes) -> Result<Self, HeaderError> {
        let mut headers = Vec::new();
        while !section.is_empty() {
            if section.len() < HEADER_PREFIX {
                return Err(HeaderError::Truncated);
            }
            let key = section.get_i32_le();
            let length = section.get_u32_le() as usize;
            if length > section.len() {
                return Err(HeaderError::Truncated);
            }
            if headers.iter().any(|(known, _)| *known == key) {
                return Err(HeaderError::Repeated { key });
            }
            if headers.len() == MAX_HEADERS {
                return Err(HeaderError::TooMany);
            }
            headers.push((key, section.split_to(length)));
        }
        Ok(Self(headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_survives_the_wire() {
        let mut headers = Headers::new();
        headers.put_text(7, "edge.default").put_u32(1, 42).put_true(9);
        let mut wire = BytesMut::new();
        headers.encode(&mut wire);
        assert_eq!(wire.len(), headers.encoded_len());
        let read = Headers::decode(wire.freeze()).unwrap();
        assert_eq!(read.text(7), Some("edge.default"));
        assert_eq!(read.u32(1), Some(42));
        assert!(read.is_true(9));
        assert!(!read.is_true(10));
    }

    #[test]
    fn a_repeated_number_is_refused() {
        let mut wire = BytesMut::new();
        for _ in 0..2 {
            wire.put_i32_le(5);
            wire.put_u32_le(0);
        }
        assert_eq!(Headers::decode(wire.freeze()), Err(HeaderError::Repeated { key: 5 }));
    }

    #[test]
    fn a_length_past_the_end_is_refused() {
        let mut wire = BytesMut::new();
        wire.put_i32_le(5);
        wire.put_u32_le(u32::MAX);
        assert_eq!(Headers::decode(wire.freeze()), Err(HeaderError::Truncated));
    }

    #[test]
    fn a_flood_of_headers_is_refused() {
        let mut wire = BytesMut::new();
        for key in 0..=64 {
            wire.put_i32_le(key);
            wire.put_u32_le(0);
        }
        assert_eq!(Headers::decode(wire.freeze()), Err(HeaderError::TooMany));
    }
}
