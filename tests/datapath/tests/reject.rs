//! Answers to rejected packets, byte by byte.

use nightgate_abi::Reason::{self, *};
use nightgate_datapath::Verdict;
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, with_world};
use nightgate_packet::sum::Sum;
use tcp_flags::{ACK, FIN, RST, SYN};

const RULES: &str = "\
- { id: closed, from: lan, to: wan, protocol: tcp, destination_ports: [1-99], action: reject }
- { id: quiet, from: lan, to: wan, protocol: tcp, destination_ports: [100], action: reject, with: prohibited }
- { id: port, from: lan, to: [wan, local], protocol: udp, destination_ports: [53], action: reject }
- { id: host, from: lan, to: wan, protocol: udp, destination_ports: [54], action: reject, with: host-unreachable }
- { id: net, from: lan, to: wan, protocol: udp, destination_ports: [55], action: reject, with: network-unreachable }
- { id: rest, from: [lan, local], to: [wan, local], action: reject }
";

const V4: [&str; 2] = ["10.1.0.2:40000", "192.0.2.1:80"];
const V6: [&str; 2] = ["[2001:db8:1::2]:40000", "[2001:db8:9::1]:80"];

#[test]
fn a_refused_segment_is_reset_in_its_own_numbers() {
    with_world(RULES, |world| {
        // Without an acknowledgement the reset acknowledges the segment, SYN and data and all.
        let answer = rejected(world, &segment(&V4, SYN, 5), AnsweredReset);
        assert_eq!(answer[..34], v4_header(6, 20, 0));
        assert_eq!(
            without_sum(&answer[34..], 16),
            [
                &[0, 80, 0x9c, 0x40, 0, 0, 0, 0][..],
                &1_000_006_u32.to_be_bytes(),
                &[0x50, RST | ACK]
            ]
            .concat()
        );
        assert_eq!(transport_sum(&answer, 34, 6), [0xff; 2], "TCP checksum");

        let answer = rejected(world, &segment(&V4, ACK | FIN, 9), AnsweredReset);
        let expected = [&[0, 80, 0x9c, 0x40][..], &77_u32.to_be_bytes(), &[0, 0, 0, 0, 0x50, RST]];
        assert_eq!(without_sum(&answer[34..], 16), expected.concat());
        assert_eq!(transport_sum(&answer, 34, 6), [0xff; 2]);
    });
}

#[test]
fn options_and_extension_headers_are_not_in_a_reset() {
    with_world(RULES, |world| {
        let plain = rejected(world, &segment(&V4, SYN, 0), AnsweredReset);
        let frame = with_options(segment(&V4, SYN, 0), &[1, 1, 1, 1, 1, 1, 1, 0]);
        assert_eq!(rejected(world, &frame, AnsweredReset), plain);
        assert_eq!(rejected(world, &padded(segment(&V4, SYN, 0)), AnsweredReset), plain);

        let answer = rejected(world, &segment(&V6, SYN, 0), AnsweredReset);
        assert_eq!(answer[..54], v6_header(6, 20));
        assert_eq!(transport_sum(&answer, 54, 6), [0xff; 2]);
        let options = [0, 1, 1, 4, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0];
        let frame = extended(segment(&V6, SYN, 0), 60, &options);
        assert_eq!(rejected(world, &frame, AnsweredReset), answer);
    });
}

#[test]
fn an_icmp_error_quotes_the_refused_packet() {
    with_world(RULES, |world| {
        let address = [V4[0], "192.0.2.1:53"];
        for (frame, code) in [
            (udp(address[0], address[1]), 3),
            (udp(V4[0], "192.0.2.1:54"), 1),
            (udp(V4[0], "192.0.2.1:55"), 0),
            (tcp(V4[0], "192.0.2.1:100", SYN), 13),
            (other("10.1.0.2", "192.0.2.1", 47), 13),
            (icmp("10.1.0.2", "192.0.2.1", 8, 7), 13),
            (with_options(udp(address[0], address[1]), &[1, 1, 1, 0]), 3),
        ] {
            let answer = rejected(world, &frame, AnsweredUnreachable);
            let quote = &frame[14..];
            assert_eq!(answer[..34], v4_header(1, 8 + quote.len(), 0xc0));
            assert_eq!(answer[34..36], [3, code]);
            assert_eq!(answer[38..42], [0; 4]);
            assert_eq!(&answer[42..], quote);
            assert_eq!(sum(&answer[34..]).word(), [0xff; 2], "ICMP checksum");
        }
    });
}

