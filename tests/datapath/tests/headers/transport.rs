//! TCP, UDP, ICMP and ICMPv6.

use nightgate_abi::Reason::*;
use nightgate_datapath_tests::{
    LAN, WAN,
    fixture::{
        Way::{In, Out},
        check,
    },
    frame::*,
};

use crate::{CLIENT, L4, L4_V6, OPEN, SERVER, syn, syn6, v4, v6};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// A TCP header of 4-byte words with data behind it.
fn segment(words: u8, data: usize) -> Vec<u8> {
    let fixed = [
        0x9c,
        0x40,
        0,
        80,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        words << 4,
        tcp_flags::SYN,
        0xff,
        0xff,
        0,
        0,
        0,
        0,
    ];
    [&fixed[..], &vec![1; usize::from(words) * 4 - 20 + data]].concat()
}

/// A UDP header that announces a length, with data behind it.
fn datagram(announced: u16, data: usize) -> Vec<u8> {
    let [high, low] = announced.to_be_bytes();
    [&[0x9c, 0x40, 0, 53, high, low, 0, 0][..], &vec![1; data]].concat()
}

#[test]
fn tcp_headers_of_every_length_pass() {
    let names: Vec<_> = (5..=15).map(|words| format!("{words} words")).collect();
    let v4 = names
        .iter()
        .zip(5..)
        .map(|(name, words)| (name.as_str(), In(LAN), v4(TCP, &segment(words, 0)), Forwarded));
    let v6 = names
        .iter()
        .zip(5..)
        .map(|(name, words)| (name.as_str(), In(LAN), v6(TCP, &segment(words, 9)), Forwarded));
    check(OPEN, &v4.chain(v6).collect::<Vec<_>>());
}

#[test]
fn tcp_headers_that_are_not_whole_are_refused() {
    let offset = |frame, at: usize, words: u8| patched(frame, at + 12, &[words << 4]);
    check(
        OPEN,
        &[
            ("nothing", In(LAN), v4(TCP, &[]), TcpTruncated),
            ("ports alone", In(LAN), v4(TCP, &[0, 1, 0, 2]), TcpTruncated),
            ("19 bytes, v6", In(LAN), v6(TCP, &segment(5, 0)[..19]), TcpTruncated),
            ("19 bytes, out", Out(WAN), v4(TCP, &segment(5, 0)[..19]), TcpTruncated),
            ("19 bytes and padding", In(LAN), padded(v4(TCP, &segment(5, 0)[..19])), TcpTruncated),
            ("offset 0", In(LAN), offset(syn(), L4, 0), TcpDataOffset),
            ("offset 4", In(LAN), offset(syn(), L4, 4), TcpDataOffset),
            ("offset 4, v6", In(LAN), offset(syn6(), L4_V6, 4), TcpDataOffset),
            ("offset beyond the packet", In(LAN), offset(syn(), L4, 6), TcpDataOffset),
            ("offset 15 beyond the packet, v6", In(LAN), offset(syn6(), L4_V6, 15), TcpDataOffset),
            ("offset into the padding", In(LAN), padded(offset(syn(), L4, 6)), TcpDataOffset),
        ],
    );
}

#[test]
fn udp_lengths_are_those_of_the_packet_or_shorter() {
    check(
        OPEN,
        &[
            ("without data", In(LAN), v4(UDP, &datagram(8, 0)), Forwarded),
            ("without data, v6", In(LAN), v6(UDP, &datagram(8, 0)), Forwarded),
            ("with data", In(LAN), v4(UDP, &datagram(1008, 1000)), Forwarded),
            ("with data, v6", In(LAN), v6(UDP, &datagram(1008, 1000)), Forwarded),
            ("shorter than the packet", In(LAN), v4(UDP, &datagram(8, 4)), Forwarded),
            ("nothing", In(LAN), v4(UDP, &[]), UdpTruncated),
            ("7 bytes", In(LAN), v4(UDP, &datagram(7, 0)[..7]), UdpTruncated),
            ("7 bytes, v6", In(LAN), v6(UDP, &datagram(7, 0)[..7]), UdpTruncated),
            ("7 bytes, out", Out(WAN), v4(UDP, &datagram(7, 0)[..7]), UdpTruncated),
            ("length 0", In(LAN), v4(UDP, &datagram(0, 4)), UdpLength),
            ("length 0: a jumbogram, v6", In(LAN), v6(UDP, &datagram(0, 4)), UdpLength),
            ("length 7", In(LAN), v4(UDP, &datagram(7, 4)), UdpLength),
            ("one too long", In(LAN), v4(UDP, &datagram(13, 4)), UdpLength),
            ("one too long, v6", In(LAN), v6(UDP, &datagram(13, 4)), UdpLength),
            ("into the padding", In(LAN), padded(v4(UDP, &datagram(13, 4))), UdpLength),
        ],
    );
}

