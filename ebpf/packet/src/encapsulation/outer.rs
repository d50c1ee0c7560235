//! The outer Ethernet and IP headers.

use nightgate_abi::{
    Family,
    mirror::{Encapsulation, MirrorSensor},
};

use super::{ETHERNET, Envelope, length as shim_length, put};
use crate::{ethernet, protocol};

/// IPv4 header without options.
pub const IPV4: usize = 20;
/// IPv6 header without extensions.
pub const IPV6: usize = 40;
/// Ethernet and IPv4.
pub const HEADERS_V4: usize = ETHERNET + IPV4;
/// Ethernet and IPv6.
pub const HEADERS_V6: usize = ETHERNET + IPV6;

/// Time to live and hop limit recommended by RFC 1700.
const HOPS: u8 = 64;
/// IP protocol number of GRE (RFC 2784 section 6).
const GRE: u8 = 47;

/// Length of an outer IP header in bytes.
#[inline(always)]
pub const fn length(family: Family) -> usize {
    match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    }
}

/// IP protocol number of an encapsulation.
#[inline(always)]
pub const fn protocol_of(encapsulation: Encapsulation) -> u8 {
    match encapsulation {
        Encapsulation::Vxlan | Encapsulation::Geneve => protocol::UDP,
        Encapsulation::Erspan | Encapsulation::Gre | Encapsulation::Local => GRE,
    }
}

/// The headers of a frame for a sensor with an IPv4 address.
///
/// Fragments are allowed, as an inner frame of full size may not fit the path. So `identification` has to
/// differ between frames that are under way at the same time (RFC 6864 section 4.1).
#[inline(always)]
pub fn v4(sensor: &MirrorSensor, envelope: &Envelope, identification: u16) -> [u8; HEADERS_V4] {
    let encapsulation = Encapsulation::from_number(sensor.encapsulation);
    let mut bytes = [0; HEADERS_V4];
    write_ethernet(&mut bytes, envelope, ethernet::IPV4);
    let length = envelope.outer_length(Family::V4, encapsulation);
    put(&mut bytes, ETHERNET, [0x45, 0]);
    put(&mut bytes, ETHERNET + 2, length.to_be_bytes());
    put(&mut bytes, ETHERNET + 4, identification.to_be_bytes());
    put(&mut bytes, ETHERNET + 8, [HOPS, protocol_of(encapsulation)]);
    put(&mut bytes, ETHERNET + 12, sensor.source.v4_octets());
    put(&mut bytes, ETHERNET + 16, sensor.address.v4_octets());
    let checksum = checksum_v4(&bytes);
    put(&mut bytes, ETHERNET + 10, checksum.to_be_bytes());
    bytes
}

/// The headers of a frame for a sensor with an IPv6 address. The flow label is the flow's, so that routers keep its
/// frames together whatever they are in (RFC 6438).
#[expect(clippy::cast_possible_truncation, reason = "headers have less than 2^8 bytes")]
#[inline(always)]
pub fn v6(sensor: &MirrorSensor, envelope: &Envelope) -> [u8; HEADERS_V6] {
    /// Version 6.
    const VERSION: u32 = 6 << 28;
    let encapsulation = Encapsulation::from_number(sensor.encapsulation);
    let mut bytes = [0; HEADERS_V6];
    write_ethernet(&mut bytes, envelope, ethernet::IPV6);
    let label = (envelope.hash >> 44) as u32;
    let length = envelope.inner.saturating_add(shim_length(encapsulation) as u16);
    put(&mut bytes, ETHERNET, (VERSION | label).to_be_bytes());
    put(&mut bytes, ETHERNET + 4, length.to_be_bytes());
    put(&mut bytes, ETHERNET + 6, [protocol_of(encapsulation), HOPS]);
    put(&mut bytes, ETHERNET + 8, sensor.source.octets());
    put(&mut bytes, ETHERNET + 24, sensor.address.octets());
    bytes
}

#[inline(always)]
fn write_ethernet(bytes: &mut [u8], envelope: &Envelope, ether_type: u16) {
    put(bytes, 0, envelope.link_destination);
    put(bytes, 6, envelope.link_source);
    put(bytes, 12, ether_type.to_be_bytes());
}

/// The header checksum of RFC 791 section 3.1, of a header whose checksum field is zero.
#[inline(always)]
fn checksum_v4(bytes: &[u8; HEADERS_V4]) -> u16 {
    let mut sum = 0;
    let mut offset = ETHERNET;
    while offset < HEADERS_V4 {
        sum += u32::from(u16::from_be_bytes([bytes[offset], bytes[offset + 1]]));
        offset += 2;
    }
    // Ten words add up to less than 11 * 2^16, so that two folds suffice.
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = sum.to_be_bytes();
    !u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use nightgate_abi::Address;

    use super::{super::tests::ENVELOPE, *};

    fn sensor(source: Address, address: Address, encapsulation: Encapsulation) -> MirrorSensor {
        let encapsulation = encapsulation.number();
        MirrorSensor { source, address, encapsulation, ..MirrorSensor::default() }
    }

    #[test]
    fn ipv4_headers_are_as_the_rfcs_draw_them() {
        let ends = (Address::from_v4([10, 9, 0, 1]), Address::from_v4([10, 9, 0, 2]));
        #[rustfmt::skip]
        let expected = [
            2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
            0x45, 0, 0x06, 0x0e, 0x12, 0x34, 0x00, 0x00, 64, 17, 0x4e, 0x97, 10, 9, 0, 1, 10, 9, 0, 2,
        ];
        let vxlan = sensor(ends.0, ends.1, Encapsulation::Vxlan);
        assert_eq!(v4(&vxlan, &ENVELOPE, 0x1234), expected);
        assert_eq!(ENVELOPE.outer_length(Family::V4, Encapsulation::Vxlan), 0x060e);
        let gre = v4(&sensor(ends.0, ends.1, Encapsulation::Gre), &ENVELOPE, 0);
        assert_eq!((&gre[16..18], gre[23]), (&1_542_u16.to_be_bytes()[..], 47));
    }

    #[test]
    fn ipv6_headers_are_as_the_rfcs_draw_them() {
        let (source, address) = ([0xfd; 16], [0xfe; 16]);
        let vxlan =
            sensor(Address::from_v6(source), Address::from_v6(address), Encapsulation::Vxlan);
        let bytes = v6(&vxlan, &ENVELOPE);
        assert_eq!(bytes[12..22], [0x86, 0xdd, 0x60, 0, 0x48, 0xc0, 0x05, 0xfa, 17, 64]);
        assert_eq!((&bytes[22..38], &bytes[38..54]), (&source[..], &address[..]));
    }

    #[test]
    fn ipv4_header_checksum_verifies_for_every_identification() {
        let ends = (Address::from_v4([255; 4]), Address::from_v4([255, 255, 255, 254]));
        let sensor = sensor(ends.0, ends.1, Encapsulation::Geneve);
        for identification in 0..=u16::MAX {
            let bytes = v4(&sensor, &ENVELOPE, identification);
            let sum: u32 = bytes[14..34]
                .chunks(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "identification {identification}");
        }
    }
}
