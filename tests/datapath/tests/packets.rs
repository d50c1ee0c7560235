//! A table of packets, and what becomes of each.

use nightgate_abi::Reason::*;
use nightgate_datapath_tests::{
    LAN, PLAIN, WAN,
    fixture::{
        Way::{In, Out, Through},
        check,
    },
    frame::*,
};
use tcp_flags::{ACK, SYN};

const RULES: &str = "\
- { id: no-telnet, from: lan, to: wan, protocol: tcp, destination_ports: [23], action: drop }
- { id: web, from: lan, to: wan, protocol: tcp, destination_ports: [80, '440-449'], action: accept }
- { id: dns, from: lan, to: local, protocol: udp, destination_ports: [53], action: accept }
- { id: ping, from: [lan, wan], to: [local, wan], protocol: icmp, action: accept }
- { id: ping6, from: [lan, wan], to: [local, wan], protocol: icmpv6, action: accept }
- { id: gre, from: lan, to: wan, source: 10.1.0.0/28, protocol: 47, action: accept }
- { id: sctp6, from: lan, to: wan, destination: '2001:db8:9::/48', protocol: 132, action: accept }
- { id: own, from: local, to: wan, protocol: tcp, destination_ports: [443], action: accept }
";

const V4: (&str, &str) = ("10.1.0.2", "192.0.2.1");
const V6: (&str, &str) = ("2001:db8:1::2", "2001:db8:9::1");
/// Offset of the network header.
const L3: usize = 14;
/// Offset of the transport header behind IPv4.
const L4: usize = 34;
/// Offset of the transport header behind IPv6.
const L4_V6: usize = 54;

fn syn(port: u16) -> Vec<u8> {
    tcp("10.1.0.2:40000", &format!("192.0.2.1:{port}"), SYN)
}

fn syn6(port: u16) -> Vec<u8> {
    tcp("[2001:db8:1::2]:40000", &format!("[2001:db8:9::1]:{port}"), SYN)
}

fn solicitation(hop_limit: u8) -> Vec<u8> {
    patched(icmp("fe80::2", "ff02::1:ff00:1", 135, 0), L3 + 7, &[hop_limit])
}

/// A hop-by-hop or destination options header of eight bytes.
const OPTIONS: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];

fn extended_times(times: usize) -> Vec<u8> {
    (0..times).fold(syn6(80), |frame, _| extended(frame, 60, &OPTIONS))
}

#[test]
fn accepted_packets_pass_with_their_reason() {
    check(
        RULES,
        &[
            ("tcp to an accepted port", In(LAN), syn(80), Forwarded),
            ("first port of a range", In(LAN), syn(440), Forwarded),
            ("last port of a range", In(LAN), syn(449), Forwarded),
            ("tcp to an accepted port, v6", In(LAN), syn6(80), Forwarded),
            ("udp to the gateway", In(LAN), udp("10.1.0.2:5000", "10.1.0.1:53"), Local),
            (
                "udp to the gateway, v6",
                In(LAN),
                udp("[2001:db8:1::2]:5000", "[2001:db8:1::1]:53"),
                Local,
            ),
            (
                "udp to the gateway's other address",
                In(LAN),
                udp("10.1.0.2:5000", "10.2.0.1:53"),
                Local,
            ),
            ("echo to the gateway", In(WAN), icmp("10.2.0.9", "10.2.0.1", 8, 7), Local),
            (
                "echo to the gateway, v6",
                In(WAN),
                icmp("2001:db8:2::9", "2001:db8:2::1", 128, 7),
                Local,
            ),
            ("echo through", In(LAN), icmp(V4.0, V4.1, 8, 7), Forwarded),
            ("icmp that is no echo", In(LAN), icmp(V4.0, V4.1, 13, 0), Forwarded),
            ("protocol by number", In(LAN), other("10.1.0.2", V4.1, 47), Forwarded),
            ("protocol by number, v6", In(LAN), other(V6.0, V6.1, 132), Forwarded),
            ("the gateway's own", Out(WAN), tcp("10.2.0.1:999", "192.0.2.1:443", SYN), Sent),
            (
                "the gateway's own, v6",
                Out(WAN),
                tcp("[2001:db8:2::1]:9", "[2001:db8:9::1]:443", SYN),
                Sent,
            ),
            ("forwarded by the stack", Through(LAN, WAN), syn(80), Sent),
            ("forwarded by the stack, v6", Through(LAN, WAN), syn6(80), Sent),
            ("arp", In(LAN), arp(), Arp),
            ("arp out", Out(WAN), arp(), Arp),
            ("neighbour solicitation", In(WAN), solicitation(255), NeighbourDiscovery),
            ("neighbour solicitation out", Out(WAN), solicitation(255), NeighbourDiscovery),
            ("802.1Q", In(LAN), tagged(0x8100, 5, &syn(80)), Forwarded),
            ("QinQ", In(LAN), tagged(0x88a8, 6, &tagged(0x8100, 5, &syn6(80))), Forwarded),
            ("IPv4 options", In(LAN), with_options(syn(80), &[1, 1, 1, 0]), Forwarded),
            ("IPv6 hop-by-hop options", In(LAN), extended(syn6(80), 0, &OPTIONS), Forwarded),
            (
                "IPv6 authentication header",
                In(LAN),
                extended(syn6(80), 51, &[0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]),
                Forwarded,
            ),
            (
                "IPv6 fragment header of a whole packet",
                In(LAN),
                extended(syn6(80), 44, &[0; 8]),
                Forwarded,
            ),
            ("four IPv6 extension headers", In(LAN), extended_times(4), Forwarded),
            ("Ethernet padding", In(LAN), padded(syn(80)), Forwarded),
            ("unspecified source", In(LAN), icmp("0.0.0.0", "10.1.0.1", 8, 1), Local),
        ],
    );
}

