//! Fragments: the first is judged, the later ones go its way.

use nightgate_abi::Reason::{
    self, AnswerUndue, Forwarded, FragmentControl, FragmentLength, FragmentOverlap, FragmentTiny,
    FragmentUnknown, IcmpQuote, Ipv6ExtensionOrder, Local, NoRule, Rejected, Rule, Sent,
    TcpAcknowledgement, ZoneMismatch,
};
use nightgate_datapath::FlowEntry;
use nightgate_datapath_tests::{
    LAN, WAN, World,
    fragment::{
        Follows::{More, Nothing},
        fragment, fragment_at, fragments,
    },
    frame::*,
    with_world,
};
use tcp_flags::{ACK, SYN};

const RULES: &str = "
- { id: no-telnet, from: lan, to: wan, destination_ports: [23], protocol: udp, action: drop }
- { id: no-mail, from: lan, to: wan, destination_ports: [25], protocol: udp, action: reject }
- { id: closed, from: lan, to: wan, destination_ports: [9], protocol: udp, action: drop }
- { id: out, from: lan, to: [wan, local], action: accept }
- { id: own, from: local, to: wan, action: accept }
";

/// A client, a server, an address of the gateway; hosts first, then their ends.
struct Family {
    client: &'static str,
    server: &'static str,
    hosts: [&'static str; 2],
    gateway: &'static str,
    echo: u8,
    /// Type of an error.
    error: u8,
}

const FAMILIES: [Family; 2] = [
    Family {
        client: "10.1.0.2:4000",
        server: "192.0.2.1:80",
        hosts: ["10.1.0.2", "192.0.2.1"],
        gateway: "10.1.0.1:53",
        echo: 8,
        error: 3,
    },
    Family {
        client: "[2001:db8:1::2]:4000",
        server: "[2001:db8:9::1]:80",
        hosts: ["2001:db8:1::2", "2001:db8:9::1"],
        gateway: "[2001:db8:1::1]:53",
        echo: 128,
        error: 1,
    },
];

/// Bytes of each fragment.
const SIZE: usize = 1_400;
/// Data that takes three of them.
const LONG: [u8; 3_000] = [7; 3_000];

#[test]
fn later_fragments_follow_the_first_one_and_count_on_its_flow() {
    each_family(|world, family| {
        for whole in [
            datagram(family.client, family.server, &LONG),
            icmp_data(family.hosts[0], family.hosts[1], family.echo, 7, &LONG),
            segment(family.client, family.server, ACK, [1, 0], 3_000),
            esp(family),
        ] {
            begin_anew(world);
            let before = hits(world, "out");
            let parts = fragments(&whole, 77, SIZE);
            assert_eq!(parts.len(), 3);
            for part in &parts {
                assert_eq!(world.receive(LAN, part).reason, Forwarded);
                let sent = world.forward(LAN, WAN, part);
                assert_eq!((sent.reason, &sent.frame), (Sent, part), "as it was");
            }
            let flow = only_flow(world);
            let bytes = parts.iter().map(|part| part.len() as u64).sum::<u64>();
            assert_eq!((flow.origin.sent.packets, flow.origin.sent.bytes), (3, bytes));
            assert_eq!(hits(world, "out") - before, 3);
        }
    });
}

#[test]
fn answers_local_and_own_packets_may_come_in_fragments() {
    each_family(|world, family| {
        world.receive(LAN, &udp(family.client, family.server));
        for part in fragments(&datagram(family.server, family.client, &LONG), 5, SIZE) {
            assert_eq!(world.receive(WAN, &part).reason, Forwarded);
            assert_eq!(world.forward(WAN, LAN, &part).reason, Sent);
        }
        for part in fragments(&datagram(family.client, family.gateway, &LONG), 5, SIZE) {
            assert_eq!(world.receive(LAN, &part).reason, Local);
        }
        for part in fragments(&datagram(family.gateway, family.server, &LONG), 5, SIZE) {
            assert_eq!(world.send(WAN, &part).reason, Sent);
        }
        let mut packets = world.datapath.flows().expect("flows");
        packets.sort_by_key(|flow| flow.origin.sent.packets);
        let counts =
            packets.iter().map(|flow| (flow.origin.sent.packets, flow.responder.sent.packets));
        assert_eq!(counts.collect::<Vec<_>>(), [(1, 3), (3, 0), (3, 0)]);
    });
}

#[test]
fn a_packet_that_came_in_whole_may_leave_in_fragments() {
    each_family(|world, family| {
        let whole = datagram(family.client, family.server, &LONG);
        assert_eq!(world.receive(LAN, &whole).reason, Forwarded);
        for part in fragments(&whole, 5, SIZE) {
            assert_eq!(world.forward(LAN, WAN, &part).reason, Sent);
        }
        assert_eq!(only_flow(world).origin.sent.packets, 1, "counted where it came in");
    });
}

#[test]
fn later_ones_may_come_in_any_order_but_not_before_the_first() {
    each_family(|world, family| {
        let [first, second, last] = parts(&datagram(family.client, family.server, &LONG), 9);
        assert_eq!(world.receive(LAN, &last).reason, FragmentUnknown, "too early");
        for part in [&first, &last, &second, &last, &first] {
            assert_eq!(world.receive(LAN, part).reason, Forwarded);
        }
    });
}

#[test]
fn a_fragment_of_no_known_packet_is_refused() {
    each_family(|world, family| {
        let [client, server] = [family.client, family.server];
        let [first, second, _] = parts(&datagram(client, server, &LONG), 9);
        assert_eq!(world.receive(LAN, &first).reason, Forwarded);
        let another = datagram("10.1.0.3:4000", "192.0.2.1:80", &LONG);
        let another = if client.starts_with('[') {
            datagram("[2001:db8:1::3]:4000", server, &LONG)
        } else {
            another
        };
        let refused = |world: &mut World<'_>, frame: &[u8]| world.receive(LAN, frame).reason;
        assert_eq!(refused(world, &parts(&another, 9)[1]), FragmentUnknown, "another source");
        let other = datagram(client, server, &LONG);
        assert_eq!(refused(world, &parts(&other, 10)[1]), FragmentUnknown, "another number");
        // The receiver of IPv6 does not look at the protocol (RFC 8200 section 4.5).
        let (at, expected) =
            if client.starts_with('[') { (54, Forwarded) } else { (23, FragmentUnknown) };
        assert_eq!(refused(world, &patched(second.clone(), at, &[6])), expected);
        assert_eq!(world.receive(WAN, &second).reason, ZoneMismatch, "from elsewhere");
        assert_eq!(world.forward(LAN, WAN, &second).reason, FragmentUnknown, "not seen there");
        assert_eq!(refused(world, &second), Forwarded);
    });
}

#[test]
fn what_the_rules_refuse_is_refused_to_its_end() {
    each_family(|world, family| {
        for (port, reason) in [("23", Rule), ("25", Rejected)] {
            let server = family.server.replace(":80", &format!(":{port}"));
            let [first, second, last] = parts(&datagram(family.client, &server, &LONG), 9);
            assert_eq!(world.receive(LAN, &first).reason, reason);
            let undue = count(world, AnswerUndue);
            for part in [second, last] {
                assert_eq!(world.receive(LAN, &part).reason, reason);
            }
            // No answer goes to later fragments (RFC 1812 section 4.3.2.7).
            let expected = if reason == Rejected { 2 } else { 0 };
            assert_eq!(count(world, AnswerUndue) - undue, expected);
            assert_eq!(world.datapath.flows().expect("flows").len(), 0);
        }
        world.commit(" []");
        for part in parts(&datagram(family.client, family.server, &LONG), 9) {
            assert_eq!(world.receive(LAN, &part).reason, NoRule);
        }
    });
}

#[test]
fn the_latest_first_fragment_of_a_number_counts() {
    each_family(|world, family| {
        let refused = family.server.replace(":80", ":23");
        let good = parts(&datagram(family.client, family.server, &LONG), 9);
        let bad = parts(&datagram(family.client, &refused, &LONG), 9);
        for (parts, reason) in [(&good, Forwarded), (&bad, Rule), (&good, Forwarded)] {
            assert_eq!(world.receive(LAN, &parts[0]).reason, reason);
            assert_eq!(world.receive(LAN, &parts[1]).reason, reason);
        }
    });
}

#[test]
fn a_first_fragment_has_its_whole_transport_header() {
    each_family(|world, family| {
        let [client, server] = [family.client, family.server];
        let tcp = segment(client, server, SYN, [1, 0], 100);
        let data = if client.starts_with('[') { 54 } else { 34 };
        let with_options = patched(tcp.clone(), data + 12, &[0xa0]);
        for (whole, end) in [(&tcp, 8), (&tcp, 16), (&with_options, 24), (&with_options, 32)] {
            let first = fragment(whole, 3, 0..end, More);
            assert_eq!(world.receive(LAN, &first).reason, FragmentTiny, "{end}");
            let rest = fragment(whole, 3, end..120, Nothing);
            assert_eq!(world.receive(LAN, &rest).reason, FragmentUnknown, "{end}");
        }
        // Those whose header is there may be as small.
        let whole = datagram(client, server, &LONG);
        for part in [fragment(&whole, 4, 0..8, More), fragment(&whole, 4, 8..3008, Nothing)] {
            assert_eq!(world.receive(LAN, &part).reason, Forwarded);
        }
        let first = fragment(&tcp, 5, 0..24, More);
        assert_eq!(world.receive(LAN, &first).reason, Forwarded);
    });
}

#[test]
fn a_fragment_that_overlaps_the_first_ends_the_packet() {
    each_family(|world, family| {
        let tcp = segment(family.client, family.server, SYN, [1, 0], 100);
        for (offset, length) in [(8, 16), (8, 96), (16, 8), (16, 104)] {
            begin_anew(world);
            let first = fragment(&tcp, 3, 0..24, More);
            assert_eq!(world.receive(LAN, &first).reason, Forwarded);
            let overlap = fragment_at(&tcp, 3, offset, &vec![0xff; length], More);
            assert_eq!(world.receive(LAN, &overlap).reason, FragmentOverlap);
            let rest = fragment(&tcp, 3, 24..120, Nothing);
            assert_eq!(world.receive(LAN, &rest).reason, FragmentOverlap, "RFC 5722");
            assert_eq!(only_flow(world).origin.sent.packets, 1);
        }
    });
}

#[test]
fn lengths_that_no_packet_has_are_refused() {
    each_family(|world, family| {
        let whole = datagram(family.client, family.server, &LONG);
        let mut refused = |offset, length, follows| {
            let part = fragment_at(&whole, 3, offset, &vec![1; length], follows);
            assert_eq!(world.receive(LAN, &part).reason, FragmentLength, "{offset} {length}");
        };
        refused(0, 1_401, More);
        refused(1_400, 7, More);
        refused(0, 0, More);
        refused(1_400, 0, Nothing);
        refused(65_528, 8, Nothing);
        refused(65_528 - 1_400, 1_500, Nothing);
        // As long as a packet may be: 65,535 bytes with the header of IPv4, without that of IPv6.
        let last = if family.client.starts_with('[') { 65_535 } else { 65_515 };
        let start = last - last % 8 - 800;
        let part = |end: usize| fragment_at(&whole, 3, start, &vec![1; end - start], Nothing);
        assert_eq!(world.receive(LAN, &part(last)).reason, FragmentUnknown);
        assert_eq!(world.receive(LAN, &part(last + 1)).reason, FragmentLength);
    });
}

#[test]
fn a_whole_packet_behind_a_fragment_header_is_one() {
    let Family { client, server, .. } = FAMILIES[1];
    let whole = datagram(client, server, &LONG[..100]);
    let atomic = |frame: &[u8]| fragment(frame, 3, 0..frame.len() - 54, Nothing);
    with_world(RULES, |world| {
        assert_eq!(world.receive(LAN, &atomic(&whole)).reason, Forwarded);
        let answer = datagram(server, client, b"yes");
        assert_eq!(world.receive(WAN, &atomic(&answer)).reason, Forwarded);
        // It is no first fragment: none follows it (RFC 6946 section 4).
        let later = fragment_at(&whole, 3, 104, &[0; 8], Nothing);
        assert_eq!(world.receive(LAN, &later).reason, FragmentUnknown);
        let twice = fragment(&atomic(&whole), 4, 0..116, Nothing);
        assert_eq!(world.receive(LAN, &twice).reason, Ipv6ExtensionOrder);
    });
}

#[test]
fn a_fragment_header_may_be_anywhere_among_the_extensions() {
    let Family { client, server, .. } = FAMILIES[1];
    const HOP_BY_HOP: u8 = 0;
    const DESTINATION: u8 = 60;
    let options = [0, 0, 1, 4, 0, 0, 0, 0];
    let behind = |frame: Vec<u8>| extended(frame, DESTINATION, &options);
    let before = |frame: Vec<u8>| extended(frame, HOP_BY_HOP, &options);
    with_world(RULES, |world| {
        // Options behind it are part of what is in fragments.
        let whole = behind(datagram(client, server, &LONG));
        for part in fragments(&whole, 3, SIZE) {
            assert_eq!(world.receive(LAN, &before(part)).reason, Forwarded);
        }
        // Of those, nothing may be missing (RFC 7112): here, the datagram's header.
        let tiny = fragment(&whole, 4, 0..8, More);
        assert_eq!(world.receive(LAN, &tiny).reason, FragmentTiny);
        let flow = only_flow(world);
        assert_eq!(flow.origin.sent.packets, 3);
    });
}

#[test]
fn control_messages_that_are_never_long_are_not_taken_in_fragments() {
    each_family(|world, family| {
        let whole = icmp_data(family.hosts[0], family.hosts[1], family.error, 0, &LONG);
        for part in &fragments(&whole, 3, SIZE)[..1] {
            assert_eq!(world.receive(LAN, part).reason, FragmentControl);
        }
    });
    with_world(RULES, |world| {
        let solicitation = icmp_data("fe80::2", "ff02::1:ff00:1", 135, 0, &[0; 24]);
        let solicitation = patched(solicitation, 21, &[255]);
        for follows in [Nothing, More] {
            let part = fragment(&solicitation, 3, 0..32, follows);
            assert_eq!(world.receive(LAN, &part).reason, FragmentControl, "RFC 6980");
        }
    });
}

#[test]
fn no_fragment_goes_by_rules_that_are_no_longer_in_force_or_a_flow_that_has_ended() {
    each_family(|world, family| {
        let [first, second, last] = parts(&datagram(family.client, family.server, &LONG), 9);
        assert_eq!(world.receive(LAN, &first).reason, Forwarded);
        world.commit(RULES);
        assert_eq!(world.receive(LAN, &second).reason, FragmentUnknown);
        assert_eq!(world.receive(LAN, &first).reason, Forwarded);
        assert_eq!(world.datapath.kill_flows(|_| true).expect("ended"), 1);
        assert_eq!(world.receive(LAN, &last).reason, FragmentUnknown);
    });
}

#[test]
fn errors_about_a_first_fragment_pass_and_about_a_later_one_do_not() {
    each_family(|world, family| {
        let parts = parts(&datagram(family.client, family.server, &LONG), 9);
        for part in &parts {
            assert_eq!(world.receive(LAN, part).reason, Forwarded);
        }
        let about = |part: &[u8]| {
            let [client, _] = family.hosts;
            let router = if client.contains(':') { "2001:db8:77::1" } else { "203.0.113.1" };
            icmp_data(router, client, family.error, 0, &part[14..14 + 64])
        };
        assert_eq!(world.receive(WAN, &about(&parts[0])).reason, Forwarded);
        assert_eq!(world.receive(WAN, &about(&parts[1])).reason, IcmpQuote);
    });
}

#[test]
fn a_segment_in_fragments_counts_to_its_end() {
    each_family(|world, family| {
        let [client, server] = [family.client, family.server];
        world.receive(LAN, &segment(client, server, SYN, [1_000, 0], 0));
        world.receive(WAN, &segment(server, client, SYN | ACK, [5_000, 1_001], 0));
        let acknowledged = |world: &mut World<'_>, number| {
            world.receive(WAN, &segment(server, client, ACK, [5_001, number], 0)).reason
        };
        let parts = parts(&segment(client, server, ACK, [1_001, 5_001], 3_000), 9);
        assert_eq!(world.receive(LAN, &parts[0]).reason, Forwarded);
        assert_eq!(acknowledged(world, 4_001), TcpAcknowledgement, "not yet sent");
        for part in &parts[1..] {
            assert_eq!(world.receive(LAN, part).reason, Forwarded);
        }
        assert_eq!(acknowledged(world, 4_002), TcpAcknowledgement);
        assert_eq!(acknowledged(world, 4_001), Forwarded);
    });
}

