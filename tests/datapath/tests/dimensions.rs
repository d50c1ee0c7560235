//! What rules ask of the packet that opens a flow, and rules that only count.

use nightgate_abi::Reason::{Forwarded, Local, NoRule, Rule, Sent};
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, with_world};
use tcp_flags::{ACK, RST, SYN};

const ENDS: [[&str; 2]; 2] =
    [["10.1.0.2:1000", "10.2.0.9:80"], ["[2001:db8:1::2]:1000", "[2001:db8:2::9]:80"]];

#[test]
fn messages_are_told_apart_by_type_and_code() {
    let rules = "\
- { id: v4, from: lan, to: wan, protocol: icmp, icmp_types: [echo-request, 13/4], action: accept }
- { id: v6, from: lan, to: wan, protocol: icmpv6, icmp_types: [160, echo-request], action: accept }";
    with_world(rules, |world| {
        for (ends, accepted, refused) in [
            (["10.1.0.2", "10.2.0.9"], [[8, 0], [8, 7], [13, 4]], [[0, 0], [13, 3], [2, 0]]),
            (
                ["2001:db8:1::2", "2001:db8:2::9"],
                [[128, 0], [160, 0], [160, 9]],
                [[129, 0], [130, 0], [143, 0]],
            ),
        ] {
            let message =
                |bytes: [u8; 2]| message(ends[0], ends[1], bytes, u16::from_be_bytes(bytes));
            for bytes in accepted {
                assert_eq!(world.receive(LAN, &message(bytes)).reason, Forwarded, "{bytes:?}");
            }
            for bytes in refused {
                assert_eq!(world.receive(LAN, &message(bytes)).reason, NoRule, "{bytes:?}");
            }
        }
    });
}

#[test]
fn flags_count_for_the_first_packet_and_the_flow_outlives_a_commit() {
    let rules =
        "- { id: web, from: lan, to: wan, protocol: tcp, tcp_flags: 'syn,!ack', action: accept }";
    with_world(rules, |world| {
        for [client, server] in ENDS {
            let segment = |flags| tcp(client, server, flags);
            for flags in [ACK, SYN | ACK, RST] {
                assert_eq!(world.receive(LAN, &segment(flags)).reason, NoRule, "{flags}");
            }
            assert_eq!(world.receive(LAN, &segment(SYN)).reason, Forwarded);
            assert_eq!(world.receive(WAN, &tcp(server, client, SYN | ACK)).reason, Forwarded);
            assert_eq!(world.receive(LAN, &segment(ACK)).reason, Forwarded);
            world.commit(rules);
            assert_eq!(world.receive(WAN, &tcp(server, client, ACK)).reason, Forwarded);
            world.commit(rules);
            assert_eq!(world.receive(LAN, &segment(ACK)).reason, Forwarded);
        }
    });
}

#[test]
fn an_echo_that_is_judged_again_by_its_answer_is_still_the_echo_it_was() {
    let rules = "- { id: ping, from: lan, to: wan, protocol: icmp, icmp_types: echo-request, action: accept }";
    with_world(rules, |world| {
        let (ask, answer) =
            (icmp("10.1.0.2", "10.2.0.9", 8, 7), icmp("10.2.0.9", "10.1.0.2", 0, 7));
        assert_eq!(world.receive(LAN, &ask).reason, Forwarded);
        world.commit(rules);
        assert_eq!(world.receive(WAN, &answer).reason, Forwarded);
        assert_eq!(world.receive(LAN, &icmp("10.1.0.2", "10.2.0.9", 0, 8)).reason, NoRule);
    });
}