#[test]
fn what_no_rule_accepts_is_refused_with_its_reason() {
    check(
        RULES,
        &[
            ("a rule that drops", In(LAN), syn(23), Rule),
            ("a rule that drops, v6", In(LAN), syn6(23), Rule),
            ("below a range", In(LAN), syn(439), NoRule),
            ("above a range", In(LAN), syn(450), NoRule),
            ("tcp rule, udp packet", In(LAN), udp("10.1.0.2:1", "192.0.2.1:80"), NoRule),
            ("from the wrong zone", In(WAN), tcp("10.2.0.9:1", "10.1.0.2:80", SYN), NoRule),
            ("to the wrong zone", In(LAN), udp("10.1.0.2:1", "192.0.2.1:53"), NoRule),
            ("back out of the same zone", In(LAN), tcp("10.1.0.2:1", "10.1.0.3:80", SYN), NoRule),
            ("source outside the prefix", In(LAN), other("10.1.0.16", V4.1, 47), NoRule),
            ("destination outside the prefix", In(LAN), other(V6.0, "2001:db8:10::1", 132), NoRule),
            ("unmatched protocol", In(LAN), other(V4.0, V4.1, 50), NoRule),
            (
                "the gateway's own, unmatched",
                Out(WAN),
                tcp("10.2.0.1:9", "192.0.2.1:80", SYN),
                NoRule,
            ),
            (
                "answer without a question",
                In(WAN),
                tcp("192.0.2.1:443", "10.2.0.1:9", SYN | ACK),
                NoRule,
            ),
            ("multicast", In(LAN), udp("10.1.0.2:5353", "224.0.0.251:5353"), NoRule),
            ("broadcast", In(LAN), udp("0.0.0.0:68", "255.255.255.255:67"), NoRule),
            ("listener discovery", In(LAN), icmp("fe80::2", "ff02::16", 143, 0), Local),
            ("forwarded neighbour solicitation", In(WAN), solicitation(254), Local),
            ("a route that refuses", In(LAN), tcp("10.1.0.2:1", "10.66.0.1:80", SYN), Unroutable),
            (
                "a route that refuses, v6",
                In(LAN),
                tcp("[2001:db8:1::2]:1", "[2001:db8:66::1]:80", SYN),
                Unroutable,
            ),
            (
                "out to an interface in no zone",
                In(LAN),
                tcp("10.1.0.2:1", "10.4.0.9:80", SYN),
                UnknownZone,
            ),
            (
                "in from an interface in no zone",
                Through(PLAIN, WAN),
                tcp("10.4.0.9:1", "192.0.2.1:80", SYN),
                UnknownZone,
            ),
            ("on an interface in no zone", In(PLAIN), syn(80), UnknownInterface),
        ],
    );
}