/// Calls a test for each family, without flows of the one before.
fn each_family(mut test: impl FnMut(&mut World<'_>, &Family) + Send) {
    with_world(RULES, |world| {
        for family in &FAMILIES {
            begin_anew(world);
            test(world, family);
        }
    });
}

fn begin_anew(world: &mut World<'_>) {
    world.commit(RULES);
    world.datapath.kill_flows(|_| true).expect("killed");
}

/// A packet of a protocol whose headers are not looked at.
fn esp(family: &Family) -> Vec<u8> {
    const ESP: u8 = 50;
    let [source, destination] = family.hosts.map(|host| host.parse().expect("an address"));
    ip(source, destination, ESP, &LONG)
}

/// A frame in three fragments.
fn parts(frame: &[u8], identification: u16) -> [Vec<u8>; 3] {
    fragments(frame, identification, SIZE).try_into().expect("three fragments")
}

fn only_flow(world: &World<'_>) -> FlowEntry {
    let flows = world.datapath.flows().expect("flows");
    let [flow] = flows.as_slice() else { panic!("one flow: {flows:#?}") };
    flow.clone()
}

fn hits(world: &World<'_>, rule: &str) -> u64 {
    let hits = world.datapath.rule_hits().expect("counters");
    let (_, hits) = hits.into_iter().find(|(id, _)| id.as_str() == rule).expect("a rule");
    hits.counter.packets
}

fn count(world: &World<'_>, reason: Reason) -> u64 {
    world.datapath.statistics().expect("statistics").get(reason).packets
}
