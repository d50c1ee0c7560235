//! GRE (RFC 2784), with a key, or with the sequence number and header of ERSPAN type II.

use super::{TRANSPARENT_ETHERNET, put};

/// GRE header with a key.
pub const LENGTH: usize = 8;
/// GRE header with a sequence number, and ERSPAN header.
pub const ERSPAN_LENGTH: usize = 16;

/// The bit that says that there is a key (RFC 2890 section 2).
const KEY: u16 = 1 << 13;
/// The bit that says that there is a sequence number (RFC 2890 section 2).
const SEQUENCE: u16 = 1 << 12;
/// EtherType of ERSPAN type II (draft-foschiano-erspan-03 section 4.2).
const ERSPAN: u16 = 0x88be;
/// Version of ERSPAN type II, in the first bits of its header.
const ERSPAN_VERSION: u16 = 1 << 12;
/// Where the frame had a tag, it has it still: value 3 of the two bits before that of truncation.
const ERSPAN_TAG_KEPT: u16 = 3 << 11;
/// The frame is shorter than it was.
const ERSPAN_TRUNCATED: u16 = 1 << 10;

/// GRE header of an Ethernet frame, with a key.
#[inline(always)]
pub fn headers(key: u32) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    put(&mut bytes, 0, KEY.to_be_bytes());
    put(&mut bytes, 2, TRANSPARENT_ETHERNET.to_be_bytes());
    put(&mut bytes, 4, key.to_be_bytes());
    bytes
}

/// GRE and ERSPAN headers, with a session of 10 bits, for a frame that may have been cut.
#[expect(clippy::cast_possible_truncation, reason = "a session has ten bits")]
#[inline(always)]
pub fn erspan(session: u32, sequence: u32, is_cut: bool) -> [u8; ERSPAN_LENGTH] {
    let mut bytes = [0; ERSPAN_LENGTH];
    put(&mut bytes, 0, SEQUENCE.to_be_bytes());
    put(&mut bytes, 2, ERSPAN.to_be_bytes());
    put(&mut bytes, 4, sequence.to_be_bytes());
    let cut = if is_cut { ERSPAN_TRUNCATED } else { 0 };
    put(&mut bytes, 8, ERSPAN_VERSION.to_be_bytes());
    put(&mut bytes, 10, (ERSPAN_TAG_KEPT | cut | session as u16).to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_as_the_rfcs_draw_them() {
        assert_eq!(headers(0x00ab_cdef), [0x20, 0, 0x65, 0x58, 0, 0xab, 0xcd, 0xef]);
    }

    #[test]
    fn erspan_has_session_and_sequence() {
        #[rustfmt::skip]
        let expected = [
            0x10, 0, 0x88, 0xbe, 0, 1, 2, 3,
            0x10, 0, 0x1b, 0xff, 0, 0, 0, 0,
        ];
        assert_eq!(erspan(1_023, 0x0001_0203, false), expected);
        assert_eq!(erspan(1, 0, true)[10..12], [0x1c, 1]);
    }
}