#[test]
fn an_icmpv6_error_quotes_the_refused_packet() {
    with_world(RULES, |world| {
        for (frame, code) in [
            (udp(V6[0], "[2001:db8:9::1]:53"), 4),
            (udp(V6[0], "[2001:db8:9::1]:54"), 3),
            (udp(V6[0], "[2001:db8:9::1]:55"), 0),
            (tcp(V6[0], "[2001:db8:9::1]:100", SYN), 1),
            (extended(udp(V6[0], "[2001:db8:9::1]:53"), 60, &[0, 0, 1, 4, 0, 0, 0, 0]), 4),
        ] {
            let answer = rejected(world, &frame, AnsweredUnreachable);
            let quote = &frame[14..];
            assert_eq!(answer[..54], v6_header(58, 8 + quote.len()));
            assert_eq!(answer[54..56], [1, code]);
            assert_eq!(answer[58..62], [0; 4]);
            assert_eq!(&answer[62..], quote);
            assert_eq!(transport_sum(&answer, 54, 58), [0xff; 2], "ICMPv6 checksum");
        }
    });
}

#[test]
fn quotes_have_any_length_up_to_the_smallest_packet_every_host_takes() {
    with_world(RULES, |world| {
        for length in
            [1, 2, 3, 400, 483, 484, 485, 519, 520, 521, 1_000, 1_180, 1_191, 1_192, 1_193, 1_400]
        {
            let frame = datagram(["10.1.0.2:4000", "192.0.2.1:53"], length);
            let answer = rejected(world, &frame, AnsweredUnreachable);
            assert_eq!(answer.len(), 14 + (28 + 28 + length).min(576), "{length}");
            assert_eq!(answer[42..], frame[14..answer.len() - 28]);
            assert_eq!(padded_sum(&answer[34..]).word(), [0xff; 2], "{length}");

            let frame = datagram(["[2001:db8:1::2]:4000", "[2001:db8:9::1]:53"], length);
            let answer = rejected(world, &frame, AnsweredUnreachable);
            assert_eq!(answer.len(), 14 + (48 + 48 + length).min(1_280), "{length}");
            assert_eq!(answer[62..], frame[14..answer.len() - 48]);
            assert_eq!(transport_sum(&answer, 54, 58), [0xff; 2], "{length}");
        }
    });
}

#[test]
fn some_packets_get_no_answer() {
    with_world(RULES, |world| {
        let echo = |kind| icmp("10.1.0.2", "192.0.2.1", kind, 7);
        let echo6 = |kind| icmp("2001:db8:1::2", "2001:db8:9::1", kind, 7);
        let elsewhere = patched(udp(V4[0], "192.0.2.1:53"), 0, &[2, 0, 0, 0, 0, 9]);
        for (name, frame) in [
            ("a reset", segment(&V4, RST, 0)),
            ("a reset, v6", segment(&V6, RST | ACK, 0)),
            ("an echo reply", echo(0)),
            ("an ICMPv6 echo reply", echo6(129)),
            ("to a multicast group", udp(V4[0], "224.0.0.251:53")),
            ("to a multicast group, v6", udp(V6[0], "[ff05::fb]:53")),
            ("to everybody", udp(V4[0], "255.255.255.255:53")),
            ("from nobody", udp("0.0.0.0:68", "10.1.0.1:53")),
            ("to everybody on the link", patched(udp(V4[0], "192.0.2.1:53"), 0, &[0xff; 6])),
            ("to another host on the link", elsewhere),
        ] {
            let before = count(world, AnswerUndue);
            let outcome = world.receive(LAN, &frame);
            assert_eq!((outcome.reason, outcome.verdict), (Rejected, Verdict::Drop), "{name}");
            assert_eq!(outcome.frame, frame, "{name}");
            assert!(count(world, AnswerUndue) > before, "{name}");
        }
    });
}

#[test]
fn the_gateways_own_packets_and_forwarded_ones_get_no_answer_where_they_leave() {
    with_world(RULES, |world| {
        let own = world.send(WAN, &tcp("10.2.0.1:999", "192.0.2.1:443", SYN));
        assert_eq!((own.reason, own.verdict), (Rejected, Verdict::Drop));
        let forwarded = world.forward(LAN, WAN, &segment(&V4, SYN, 0));
        assert_eq!((forwarded.reason, forwarded.verdict), (Rejected, Verdict::Drop));
    });
}

#[test]
fn answers_stop_when_there_are_too_many() {
    with_world(RULES, |world| {
        let attempts = 5_000;
        for _ in 0..attempts {
            assert_eq!(world.receive(LAN, &segment(&V4, SYN, 0)).reason, Rejected);
        }
        let [answered, limited] = [AnsweredReset, AnswerLimited].map(|event| count(world, event));
        assert!(answered + limited >= attempts, "{answered} and {limited}");
        assert!(answered >= 250, "{answered} at once");
    });
}

