//! The parser on host slices: what it makes of frames, and that nothing makes it read where it must not.

use std::cell::Cell;

use nightgate_abi::{Address, Facts, Family, Reason, ZoneId};
use nightgate_packet::{
    Fragment, Frame, HEADERS_MAX, Packet, PacketMeta, Segment, parse, quote::quote, tcp_flags,
};
use proptest::prelude::*;

/// Bytes after the start of a header that are read at most.
const HEADER_FIELDS_MAX: usize = 64;
const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

#[test]
fn ipv4_tcp_is_described() {
    let mut frame = ipv4(6, &tcp());
    assert_eq!(
        parse(&frame.as_slice()),
        Ok(Packet::Ip(PacketMeta {
            source: Address::from_v4([10, 0, 0, 1]),
            destination: Address::from_v4([10, 0, 0, 2]),
            source_port: 0x1234,
            destination_port: 443,
            protocol: 6,
            tcp_flags: tcp_flags::SYN,
            segment: Segment { header_length: 20, ..Segment::default() },
            transport: 34,
            icmp_type: 0,
            icmp_code: 0,
            dscp: 0,
            source_mac: SOURCE_MAC,
            fragment: Fragment::WHOLE,
            family: Family::V4,
            network: 14,
        }))
    );
    frame.truncate(40);
    assert_eq!(parse(&frame.as_slice()), Err(Reason::Ipv4TotalLength));
}

#[test]
fn code_points_are_read_in_both_families() {
    let udp = [0, 53, 0x12, 0x34, 0, 8, 0, 0];
    for dscp in [0_u8, 1, 46, 63] {
        let mut v4 = ipv4(17, &udp);
        v4[15] = dscp << 2 | 3;
        let mut v6 = ipv6(17, &udp);
        (v6[14], v6[15]) = (0x60 | dscp >> 2, dscp << 6 | 0x3f);
        for frame in [v4, v6] {
            let Ok(Packet::Ip(meta)) = parse(&frame.as_slice()) else { panic!("{frame:?}") };
            assert_eq!(meta.dscp, dscp);
        }
    }
}

#[test]
fn only_packets_from_interfaces_have_a_source_mac_for_rules() {
    let Ok(Packet::Ip(meta)) = parse(&ipv4(1, &[3, 4, 0, 0, 0, 0, 0, 0]).as_slice()) else {
        panic!("a message")
    };
    let subject = meta.subject(ZoneId::FIRST, ZoneId::LOCAL);
    assert_eq!((subject.source_port, subject.destination_port), (0, 0x0304));
    assert_eq!(subject.facts, Facts::new(SOURCE_MAC, 0, 0));
    assert_eq!(meta.subject(ZoneId::LOCAL, ZoneId::FIRST).facts, Facts::default());
}

#[test]
fn ipv6_udp_is_described_behind_extension_headers() {
    let udp = [0, 53, 0x12, 0x34, 0, 8, 0, 0];
    let plain = ipv6(17, &udp);
    let hop_by_hop = ipv6(0, &[&[60, 0, 0, 0, 0, 0, 0, 0][..], &[17, 1], &[0; 14], &udp].concat());
    for frame in [plain, hop_by_hop] {
        let Ok(Packet::Ip(meta)) = parse(&frame.as_slice()) else { panic!("{frame:?}") };
        assert_eq!((meta.protocol, meta.family), (17, Family::V6));
        assert_eq!((meta.source_port, meta.destination_port), (53, 0x1234));
        assert_eq!(meta.source.octets()[15], 1);
    }
}

#[test]
fn queries_carry_their_identifier_as_ports() {
    for (frame, protocol) in [
        (ipv4(1, &[8, 0, 0, 0, 0x12, 0x34, 0, 1]), 1),
        (ipv6(58, &[129, 0, 0, 0, 0x12, 0x34, 0, 1]), 58),
    ] {
        let Ok(Packet::Ip(meta)) = parse(&frame.as_slice()) else { panic!("{frame:?}") };
        assert_eq!(meta.protocol, protocol);
        assert_eq!((meta.source_port, meta.destination_port), (0x1234, 0x1234));
    }
    let Ok(Packet::Ip(error)) = parse(&ipv4(1, &[3, 0, 0, 0, 0x12, 0x34, 0, 1]).as_slice()) else {
        panic!("an ICMP error")
    };
    assert_eq!((error.source_port, error.destination_port), (0, 0));
    assert_eq!((error.icmp_type, error.icmp_code), (3, 0));
}

#[test]
fn messages_between_two_hosts_are_one_flow_only_if_one_answers_the_other() {
    let key = |message: [u8; 8]| {
        let Ok(Packet::Ip(meta)) = parse(&ipv4(1, &message).as_slice()) else { panic!("ICMP") };
        meta.flow_key().0
    };
    let echo = key([8, 0, 0, 0, 0, 7, 0, 1]);
    assert_eq!(echo, key([0, 0, 0, 0, 0, 7, 0, 2]));
    for other in [[8, 0, 0, 0, 0, 8, 0, 1], [13, 0, 0, 0, 0, 7, 0, 1], [3, 0, 0, 0, 0, 7, 0, 1]] {
        assert_ne!(echo, key(other));
    }
    assert_ne!(key([3, 0, 0, 0, 0, 0, 0, 0]), key([3, 1, 0, 0, 0, 0, 0, 0]));
    assert_ne!(key([3, 0, 0, 0, 0, 0, 0, 0]), key([11, 0, 0, 0, 0, 0, 0, 0]));
}