#[test]
fn code_points_are_told_apart_in_both_families() {
    let rules = "- { id: voice, from: lan, to: wan, dscp: [ef, cs1], action: accept }";
    with_world(rules, |world| {
        for [client, server] in ENDS {
            let marked = |dscp: u8, client: &str| marked(udp(client, server), dscp);
            for dscp in [0, 10, 47, 63] {
                assert_eq!(world.receive(LAN, &marked(dscp, client)).reason, NoRule, "{dscp}");
            }
            assert_eq!(world.receive(LAN, &marked(46, client)).reason, Forwarded);
            // The flow is known now, whatever its later packets carry.
            assert_eq!(world.receive(LAN, &marked(0, client)).reason, Forwarded);
            let other = client.replace("1000", "1001");
            assert_eq!(world.receive(LAN, &marked(8, &other)).reason, Forwarded);
        }
    });
}

#[test]
fn mac_addresses_are_those_of_packets_that_came_in() {
    let rules = "\
- { id: printer, from: [lan, local], to: [wan, local], source_mac: ['02:00:00:00:00:09', '02:00:00:00:00:02'], \
  action: accept }";
    with_world(rules, |world| {
        for [client, server] in ENDS {
            let known = udp(client, server);
            let stranger = from_host(udp(&client.replace("1000", "1001"), server), 3);
            assert_eq!(world.receive(LAN, &stranger).reason, NoRule);
            assert_eq!(world.receive(LAN, &known).reason, Forwarded);
            world.commit(rules);
            assert_eq!(world.forward(LAN, WAN, &known).reason, Sent);
        }
        // The gateway's own packets carry the address of its interface, which says nothing.
        assert_eq!(world.send(WAN, &udp("10.2.0.1:5", "10.2.0.9:5")).reason, NoRule);
        assert_eq!(world.receive(LAN, &udp("10.1.0.2:5", "10.1.0.1:5")).reason, Local);
    });
}

#[test]
fn counting_rules_count_whole_flows_and_decide_nothing() {
    let rules = "\
- { id: later, from: wan, to: lan, action: count }
- { id: all, from: lan, to: [wan, lan], action: count }
- { id: udp, from: lan, to: wan, protocol: udp, dscp: 0, action: count }
- { id: web, from: lan, to: wan, protocol: tcp, destination_ports: [80], action: accept }
- { id: nope, from: lan, to: wan, protocol: udp, action: drop }
- { id: never, from: lan, to: wan, protocol: udp, action: count }";
    with_world(rules, |world| {
        let [client, server] = ENDS[0];
        assert_eq!(world.receive(LAN, &tcp(client, server, SYN)).reason, Forwarded);
        assert_eq!(world.forward(LAN, WAN, &tcp(client, server, SYN)).reason, Sent);
        assert_eq!(world.receive(WAN, &tcp(server, client, SYN | ACK)).reason, Forwarded);
        assert_eq!(world.receive(LAN, &tcp(client, server, ACK)).reason, Forwarded);
        assert_eq!(counts(world), [("all", 3), ("web", 3)].map(owned));
        assert_eq!(world.receive(LAN, &udp(client, server)).reason, Rule);
        assert_eq!(counts(world), [("all", 4), ("nope", 1), ("web", 3)].map(owned));
        assert_eq!(world.receive(LAN, &other("10.1.0.2", "10.2.0.9", 47)).reason, NoRule);
        assert_eq!(counts(world), [("all", 5), ("nope", 1), ("web", 3)].map(owned));
        // Without the counting rule the flow goes on, and is counted by the other alone.
        world.commit(
            &rules.replace("- { id: all, from: lan, to: [wan, lan], action: count }\n", ""),
        );
        assert_eq!(world.receive(LAN, &tcp(client, server, ACK)).reason, Forwarded);
        assert_eq!(counts(world), [("nope", 1), ("web", 4)].map(owned));
    });
}

/// Packets by rule, of the rules that have any, in the order of their names.
fn counts(world: &World<'_>) -> Vec<(String, u64)> {
    let hits = world.datapath.rule_hits().expect("counters").into_iter();
    let mut counts: Vec<_> = hits
        .map(|(rule, hits)| (rule.to_string(), hits.counter.packets))
        .filter(|(_, packets)| *packets != 0)
        .collect();
    counts.sort();
    counts
}

fn owned((rule, packets): (&str, u64)) -> (String, u64) {
    (rule.to_owned(), packets)
}
