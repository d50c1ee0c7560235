//! IPv4: lengths, options, addresses, protocols.

use nightgate_abi::Reason::{self, *};
use nightgate_datapath_tests::{
    LAN, WAN,
    fixture::{
        Way::{self, In, Out},
        check,
    },
    frame::*,
};

use crate::{CLIENT, L3, OPEN, SERVER, syn, v4};

/// Router alert (RFC 2113), as RSVP and IGMP carry it.
const ROUTER_ALERT: [u8; 4] = [148, 4, 0, 0];
/// Record route with one place (RFC 791), and padding.
const RECORD_ROUTE: [u8; 8] = [7, 7, 4, 0, 0, 0, 0, 0];
/// Timestamp without places (RFC 791).
const TIMESTAMP: [u8; 4] = [68, 4, 5, 0];

#[test]
fn every_header_length_is_looked_behind() {
    let options = [1; 40];
    let names = (0..=10).map(|words| format!("{words} words of options")).collect::<Vec<_>>();
    let cases: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(words, name)| {
            (name.as_str(), In(LAN), with_options(syn(), &options[..4 * words]), Forwarded)
        })
        .collect();
    check(OPEN, &cases);
}

#[test]
fn fields_that_say_nothing_of_the_form_do_not_matter() {
    check(
        OPEN,
        &[
            ("router alert", In(LAN), with_options(syn(), &ROUTER_ALERT), Forwarded),
            ("record route", In(LAN), with_options(syn(), &RECORD_ROUTE), Forwarded),
            ("timestamp", In(LAN), with_options(syn(), &TIMESTAMP), Forwarded),
            ("end of options", In(LAN), with_options(syn(), &[0; 4]), Forwarded),
            ("don't fragment", In(LAN), patched(syn(), L3 + 6, &[0x40, 0]), Forwarded),
            ("identification", In(LAN), patched(syn(), L3 + 4, &[0xff, 0xff]), Forwarded),
            ("class and congestion bits", In(LAN), patched(syn(), L3 + 1, &[0xbb]), Forwarded),
            ("last hop", In(LAN), patched(syn(), L3 + 8, &[1]), Forwarded),
            ("most hops", In(LAN), patched(syn(), L3 + 8, &[255]), Forwarded),
            ("padding behind the packet", In(LAN), padded(syn()), Forwarded),
        ],
    );
}

#[test]
fn lengths_that_contradict_the_frame_are_refused() {
    let beyond = with_options(syn(), &[1; 8]);
    check(
        OPEN,
        &[
            ("version 0", In(LAN), patched(syn(), L3, &[0x05]), Ipv4Version),
            ("version 6", In(LAN), patched(syn(), L3, &[0x65]), Ipv4Version),
            ("version 15", In(LAN), patched(syn(), L3, &[0xf5]), Ipv4Version),
            ("header length 0", In(LAN), patched(syn(), L3, &[0x40]), Ipv4HeaderLength),
            ("header length 16", In(LAN), patched(syn(), L3, &[0x44]), Ipv4HeaderLength),
            (
                "header longer than the frame",
                In(LAN),
                cut(patched(syn(), L3, &[0x4a]), L3 + 39),
                Ipv4HeaderLength,
            ),
            ("total length 0", In(LAN), patched(syn(), L3 + 2, &[0, 0]), Ipv4TotalLength),
            (
                "total length below the options",
                In(LAN),
                patched(beyond, L3 + 2, &[0, 27]),
                Ipv4TotalLength,
            ),
            (
                "total length one too long",
                In(LAN),
                patched(syn(), L3 + 2, &[0, 41]),
                Ipv4TotalLength,
            ),
            (
                "total length of 64 KiB",
                In(LAN),
                patched(syn(), L3 + 2, &[0xff, 0xff]),
                Ipv4TotalLength,
            ),
            ("too long, out", Out(WAN), patched(syn(), L3 + 2, &[0, 41]), Ipv4TotalLength),
        ],
    );
}