#[test]
fn malformed_packets_are_refused_with_their_reason() {
    check(
        RULES,
        &[
            ("EtherType", In(LAN), ethernet(0x88cc, &[0; 50]), EtherType),
            ("802.3 length", In(LAN), ethernet(38, &[0x42; 50]), EtherType),
            (
                "three tags",
                In(LAN),
                tagged(0x88a8, 1, &tagged(0x8100, 2, &tagged(0x8100, 3, &syn(80)))),
                VlanDepth,
            ),
            ("tag cut off", In(LAN), cut(tagged(0x8100, 5, &syn(80)), 16), VlanTruncated),
            (
                "arp for another protocol",
                In(LAN),
                patched(arp(), L3 + 2, &[0x86, 0xdd]),
                ArpMalformed,
            ),
            ("arp cut off", In(LAN), cut(arp(), 40), ArpMalformed),
            (
                "v4 header cut off",
                In(LAN),
                cut(tagged(0x8100, 5, &syn(80)), L3 + 4 + 19),
                Ipv4Truncated,
            ),
            ("v4 with version 5", In(LAN), patched(syn(80), L3, &[0x55]), Ipv4Version),
            ("v4 header length 16", In(LAN), patched(syn(80), L3, &[0x44]), Ipv4HeaderLength),
            (
                "v4 header beyond the frame",
                In(LAN),
                patched(syn(80), L3, &[0x4f]),
                Ipv4HeaderLength,
            ),
            (
                "v4 total length beyond the frame",
                In(LAN),
                patched(syn(80), L3 + 2, &[0, 41]),
                Ipv4TotalLength,
            ),
            (
                "v4 total length below the header",
                In(LAN),
                patched(syn(80), L3 + 2, &[0, 19]),
                Ipv4TotalLength,
            ),
            ("v4 first fragment", In(LAN), patched(syn(80), L3 + 6, &[0x20, 0]), FragmentLength),
            ("v4 later fragment", In(LAN), patched(syn(80), L3 + 6, &[0, 1]), FragmentUnknown),
            (
                "v6 header cut off",
                In(LAN),
                cut(tagged(0x8100, 5, &syn6(80)), L3 + 4 + 39),
                Ipv6Truncated,
            ),
            ("v6 with version 4", In(LAN), patched(syn6(80), L3, &[0x40]), Ipv6Version),
            (
                "v6 payload beyond the frame",
                In(LAN),
                patched(syn6(80), L3 + 4, &[0, 21]),
                Ipv6PayloadLength,
            ),
            (
                "v6 extension cut off",
                In(LAN),
                extended(syn6(80), 60, &[0, 200, 0, 0, 0, 0, 0, 0]),
                Ipv6ExtensionTruncated,
            ),
            ("five v6 extension headers", In(LAN), extended_times(5), Ipv6ExtensionDepth),
            (
                "v6 hop-by-hop behind another",
                In(LAN),
                extended(extended(syn6(80), 0, &OPTIONS), 60, &OPTIONS),
                Ipv6ExtensionOrder,
            ),
            (
                "v6 routing header type 0",
                In(LAN),
                extended(syn6(80), 43, &[0; 8]),
                Ipv6RoutingType0,
            ),
            ("tcp header cut off", In(LAN), ip4(6, &[0; 19]), TcpTruncated),
            ("tcp data offset 16", In(LAN), patched(syn(80), L4 + 12, &[0x40]), TcpDataOffset),
            (
                "tcp data offset beyond the packet",
                In(LAN),
                patched(syn6(80), L4_V6 + 12, &[0x60]),
                TcpDataOffset,
            ),
            ("udp header cut off", In(LAN), ip4(17, &[0; 7]), UdpTruncated),
            (
                "udp length below the header",
                In(LAN),
                patched(udp("10.1.0.2:1", "10.1.0.1:53"), L4 + 4, &[0, 7]),
                UdpLength,
            ),
            (
                "udp length beyond the packet",
                In(LAN),
                patched(udp("10.1.0.2:1", "10.1.0.1:53"), L4 + 4, &[0, 13]),
                UdpLength,
            ),
            ("icmp cut off", In(LAN), ip4(1, &[8; 7]), IcmpTruncated),
            ("icmpv6 in v4", In(LAN), ip4(58, &[128; 8]), IcmpFamily),
            ("icmp in v6", In(LAN), other(V6.0, V6.1, 1), IcmpFamily),
            ("loopback source", In(LAN), icmp("127.0.0.1", "10.1.0.1", 8, 1), MartianSource),
            ("multicast source", In(LAN), icmp("224.0.0.1", "10.1.0.1", 8, 1), MartianSource),
            ("broadcast source", In(LAN), icmp("255.255.255.255", "10.1.0.1", 8, 1), MartianSource),
            ("this network's source", In(LAN), icmp("0.0.0.1", "10.1.0.1", 8, 1), MartianSource),
            ("loopback source, v6", In(LAN), icmp("::1", "2001:db8:1::1", 128, 1), MartianSource),
            (
                "multicast source, v6",
                In(LAN),
                icmp("ff02::1", "2001:db8:1::1", 128, 1),
                MartianSource,
            ),
            (
                "loopback destination",
                In(LAN),
                icmp("10.1.0.2", "127.0.0.1", 8, 1),
                MartianDestination,
            ),
            ("loopback destination, v6", In(LAN), icmp(V6.0, "::1", 128, 1), MartianDestination),
            (
                "mapped source",
                In(LAN),
                icmp("::ffff:10.1.0.2", "2001:db8:1::1", 128, 1),
                MappedAddress,
            ),
            ("mapped destination", In(LAN), icmp(V6.0, "::ffff:10.1.0.1", 128, 1), MappedAddress),
            ("malformed on the way out", Out(WAN), patched(syn(80), L3, &[0x55]), Ipv4Version),
        ],
    );
}

#[test]
fn nothing_passes_before_the_first_commit() {
    nightgate_datapath_tests::with_uncommitted_world(|world| {
        for frame in [syn(80), syn6(80), arp(), solicitation(255)] {
            assert_eq!(world.receive(LAN, &frame).reason, NotCommitted);
            assert_eq!(world.send(WAN, &frame).reason, NotCommitted);
        }
    });
}

fn ip4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [source, destination] = [V4.0, V4.1].map(|text| text.parse().expect("an address"));
    ip(source, destination, protocol, payload)
}
