//! Datagrams as messages of a circuit. One datagram is one message, as OpenZiti's tunnelers do it; only an empty one cannot
//! be told from no message at all, and goes as a message of one part that is empty, and many go together between our own ends.
//!
//! A message of parts ([`flag::MULTIPART_MESSAGE`]) holds any number of datagrams, each after its length (two bytes,
//! little-endian). OpenZiti's SDKs make them of what waits to be sent, for a peer that has said [`flag::MULTIPART`]; between
//! our own ends, whoever proves its identity takes them.

use bytes::{Buf as _, Bytes};

use crate::edge::flag;

/// What a message of parts holds that is one empty datagram.
pub const EMPTY: &[u8] = &[0, 0];

/// The data flags of a message with this datagram, which is [`EMPTY`] in it if it is so itself.
pub fn flags_of(datagram: &[u8]) -> u32 {
    if datagram.is_empty() { flag::MULTIPART_MESSAGE } else { 0 }
}

/// Several datagrams in their order, as a message of parts has them.
#[derive(Debug, Default)]
pub struct Bundle {
    bytes: Vec<u8>,
    count: usize,
}

/// Bytes of a length.
const LENGTH: usize = size_of::<u16>();

impl Bundle {
    /// Adds a datagram; one that is longer than a length can say is no datagram, and left out.
    pub fn push(&mut self, datagram: &[u8]) {
        if let Ok(length) = u16::try_from(datagram.len()) {
            self.bytes.extend_from_slice(&length.to_le_bytes());
            self.bytes.extend_from_slice(datagram);
            self.count += 1;
        }
    }

    /// Bytes that a datagram takes here.
    pub const fn size_of(datagram: &[u8]) -> usize {
        LENGTH + datagram.len()
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Bytes of all with their lengths.
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of all without their lengths.
    pub const fn payload(&self) -> usize {
        self.bytes.len() - self.count * LENGTH
    }

    /// The body of a message that is one [`flag::MULTIPART_MESSAGE`].
    pub fn into_body(self) -> Vec<u8> {
        self.bytes
    }
}

impl From<&[u8]> for Bundle {
    /// A bundle of one.
    fn from(datagram: &[u8]) -> Self {
        let mut bundle = Self::default();
        bundle.push(datagram);
        bundle
    }
}

/// The datagrams of a message that carried these flags; what does not keep to the form ends them.
pub fn datagrams(plaintext: Bytes, flags: u32) -> Datagrams {
    Datagrams { rest: plaintext, has_parts: flags & flag::MULTIPART_MESSAGE != 0 }
}

/// What [`datagrams`] gives.
#[derive(Debug)]
pub struct Datagrams {
    rest: Bytes,
    has_parts: bool,
}

impl Iterator for Datagrams {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if !self.has_parts {
            let whole = std::mem::take(&mut self.rest);
            return (!whole.is_empty()).then_some(whole);
        }
        let length = usize::from(self.rest.try_get_u16_le().ok()?);
        let part = (length <= self.rest.len()).then(|| self.rest.split_to(length));
        if part.is_none() {
            self.rest.clear();
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: u32 = flag::MULTIPART_MESSAGE;

    #[test]
    fn a_message_is_one_datagram_or_says_of_how_many_parts() {
        assert_eq!(all(b"one", 0), ["one"]);
        assert!(all(b"", 0).is_empty() && all(b"", PARTS).is_empty());
        assert_eq!(all(b"\x02\x00ab\x00\x00\x01\x00c", PARTS), ["ab", "", "c"]);
        assert_eq!(all(b"\x02\x00ab\x09\x00c", PARTS), ["ab"]);
        assert_eq!(all(b"\x01\x00a\x07", PARTS), ["a"]);
        assert_eq!(all(EMPTY, flags_of(b"")), [""]);
        assert_eq!(flags_of(b"x"), 0);
    }

    #[test]
    fn a_bundle_is_a_message_of_parts() {
        let mut bundle = Bundle::from(&b"ab"[..]);
        bundle.push(b"");
        bundle.push(b"c");
        bundle.push(&[0; 65_536]);
        assert_eq!((bundle.count(), bundle.size(), bundle.payload()), (3, 9, 3));
        assert_eq!(bundle.into_body(), b"\x02\x00ab\x00\x00\x01\x00c");
    }

    proptest::proptest! {
        #[test]
        fn datagrams_come_out_of_a_bundle_as_they_went_in(sent: Vec<Vec<u8>>) {
            let mut bundle = Bundle::default();
            for datagram in &sent {
                bundle.push(datagram);
            }
            let size = sent.iter().map(|it| Bundle::size_of(it)).sum::<usize>();
            proptest::prop_assert_eq!((bundle.count(), bundle.size()), (sent.len(), size));
            let came: Vec<_> = datagrams(bundle.into_body().into(), PARTS).collect();
            proptest::prop_assert_eq!(came, sent);
        }

        #[test]
        fn no_message_makes_more_bytes_than_it_has(bytes: Vec<u8>, flags: u32) {
            let length = bytes.len();
            let parts = datagrams(bytes.into(), flags);
            proptest::prop_assert!(parts.map(|part| part.len()).sum::<usize>() <= length);
        }
    }

    fn all(plaintext: &'static [u8], flags: u32) -> Vec<Bytes> {
        datagrams(Bytes::from_static(plaintext), flags).collect()
    }
}