/// Sends a packet that is rejected, and returns the answer.
fn rejected(world: &mut World<'_>, frame: &[u8], event: Reason) -> Vec<u8> {
    let before = count(world, event);
    let outcome = world.receive(LAN, frame);
    assert_eq!((outcome.reason, outcome.verdict), (Rejected, Verdict::Redirect));
    assert!(count(world, event) > before);
    outcome.frame
}

fn count(world: &World<'_>, reason: Reason) -> u64 {
    world.datapath.statistics().expect("statistics").get(reason).packets
}

/// A segment with sequence number 1,000,000, acknowledgement number 77 and some data.
fn segment([source, destination]: &[&str; 2], flags: u8, data: usize) -> Vec<u8> {
    let frame = tcp(source, destination, flags);
    let (l3, is_v4) = (14, source.starts_with('1'));
    let l4 = if is_v4 { 34 } else { 54 };
    let numbers = [1_000_000_u32.to_be_bytes(), 77_u32.to_be_bytes()].concat();
    let frame = patched(frame, l4 + 4, &numbers);
    let (field, length) = if is_v4 { (2, 40 + data) } else { (4, 20 + data) };
    let length = u16::try_from(length).expect("a short packet").to_be_bytes();
    [patched(frame, l3 + field, &length), vec![b'x'; data]].concat()
}

/// A UDP datagram with data that no two places have alike.
fn datagram([source, destination]: [&str; 2], length: usize) -> Vec<u8> {
    let frame = udp(source, destination);
    let is_v4 = source.starts_with('1');
    let l4 = if is_v4 { 34 } else { 54 };
    let data: Vec<u8> = (0..=250).step_by(7).chain(0..=250).cycle().take(length).collect();
    let bytes = |length: usize| u16::try_from(length).expect("a short packet").to_be_bytes();
    let frame = patched(cut(frame, l4 + 8), l4 + 4, &bytes(8 + length));
    let (field, total) = if is_v4 { (2, 28 + length) } else { (4, 8 + length) };
    [patched(frame, 14 + field, &bytes(total)), data].concat()
}

/// Ethernet and IPv4 headers of an answer.
fn v4_header(protocol: u8, length: usize, service: u8) -> [u8; 34] {
    let length = u16::try_from(20 + length).expect("a short packet").to_be_bytes();
    let mut header = [0; 34];
    header[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    let fixed = [0x45, service, length[0], length[1], 0, 0, 0x40, 0, 64, protocol];
    header[14..24].copy_from_slice(&fixed);
    header[26..].copy_from_slice(&[192, 0, 2, 1, 10, 1, 0, 2]);
    let checksum = sum(&header[14..]).checksum();
    header[24..26].copy_from_slice(&checksum);
    header
}

/// Ethernet and IPv6 headers of an answer.
fn v6_header(protocol: u8, length: usize) -> [u8; 54] {
    let length = u16::try_from(length).expect("a short packet").to_be_bytes();
    let mut header = [0; 54];
    header[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd]);
    header[14..22].copy_from_slice(&[0x60, 0, 0, 0, length[0], length[1], protocol, 64]);
    header[22..54].copy_from_slice(
        &[
            [0x20, 0x01, 0x0d, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            [0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        ]
        .concat(),
    );
    header
}

/// A TCP header up to its flags; the rest has to be zero but for the checksum at an offset.
fn without_sum(header: &[u8], at: usize) -> Vec<u8> {
    assert_eq!(header.len(), 20);
    let rest: Vec<u8> = header[14..at].iter().chain(&header[at + 2..]).copied().collect();
    assert_eq!(rest, [0; 4]);
    header[..14].to_vec()
}

/// The sum of a transport packet with its pseudo-header: all ones if the checksum is right.
fn transport_sum(frame: &[u8], offset: usize, protocol: u8) -> [u8; 2] {
    let addresses = if offset == 34 { &frame[26..34] } else { &frame[22..54] };
    let length = u16::try_from(frame.len() - offset).expect("a short packet").to_be_bytes();
    let pseudo = [addresses, &[0, protocol], &length, &frame[offset..]].concat();
    padded_sum(&pseudo).word()
}

fn sum(bytes: &[u8]) -> Sum {
    bytes.chunks(2).fold(Sum::default(), |sum, pair| sum.bytes(&[pair[0], pair[1]]))
}

fn padded_sum(bytes: &[u8]) -> Sum {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    sum(&bytes)
}
