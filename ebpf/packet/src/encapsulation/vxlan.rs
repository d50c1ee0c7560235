//! VXLAN (RFC 7348) over UDP.

use super::{Envelope, UDP, put, write_udp};

/// UDP and VXLAN headers.
pub const LENGTH: usize = UDP + VXLAN;

const VXLAN: usize = 8;
/// The I flag: the network identifier is valid. Every other bit is reserved and zero (RFC 7348 section 5);
/// sensors refuse frames in which they are not.
const FLAGS: u8 = 0x08;

/// UDP and VXLAN headers with a network identifier of 24 bits.
#[expect(clippy::cast_possible_truncation, reason = "headers have less than 2^8 bytes")]
#[inline(always)]
pub fn headers(vni: u32, port: u16, envelope: &Envelope) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    write_udp(&mut bytes, envelope, port, VXLAN as u16 + envelope.inner);
    put(&mut bytes, UDP, [FLAGS]);
    let [_, vni @ ..] = vni.to_be_bytes();
    put(&mut bytes, UDP + 4, vni);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{super::tests::ENVELOPE, *};

    #[test]
    fn headers_are_as_the_rfc_draws_them() {
        #[rustfmt::skip]
        let expected = [
            0xc1, 0x23, 0x12, 0xb5, 0x05, 0xfa, 0, 0,
            0x08, 0, 0, 0, 0xab, 0xcd, 0xef, 0,
        ];
        assert_eq!(headers(0x00ab_cdef, 4_789, &ENVELOPE), expected);
    }
}
