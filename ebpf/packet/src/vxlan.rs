//! VXLAN (RFC 7348): the headers in front of a mirrored frame.

use nightgate_abi::{Family, FlowKey, mirror::MirrorSession};

use crate::ethernet;

/// Outer Ethernet, IPv4, UDP and VXLAN headers.
pub const OUTER_V4: usize = ETHERNET + IPV4 + UDP + VXLAN;
/// Outer Ethernet, IPv6, UDP and VXLAN headers.
pub const OUTER_V6: usize = ETHERNET + IPV6 + UDP + VXLAN;
/// By how much the MTU of the path to a sensor with an IPv4 address has to exceed that of the mirrored interface,
/// in bytes: the outer headers but Ethernet, and the inner Ethernet header.
pub const OVERHEAD_V4: u32 = LENGTH_V4 as u32 + 14;
/// As [`OVERHEAD_V4`], for a sensor with an IPv6 address.
pub const OVERHEAD_V6: u32 = LENGTH_V6 as u32 + 14;
/// Largest inner frame whose length every outer header can say, in bytes.
pub const INNER_MAX: u16 = u16::MAX - LENGTH_V4;

/// Lowest source port of VXLAN: the first of the dynamic ports (RFC 7348 section 5).
pub const SOURCE_PORT_MIN: u16 = 49_152;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const VXLAN: usize = 8;
/// What the UDP length counts beside the inner frame.
const LENGTH_UDP: u16 = 16;
/// What the IPv4 total length counts beside the inner frame.
const LENGTH_V4: u16 = 20 + LENGTH_UDP;
/// Outer IPv6 packet without the inner frame.
const LENGTH_V6: u16 = 40 + LENGTH_UDP;

/// IP protocol number of UDP (IANA).
const PROTOCOL_UDP: u8 = 17;
/// Time to live and hop limit recommended by RFC 1700.
const HOPS: u8 = 64;
/// The I flag: the network identifier is valid. Every other bit is reserved and zero (RFC 7348 section 5);
/// sensors refuse frames in which they are not.
const FLAGS: u8 = 0x08;

/// What distinguishes the outer headers of one frame from those of another of its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// Link address of the sensor, or of the router before it.
    pub link_destination: [u8; 6],
    /// Link address of the interface it leaves by.
    pub link_source: [u8; 6],
    /// Length of the inner frame in bytes, at most [`INNER_MAX`].
    pub inner: u16,
    /// UDP source port, from [`source_port`].
    pub source_port: u16,
}

/// The outer UDP source port of a flow's frames: 49152 to 65535 (RFC 7348 section 5), the same for both
/// directions, so that a sensor hands both to the same thread.
#[inline(always)]
pub fn source_port(flow: &FlowKey) -> u16 {
    let ([a, b], [c, d]) = (flow.low.halves(), flow.high.halves());
    let ports = u64::from(flow.low_port) << 16 | u64::from(flow.high_port);
    let ports = ports | u64::from(flow.protocol) << 32;
    let mut hash = 0;
    for word in [a, b, c, d, ports] {
        hash = mix(hash ^ word);
    }
    let [high, low, ..] = hash.to_be_bytes();
    SOURCE_PORT_MIN | u16::from_be_bytes([high, low]) >> 2
}

/// Length of the outer IP packet in bytes, at most 65535: what the MTU of the path has to hold.
#[inline(always)]
pub fn outer_length(family: Family, envelope: &Envelope) -> u16 {
    let headers = match family {
        Family::V4 => LENGTH_V4,
        Family::V6 => LENGTH_V6,
    };
    envelope.inner.saturating_add(headers)
}

/// The headers of a frame for a sensor with an IPv4 address.
///
/// Fragments are allowed, as an inner frame of full size may not fit the path. So `identification` has to
/// differ between frames that are under way at the same time (RFC 6864 section 4.1).
#[inline(always)]
pub fn outer_v4(
    session: &MirrorSession,
    envelope: &Envelope,
    identification: u16,
) -> [u8; OUTER_V4] {
    let mut bytes = [0; OUTER_V4];
    write_ethernet(&mut bytes, envelope, ethernet::IPV4);
    let length = LENGTH_V4 + envelope.inner;
    put(&mut bytes, ETHERNET, [0x45, 0]);
    put(&mut bytes, ETHERNET + 2, length.to_be_bytes());
    put(&mut bytes, ETHERNET + 4, identification.to_be_bytes());
    put(&mut bytes, ETHERNET + 8, [HOPS, PROTOCOL_UDP]);
    put(&mut bytes, ETHERNET + 12, session.source.v4_octets());
    put(&mut bytes, ETHERNET + 16, session.sensor.v4_octets());
    let checksum = checksum_v4(&bytes);
    put(&mut bytes, ETHERNET + 10, checksum.to_be_bytes());
    write_udp_and_vxlan(&mut bytes, ETHERNET + IPV4, session, envelope);
    bytes
}

/// The headers of a frame for a sensor with an IPv6 address. The UDP checksum is zero, which RFC 6935 section 5
/// allows for tunnels: the inner frame has checksums of its own.
#[inline(always)]
pub fn outer_v6(session: &MirrorSession, envelope: &Envelope) -> [u8; OUTER_V6] {
    let mut bytes = [0; OUTER_V6];
    write_ethernet(&mut bytes, envelope, ethernet::IPV6);
    let length = LENGTH_UDP + envelope.inner;
    put(&mut bytes, ETHERNET, [0x60]);
    put(&mut bytes, ETHERNET + 4, length.to_be_bytes());
    put(&mut bytes, ETHERNET + 6, [PROTOCOL_UDP, HOPS]);
    put(&mut bytes, ETHERNET + 8, session.source.octets());
    put(&mut bytes, ETHERNET + 24, session.sensor.octets());
    write_udp_and_vxlan(&mut bytes, ETHERNET + IPV6, session, envelope);
    bytes
}