#[test]
fn both_directions_have_one_flow_key() {
    let Ok(Packet::Ip(meta)) = parse(&ipv4(6, &tcp()).as_slice()) else { panic!("a TCP segment") };
    let ((there, sender), (back, replier)) = (meta.flow_key(), meta.reversed().flow_key());
    assert_eq!(there, back);
    assert_ne!(sender, replier);
}

#[test]
fn every_shorter_frame_is_refused() {
    for frame in [ipv4(6, &tcp()), ipv6(6, &tcp()), tagged(&ipv6(0, &extended_tcp())), arp()] {
        parse(&frame.as_slice()).expect("a good frame");
        for length in 0..frame.len() {
            assert!(parse(&&frame[..length]).is_err(), "{length} of {frame:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        watched(&bytes);
    }

    #[test]
    fn damaged_frames_are_read_within_bounds(
        base in 0_usize..7,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        length in any::<prop::sample::Index>(),
    ) {
        let mut frame = match base {
            0 => ipv4(6, &tcp()),
            1 => ipv6(6, &tcp()),
            2 => tagged(&ipv6(0, &extended_tcp())),
            4 => ipv4(1, &[&[3, 4, 0, 0, 0, 0, 5, 0][..], &back(&ipv4(6, &tcp()))].concat()),
            5 => ipv6(58, &[&[2, 0, 0, 0, 0, 0, 5, 0][..], &back(&ipv6(0, &extended_tcp()))].concat()),
            3 => ipv6(0, &[[60, 255, 0, 0, 0, 0, 0, 0]; 200].concat()),
            _ => arp(),
        };
        for (index, byte) in damage {
            *index.get_mut(&mut frame) = byte;
        }
        frame.truncate(length.index(frame.len()) + 1);
        watched(&frame);
    }
}

/// Parses a frame, and checks that what was read is in the frame and near its start, and that what is
/// accepted makes sense.
fn watched(bytes: &[u8]) {
    let frame = Watched { bytes, furthest: Cell::new(0) };
    let result = parse(&frame);
    assert!(frame.furthest.get() <= HEADERS_MAX + HEADER_FIELDS_MAX, "{}", frame.furthest.get());
    match result {
        Ok(Packet::Ip(meta)) => {
            assert_eq!(meta.source.family(), meta.family);
            assert_eq!(meta.destination.family(), meta.family);
            assert!(bytes.len() >= 34);
            if meta.is_icmp_error() {
                let mut quoted = meta;
                let is_quoted = quote(&frame, &meta, &mut quoted).is_ok();
                let furthest = frame.furthest.get();
                assert!(furthest <= HEADERS_MAX + HEADER_FIELDS_MAX, "{furthest}");
                assert!(!is_quoted || quoted.source == meta.destination);
            }
        }
        Ok(Packet::NeighbourDiscovery) => assert!(bytes.len() >= 62),
        Ok(Packet::Arp) => assert!(bytes.len() >= 42),
        Err(reason) => assert_eq!(reason.kind(), nightgate_abi::reason::Kind::Drop),
    }
}

struct Watched<'a> {
    bytes: &'a [u8],
    furthest: Cell<usize>,
}

impl Frame for Watched<'_> {
    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.furthest.set(self.furthest.get().max(offset + N));
        self.bytes.read(offset)
    }
}

/// The packet of a frame, with its addresses exchanged, so that an error about it goes to its sender.
fn back(frame: &[u8]) -> Vec<u8> {
    let mut packet = frame[14..].to_vec();
    let (start, length) = if packet[0] >> 4 == 4 { (12, 4) } else { (8, 16) };
    let (source, destination) = packet[start..start + 2 * length].split_at_mut(length);
    source.swap_with_slice(destination);
    packet
}

fn ethernet(ether_type: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&[0; 6][..], &SOURCE_MAC, &ether_type, payload].concat()
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(20 + payload.len()).expect("a short payload");
    let header = [0x45, 0, 0, length, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    ethernet([8, 0], &[&header[..], payload].concat())
}

fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let mut header = [0; 40];
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, next_header, 64]);
    (header[8], header[23], header[24], header[39]) = (0x20, 1, 0x20, 2);
    ethernet([0x86, 0xdd], &[&header[..], payload].concat())
}

fn tagged(frame: &[u8]) -> Vec<u8> {
    let (macs, rest) = frame.split_at(12);
    [macs, &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2], rest].concat()
}

fn arp() -> Vec<u8> {
    ethernet([8, 6], &[&[0, 1, 8, 0, 6, 4, 0, 1][..], &[0; 20]].concat())
}

fn tcp() -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[..4].copy_from_slice(&[0x12, 0x34, 1, 0xbb]);
    (segment[12], segment[13]) = (0x50, tcp_flags::SYN);
    segment
}

fn extended_tcp() -> Vec<u8> {
    [&[51, 0, 0, 0, 0, 0, 0, 0][..], &[6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &tcp()].concat()
}
