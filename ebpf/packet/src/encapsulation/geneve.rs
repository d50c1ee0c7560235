//! GENEVE (RFC 8926) over UDP, with one option that says what is known of the packet.

use nightgate_abi::flow::Direction;

use super::{Envelope, Metadata, TRANSPARENT_ETHERNET, UDP, put, write_udp};

/// UDP and GENEVE headers, the option included.
pub const LENGTH: usize = UDP + GENEVE + OPTION;

/// Class of the option: one of those for experiments (RFC 8926 section 7).
pub const OPTION_CLASS: u16 = 0xfff6;
/// Type of the option. Its critical bit is zero: who does not know it passes over it.
pub const OPTION_TYPE: u8 = 1;

const GENEVE: usize = 8;
/// Its header and [`DATA`].
const OPTION: usize = 4 + DATA;
/// Session (16 bits), direction (8: 0 from the flow's originator, 1 to it), 8 bits of which the last says that the frame
/// was cut, service (32), sequence (64),
/// nanoseconds of TAI (64), all in network order.
const DATA: usize = 24;

/// UDP and GENEVE headers with a network identifier of 24 bits.
#[expect(clippy::cast_possible_truncation, reason = "headers have less than 2^8 bytes")]
#[inline(always)]
pub fn headers(vni: u32, port: u16, envelope: &Envelope, metadata: &Metadata) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let length = (GENEVE + OPTION) as u16 + envelope.inner;
    write_udp(&mut bytes, envelope, port, length);
    // Version 0, and the options' length in words of four bytes.
    put(&mut bytes, UDP, [(OPTION / 4) as u8, 0]);
    put(&mut bytes, UDP + 2, TRANSPARENT_ETHERNET.to_be_bytes());
    let [_, vni @ ..] = vni.to_be_bytes();
    put(&mut bytes, UDP + 4, vni);
    let option = UDP + GENEVE;
    put(&mut bytes, option, OPTION_CLASS.to_be_bytes());
    put(&mut bytes, option + 2, [OPTION_TYPE, (DATA / 4) as u8]);
    let data = option + 4;
    put(&mut bytes, data, metadata.session.to_be_bytes());
    let direction = match metadata.direction {
        Direction::Original => 0,
        Direction::Reply => 1,
    };
    put(&mut bytes, data + 2, [direction, metadata.is_cut.into()]);
    put(&mut bytes, data + 4, metadata.service.to_be_bytes());
    put(&mut bytes, data + 8, metadata.sequence.to_be_bytes());
    put(&mut bytes, data + 16, metadata.at.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::{super::tests::ENVELOPE, *};

    #[test]
    fn headers_are_as_the_rfc_draws_them() {
        let metadata = Metadata {
            session: 0x0102,
            direction: Direction::Reply,
            service: 0x0304_0506,
            is_cut: true,
            sequence: 7,
            at: 8 << 32,
        };
        #[rustfmt::skip]
        let expected = [
            0xc1, 0x23, 0x17, 0xc1, 0x06, 0x16, 0, 0,
            7, 0, 0x65, 0x58, 0xab, 0xcd, 0xef, 0,
            0xff, 0xf6, 1, 6,
            1, 2, 1, 1, 3, 4, 5, 6,
            0, 0, 0, 0, 0, 0, 0, 7,
            0, 0, 0, 8, 0, 0, 0, 0,
        ];
        assert_eq!(headers(0x00ab_cdef, 6_081, &ENVELOPE, &metadata), expected);
    }
}