#[test]
fn icmp_messages_are_at_least_a_header_and_of_their_family() {
    check(
        OPEN,
        &[
            ("echo", In(LAN), icmp(CLIENT[0], SERVER[0], 8, 0), Forwarded),
            ("echo, v6", In(LAN), icmp(CLIENT[1], SERVER[1], 128, 0), Forwarded),
            (
                "echo with data",
                In(LAN),
                v4(ICMP, &[&[8, 0, 0, 0, 0, 1, 0, 1][..], &[7; 1000]].concat()),
                Forwarded,
            ),
            ("echo to the gateway", In(WAN), icmp("10.2.0.9", "10.2.0.1", 8, 9), Local),
            ("echo of the gateway", Out(WAN), icmp("10.2.0.1", SERVER[0], 8, 9), Sent),
            ("echo of the gateway, v6", Out(WAN), icmp("2001:db8:2::1", SERVER[1], 128, 9), Sent),
            ("nothing", In(LAN), v4(ICMP, &[]), IcmpTruncated),
            ("7 bytes", In(LAN), v4(ICMP, &[8, 0, 0, 0, 0, 0, 0]), IcmpTruncated),
            ("7 bytes, v6", In(LAN), v6(ICMPV6, &[128, 0, 0, 0, 0, 0, 0]), IcmpTruncated),
            ("icmpv6 in v4", In(LAN), v4(ICMPV6, &[128, 0, 0, 0, 0, 0, 0, 0]), IcmpFamily),
            ("icmp in v6", In(LAN), v6(ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]), IcmpFamily),
            ("icmp in v6, out", Out(WAN), v6(ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]), IcmpFamily),
        ],
    );
}

#[test]
fn ports_match_from_the_first_to_the_last() {
    const RULES: &str = "\
- { id: low, from: lan, to: wan, protocol: udp, destination_ports: ['1-3'], action: accept }
- { id: high, from: lan, to: wan, protocol: udp, destination_ports: [65535], action: accept }
- { id: source, from: lan, to: wan, protocol: udp, source_ports: ['1024-2047'], action: accept }
- { id: every, from: lan, to: local, protocol: udp, action: accept }
";
    let to = |port: u16| udp("10.1.0.2:9", &format!("192.0.2.1:{port}"));
    let from = |port: u16| udp(&format!("[2001:db8:1::2]:{port}"), "[2001:db8:9::1]:9");
    check(
        RULES,
        &[
            ("port 0 outside", In(LAN), to(0), NoRule),
            ("first", In(LAN), to(1), Forwarded),
            ("last", In(LAN), to(3), Forwarded),
            ("behind the last", In(LAN), to(4), NoRule),
            ("before the highest", In(LAN), to(65534), NoRule),
            ("the highest", In(LAN), to(65535), Forwarded),
            ("source before the first, v6", In(LAN), from(1023), NoRule),
            ("first source, v6", In(LAN), from(1024), Forwarded),
            ("last source, v6", In(LAN), from(2047), Forwarded),
            ("source behind the last, v6", In(LAN), from(2048), NoRule),
            ("port 0, of a rule without ports", In(LAN), udp("10.1.0.2:0", "10.1.0.1:0"), Local),
            ("tcp to the same", In(LAN), tcp("10.1.0.2:9", "192.0.2.1:2", tcp_flags::SYN), NoRule),
        ],
    );
}
