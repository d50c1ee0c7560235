//! IPv6: lengths, chains of extension headers, addresses, protocols.

use nightgate_abi::Reason::{self, *};
use nightgate_datapath_tests::{
    LAN, WAN,
    fixture::{
        Way::{In, Out, Through},
        check,
    },
    frame::*,
};

use crate::{CLIENT, L3, OPEN, SERVER, syn6, v6};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// Options of eight bytes: next header, length, and padding of four bytes.
const OPTIONS: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];
/// A router alert (RFC 2711), as listener discovery carries it.
const ROUTER_ALERT: [u8; 8] = [0, 0, 5, 2, 0, 0, 1, 0];
/// An authentication header without a check value (RFC 4302).
const AUTHENTICATED: [u8; 12] = [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];

/// A routing header of a type, without segments left.
fn routing(kind: u8) -> [u8; 8] {
    [0, 0, kind, 0, 0, 0, 0, 0]
}

/// A packet with extension headers, the outermost first.
fn chain(extensions: &[(u8, &[u8])]) -> Vec<u8> {
    extensions.iter().rev().fold(syn6(), |frame, (number, bytes)| extended(frame, *number, bytes))
}

#[test]
fn chains_of_extension_headers_are_looked_behind() {
    let mut long = vec![0, 31];
    long.resize(256, 0);
    let routed = [2, 3, 4].map(|kind| chain(&[(ROUTING, &routing(kind))]));
    let [home, rpl, segments] = routed;
    let whole: [(u8, &[u8]); 4] = [
        (HOP_BY_HOP, &OPTIONS),
        (DESTINATION, &OPTIONS),
        (ROUTING, &routing(4)),
        (AUTHENTICATION, &AUTHENTICATED),
    ];
    check(
        OPEN,
        &[
            ("hop-by-hop", In(LAN), chain(&whole[..1]), Forwarded),
            ("hop-by-hop, destination", In(LAN), chain(&whole[..2]), Forwarded),
            ("and routing", In(LAN), chain(&whole[..3]), Forwarded),
            ("and authentication", In(LAN), chain(&whole), Forwarded),
            ("the same out", Through(LAN, WAN), chain(&whole), Sent),
            ("behind a tag", In(LAN), tagged(0x8100, 5, &chain(&whole)), Forwarded),
            ("router alert", In(LAN), chain(&[(HOP_BY_HOP, &ROUTER_ALERT)]), Forwarded),
            ("home address", In(LAN), home, Forwarded),
            ("low-power routing", In(LAN), rpl, Forwarded),
            ("segment routing", In(LAN), segments, Forwarded),
            ("authentication twice", In(LAN), chain(&[whole[3], whole[3]]), Forwarded),
            ("options of 256 bytes", In(LAN), chain(&[(DESTINATION, &long)]), Forwarded),
        ],
    );
}

#[test]
fn chains_that_hide_something_are_refused() {
    let options = (DESTINATION, &OPTIONS[..]);
    let first = (HOP_BY_HOP, &OPTIONS[..]);
    let mut far = vec![0, 63];
    far.resize(512, 0);
    let beyond = |units| patched(chain(&[options]), L3 + 41, &[units]);
    let empty = patched(v6(DESTINATION, &[]), L3 + 4, &[0, 0]);
    check(
        OPEN,
        &[
            ("five", In(LAN), chain(&[options; 5]), Ipv6ExtensionDepth),
            ("nine", In(LAN), chain(&[options; 9]), Ipv6ExtensionDepth),
            (
                "hop-by-hop second",
                In(LAN),
                chain(&[options, (HOP_BY_HOP, &OPTIONS)]),
                Ipv6ExtensionOrder,
            ),
            ("hop-by-hop twice", In(LAN), chain(&[first; 2]), Ipv6ExtensionOrder),
            ("routing type 0", In(LAN), chain(&[(ROUTING, &routing(0))]), Ipv6RoutingType0),
            (
                "routing type 0 behind another",
                In(LAN),
                chain(&[options, (ROUTING, &routing(0))]),
                Ipv6RoutingType0,
            ),
            ("routing type 0 out", Out(WAN), chain(&[(ROUTING, &routing(0))]), Ipv6RoutingType0),
            ("longer than the packet", In(LAN), beyond(4), Ipv6ExtensionTruncated),
            ("much longer than the packet", In(LAN), beyond(255), Ipv6ExtensionTruncated),
            ("announced and missing", In(LAN), empty, Ipv6ExtensionTruncated),
            (
                "authentication too long",
                In(LAN),
                chain(&[(AUTHENTICATION, &[0, 200, 0, 0, 0, 0, 0, 0])]),
                Ipv6ExtensionTruncated,
            ),
            (
                "so long that TCP is out of sight",
                In(LAN),
                chain(&[(DESTINATION, &far)]),
                Ipv6ExtensionDepth,
            ),
        ],
    );
}