#[test]
fn addresses_that_are_on_no_wire_are_refused() {
    let from = |source: &'static str, expected| {
        case(source, In(LAN), icmp(source, "10.1.0.1", 8, 1), expected)
    };
    let to = |destination: &'static str, expected| {
        case(destination, In(LAN), icmp(CLIENT[0], destination, 8, 1), expected)
    };
    check(
        OPEN,
        &[
            from("0.0.0.0", Local),
            from("0.0.0.1", MartianSource),
            from("0.255.255.255", MartianSource),
            from("1.0.0.0", Local),
            from("126.255.255.255", Local),
            from("127.0.0.0", MartianSource),
            from("127.255.255.255", MartianSource),
            from("128.0.0.0", Local),
            from("169.254.1.1", Local),
            from("223.255.255.255", Local),
            from("224.0.0.0", MartianSource),
            from("239.255.255.255", MartianSource),
            from("240.0.0.0", MartianSource),
            from("255.255.255.255", MartianSource),
            to("0.0.0.0", MartianDestination),
            to("0.0.0.1", MartianDestination),
            to("127.0.0.1", MartianDestination),
            to("127.255.255.255", MartianDestination),
            to("224.0.0.1", Local),
            to("255.255.255.255", Local),
            to("10.1.0.255", Local),
            to("10.2.0.1", Local),
            case(
                "loopback source, out",
                Out(WAN),
                icmp("127.0.0.1", SERVER[0], 8, 1),
                MartianSource,
            ),
        ],
    );
}

#[test]
fn protocols_are_told_apart_by_number() {
    const RULES: &str = "\
- { id: igmp, from: lan, to: local, protocol: 2, action: accept }
- { id: gre, from: lan, to: wan, protocol: 47, action: accept }
- { id: esp, from: lan, to: wan, protocol: 50, action: accept }
- { id: no-ah, from: lan, to: wan, protocol: 51, action: drop }
- { id: ospf, from: [lan, wan], to: local, protocol: 89, action: accept }
- { id: vrrp, from: lan, to: local, protocol: 112, action: accept }
- { id: own-vrrp, from: local, to: lan, protocol: 112, action: accept }
- { id: sctp, from: lan, to: wan, protocol: 132, action: accept }
- { id: last, from: lan, to: wan, protocol: 255, action: accept }
";
    let through = |protocol| other(CLIENT[0], SERVER[0], protocol);
    check(
        RULES,
        &[
            ("igmp", In(LAN), other(CLIENT[0], "224.0.0.22", 2), Local),
            ("gre", In(LAN), through(47), Forwarded),
            ("gre back without a question", In(WAN), other("192.0.2.9", CLIENT[0], 47), NoRule),
            ("esp", In(LAN), through(50), Forwarded),
            ("authentication header", In(LAN), through(51), Rule),
            ("ospf to its group", In(LAN), other(CLIENT[0], "224.0.0.5", 89), Local),
            ("ospf to a router", In(WAN), other("10.2.0.9", "10.2.0.1", 89), Local),
            ("ospf through", In(LAN), through(89), NoRule),
            ("vrrp", In(LAN), other(CLIENT[0], "224.0.0.18", 112), Local),
            ("vrrp from elsewhere", In(WAN), other("10.2.0.9", "224.0.0.18", 112), NoRule),
            ("the gateway's own vrrp", Out(LAN), other("10.1.0.1", "224.0.0.18", 112), Sent),
            (
                "the gateway's own vrrp elsewhere",
                Out(WAN),
                other("10.2.0.1", "224.0.0.18", 112),
                NoRule,
            ),
            ("sctp", In(LAN), through(132), Forwarded),
            ("the last number", In(LAN), through(255), Forwarded),
            ("the first number", In(LAN), through(0), NoRule),
            ("ip in ip", In(LAN), through(4), NoRule),
            ("ipv6 in ip", In(LAN), through(41), NoRule),
            ("l2tp", In(LAN), through(115), NoRule),
            ("protocol without payload", In(LAN), v4(47, &[]), Forwarded),
        ],
    );
}

fn case(
    name: &'static str,
    way: Way,
    frame: Vec<u8>,
    expected: Reason,
) -> (&'static str, Way, Vec<u8>, Reason) {
    (name, way, frame, expected)
}