#[inline(always)]
fn write_ethernet(bytes: &mut [u8], envelope: &Envelope, ether_type: u16) {
    put(bytes, 0, envelope.link_destination);
    put(bytes, 6, envelope.link_source);
    put(bytes, 12, ether_type.to_be_bytes());
}

#[inline(always)]
fn write_udp_and_vxlan(
    bytes: &mut [u8],
    offset: usize,
    session: &MirrorSession,
    envelope: &Envelope,
) {
    let length = LENGTH_UDP + envelope.inner;
    put(bytes, offset, envelope.source_port.to_be_bytes());
    put(bytes, offset + 2, session.udp_port.to_be_bytes());
    put(bytes, offset + 4, length.to_be_bytes());
    put(bytes, offset + UDP, [FLAGS]);
    let [_, vni @ ..] = session.vni.to_be_bytes();
    put(bytes, offset + UDP + 4, vni);
}

#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8], offset: usize, value: [u8; N]) {
    bytes[offset..offset + N].copy_from_slice(&value);
}

/// The header checksum of RFC 791 section 3.1, of a header whose checksum field is zero.
#[inline(always)]
fn checksum_v4(bytes: &[u8; OUTER_V4]) -> u16 {
    let mut sum = 0;
    let mut offset = ETHERNET;
    while offset < ETHERNET + IPV4 {
        sum += u32::from(u16::from_be_bytes([bytes[offset], bytes[offset + 1]]));
        offset += 2;
    }
    // Ten words add up to less than 11 * 2^16, so that two folds suffice.
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = sum.to_be_bytes();
    !u16::from_be_bytes([high, low])
}

/// A bijection in which each bit of the input changes half of the highest bits of the output.
#[inline(always)]
fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[cfg(test)]
mod tests {
    use nightgate_abi::{Address, mirror::VXLAN_PORT};

    use super::*;

    const ENVELOPE: Envelope = Envelope {
        link_destination: [2, 0, 0, 0, 0, 9],
        link_source: [2, 0, 0, 0, 0, 1],
        inner: 1_514,
        source_port: 0xc123,
    };

    fn session(source: Address, sensor: Address) -> MirrorSession {
        MirrorSession {
            sensor,
            source,
            ifindex: 7,
            vni: 0x00ab_cdef,
            udp_port: VXLAN_PORT,
            pad: [0; 6],
        }
    }

    #[test]
    fn outer_ipv4_headers_are_as_the_rfcs_draw_them() {
        let session = session(Address::from_v4([10, 9, 0, 1]), Address::from_v4([10, 9, 0, 2]));
        #[rustfmt::skip]
        let expected = [
            2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
            0x45, 0, 0x06, 0x0e, 0x12, 0x34, 0x00, 0x00, 64, 17, 0x4e, 0x97, 10, 9, 0, 1, 10, 9, 0, 2,
            0xc1, 0x23, 0x12, 0xb5, 0x05, 0xfa, 0, 0,
            0x08, 0, 0, 0, 0xab, 0xcd, 0xef, 0,
        ];
        assert_eq!(outer_v4(&session, &ENVELOPE, 0x1234), expected);
        assert_eq!(outer_length(Family::V4, &ENVELOPE), 0x060e);
    }

    #[test]
    fn outer_ipv6_headers_are_as_the_rfcs_draw_them() {
        let (source, sensor) = ([0xfd; 16], [0xfe; 16]);
        let session = session(Address::from_v6(source), Address::from_v6(sensor));
        let bytes = outer_v6(&session, &ENVELOPE);
        assert_eq!(bytes[12..22], [0x86, 0xdd, 0x60, 0, 0, 0, 0x05, 0xfa, 17, 64]);
        assert_eq!((&bytes[22..38], &bytes[38..54]), (&source[..], &sensor[..]));
        assert_eq!(bytes[54..62], [0xc1, 0x23, 0x12, 0xb5, 0x05, 0xfa, 0, 0]);
        assert_eq!(bytes[62..], [0x08, 0, 0, 0, 0xab, 0xcd, 0xef, 0]);
    }

    #[test]
    fn ipv4_header_checksum_verifies_for_every_identification() {
        let session = session(Address::from_v4([255; 4]), Address::from_v4([255, 255, 255, 254]));
        for identification in 0..=u16::MAX {
            let bytes = outer_v4(&session, &ENVELOPE, identification);
            let sum: u32 = bytes[14..34]
                .chunks(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "identification {identification}");
        }
    }

    #[test]
    fn both_directions_of_a_flow_share_a_dynamic_port() {
        for host in 1..=255 {
            let (a, b) = (Address::from_v4([10, 0, 0, host]), Address::from_v4([10, 1, 0, 1]));
            let (there, _) = FlowKey::new(6, (a, 40_000), (b, 80));
            let (back, _) = FlowKey::new(6, (b, 80), (a, 40_000));
            assert_eq!(source_port(&there), source_port(&back));
            assert!(source_port(&there) >= 49_152);
        }
    }

    #[test]
    fn flows_that_differ_in_one_port_spread_over_the_ports() {
        let (a, b) = (Address::from_v4([10, 0, 0, 1]), Address::from_v4([10, 1, 0, 1]));
        let mut buckets = [0; 16];
        for port in 0..16_000 {
            let (key, _) = FlowKey::new(6, (a, port), (b, 80));
            buckets[usize::from(source_port(&key) & 15)] += 1;
        }
        assert!(buckets.iter().all(|count| (800..=1_200).contains(count)), "{buckets:?}");
    }
}