#[test]
fn lengths_that_contradict_the_frame_are_refused() {
    check(
        OPEN,
        &[
            ("version 0", In(LAN), patched(syn6(), L3, &[0x00]), Ipv6Version),
            ("version 15", In(LAN), patched(syn6(), L3, &[0xf0]), Ipv6Version),
            ("payload one too long", In(LAN), patched(syn6(), L3 + 4, &[0, 21]), Ipv6PayloadLength),
            (
                "payload of 64 KiB",
                In(LAN),
                patched(syn6(), L3 + 4, &[0xff, 0xff]),
                Ipv6PayloadLength,
            ),
            ("no payload for TCP", In(LAN), patched(syn6(), L3 + 4, &[0, 0]), TcpTruncated),
            ("too long, out", Out(WAN), patched(syn6(), L3 + 4, &[0, 21]), Ipv6PayloadLength),
            ("padding behind the packet", In(LAN), padded(syn6()), Forwarded),
            (
                "traffic class and flow label",
                In(LAN),
                patched(syn6(), L3, &[0x6f, 0xff, 0xff, 0xff]),
                Forwarded,
            ),
            ("last hop", In(LAN), patched(syn6(), L3 + 7, &[1]), Forwarded),
            ("most hops", In(LAN), patched(syn6(), L3 + 7, &[255]), Forwarded),
        ],
    );
}

#[test]
fn addresses_that_are_on_no_wire_are_refused() {
    let own = "2001:db8:1::1";
    let from = |source: &'static str, expected| echo(source, source, own, expected);
    let to =
        |destination: &'static str, expected| echo(destination, CLIENT[1], destination, expected);
    check(
        OPEN,
        &[
            from("::", Local),
            from("::1", MartianSource),
            from("fe80::2", Local),
            from("fd00::1", Local),
            from("ff00::", MartianSource),
            from("ff02::1", MartianSource),
            from("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", MartianSource),
            from("::ffff:192.0.2.1", MappedAddress),
            from("::ffff:0.0.0.0", MappedAddress),
            to("::", MartianDestination),
            to("::1", MartianDestination),
            to("::ffff:10.1.0.1", MappedAddress),
            to("ff02::1", Local),
            to("2001:db8:2::1", Local),
            ("loopback, out", Out(WAN), icmp("::1", SERVER[1], 128, 1), MartianSource),
        ],
    );
}

#[test]
fn protocols_are_told_apart_by_number_behind_their_extensions() {
    const RULES: &str = "\
- { id: gre, from: lan, to: wan, protocol: 47, action: accept }
- { id: esp, from: lan, to: wan, protocol: 50, action: accept }
- { id: no-mobility, from: lan, to: wan, protocol: 135, action: drop }
- { id: ospf, from: lan, to: local, protocol: 89, action: accept }
- { id: sctp, from: lan, to: wan, protocol: 132, action: accept }
- { id: web, from: lan, to: wan, protocol: tcp, destination_ports: [80], action: accept }
";
    let through = |protocol| other(CLIENT[1], SERVER[1], protocol);
    let behind = |protocol| extended(through(protocol), DESTINATION, &OPTIONS);
    check(
        RULES,
        &[
            ("gre", In(LAN), through(47), Forwarded),
            ("gre behind options", In(LAN), behind(47), Forwarded),
            ("esp", In(LAN), through(50), Forwarded),
            ("mobility", In(LAN), through(135), Rule),
            ("ospf to its group", In(LAN), other(CLIENT[1], "ff02::5", 89), Local),
            ("ospf through", In(LAN), through(89), NoRule),
            ("sctp behind options", In(LAN), behind(132), Forwarded),
            ("no next header", In(LAN), v6(59, &[]), NoRule),
            ("ip in ipv6", In(LAN), through(4), NoRule),
            ("tcp behind options", In(LAN), chain(&[(DESTINATION, &OPTIONS)]), Forwarded),
            ("host identity", In(LAN), through(139), NoRule),
            ("the last number", In(LAN), behind(255), NoRule),
        ],
    );
}

fn echo(
    name: &'static str,
    source: &str,
    destination: &str,
    expected: Reason,
) -> (&'static str, nightgate_datapath_tests::fixture::Way, Vec<u8>, Reason) {
    (name, In(LAN), icmp(source, destination, 128, 1), expected)
}
