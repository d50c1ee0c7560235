//! Address translation: rewritten bytes with all their checksums, both ways.

use nightgate_abi::Reason::{
    self, Forwarded, Local, NatConflict, NatExhausted, NatNoAddress, NatRerouted, NoRule, Rule,
    Sent, ZoneMismatch,
};
use nightgate_datapath::{FlowEntry, Hook, IfIndex};
use nightgate_datapath_tests::{LAN, WAN, World, checksum::summed, frame::*, with_world};
use tcp_flags::{ACK, FIN, SYN};

/// Everything from lan to wan, with the address of the interface.
const MASQUERADE: &str = "
  - { id: out, from: lan, to: wan, action: accept }
nat:
  source:
    - { id: hide, from: lan, to: wan, becomes: masquerade }
";
/// Ports of both families, for the world and for lan itself.
const FORWARD: &str = "
  - { id: in, from: [wan, lan], to: lan, action: accept }
nat:
  destination:
    - { id: web, from: [wan, lan], destination: 198.51.100.7, protocol: tcp, destination_ports: 8000-8009, becomes: 10.1.0.10, becomes_ports: 80-89 }
    - { id: web6, from: [wan, lan], destination: '2001:db8:51::7', becomes: '2001:db8:1::10' }
  source:
    - { id: hairpin, from: lan, to: lan, becomes: masquerade }
";

/// A port for the world, behind [`MASQUERADE`].
const FORWARDS: &str = "\
\x20 destination:
    - { id: web, from: wan, protocol: tcp, destination_ports: 8000, becomes: 10.1.0.10, becomes_ports: 80 }
";

/// Protocols with ports, as functions that make their frames.
const PORTED: [fn(&str, &str) -> Vec<u8>; 2] = [|a, b| tcp(a, b, ACK), udp];

#[test]
fn masqueraded_flows_have_the_interfaces_address_and_find_their_way_back() {
    for (client, server, outside) in [
        ("10.1.0.2:4000", "192.0.2.1:80", "10.2.0.1:4000"),
        ("[2001:db8:1::2]:4000", "[2001:db8:9::1]:80", "[2001:db8:2::1]:4000"),
    ] {
        for make in PORTED {
            with_addresses(MASQUERADE, |world| {
                for _ in 0..2 {
                    through(world, (LAN, WAN), &make(client, server), &make(outside, server));
                    through(world, (WAN, LAN), &make(server, outside), &make(server, client));
                }
                let flow = only_flow(world);
                assert_eq!(flow.origin.address.to_string(), client);
                assert_eq!(shown(&flow), [Some(outside.to_owned()), None]);
                assert_eq!(flow.origin.sent.packets, 2);
                assert_eq!(packets(world, "hide"), 4);
            });
        }
    }
}

#[test]
fn an_answer_to_no_flow_is_refused_and_nobody_speaks_for_the_gateway() {
    with_addresses(MASQUERADE, |world| {
        let (client, server, outside) = ("10.1.0.2:4000", "192.0.2.1:80", "10.2.0.1:4000");
        through(world, (LAN, WAN), &udp(client, server), &udp(outside, server));
        assert_eq!(world.receive(WAN, &udp(server, "10.2.0.1:4001")).reason, NoRule);
        assert_eq!(world.receive(WAN, &udp("192.0.2.2:80", outside)).reason, NoRule);
        assert_eq!(world.receive(LAN, &udp(server, outside)).reason, ZoneMismatch, "from inside");
        assert_eq!(world.receive(WAN, &udp(outside, server)).reason, ZoneMismatch, "forged");
        assert_eq!(world.send(WAN, &udp(outside, server)).reason, NatConflict, "port in use");
    });
}

#[test]
fn echoes_are_told_apart_by_their_identifier() {
    for (first, second, server, outside, request, reply) in [
        ("10.1.0.2", "10.1.0.3", "192.0.2.1", "10.2.0.1", 8, 0),
        ("2001:db8:1::2", "2001:db8:1::3", "2001:db8:9::1", "2001:db8:2::1", 128, 129),
    ] {
        with_addresses(MASQUERADE, |world| {
            let echo = |from: &str, to: &str, kind, id| icmp(from, to, kind, id);
            through(
                world,
                (LAN, WAN),
                &echo(first, server, request, 7),
                &echo(outside, server, request, 7),
            );
            let (_, sent) =
                carry(world, Hook::Ingress, LAN, None, &echo(second, server, request, 7));
            let (reason, sent) = carry(world, Hook::Egress, WAN, Some(LAN), &sent);
            assert_eq!(reason, Sent);
            let at = if first.contains(':') { 58 } else { 38 };
            let id = u16::from_be_bytes([sent[at], sent[at + 1]]);
            assert_ne!(id, 7);
            assert_eq!(sent, summed(echo(outside, server, request, id)));
            through(
                world,
                (WAN, LAN),
                &echo(server, outside, reply, 7),
                &echo(server, first, reply, 7),
            );
            through(
                world,
                (WAN, LAN),
                &echo(server, outside, reply, id),
                &echo(server, second, reply, 7),
            );
        });
    }
}

#[test]
fn protocols_without_ports_change_their_address_only() {
    for protocol in [47, 50, 132] {
        with_addresses(MASQUERADE, |world| {
            let make = |from: &str, to: &str| other(from, to, protocol);
            through(
                world,
                (LAN, WAN),
                &make("10.1.0.2", "192.0.2.1"),
                &make("10.2.0.1", "192.0.2.1"),
            );
            through(
                world,
                (WAN, LAN),
                &make("192.0.2.1", "10.2.0.1"),
                &make("192.0.2.1", "10.1.0.2"),
            );
            // A second host cannot be told apart.
            let frame = summed(make("10.1.0.3", "192.0.2.1"));
            assert_eq!(world.receive(LAN, &frame).reason, Forwarded);
            assert_eq!(world.forward(LAN, WAN, &frame).reason, NatExhausted);
        });
    }
}

#[test]
fn a_datagram_without_a_checksum_stays_without() {
    with_addresses(MASQUERADE, |world| {
        let bare = |from: &str, to: &str| patched(summed(udp(from, to)), 40, &[0, 0]);
        let (client, server, outside) = ("10.1.0.2:4000", "192.0.2.1:80", "10.2.0.1:4000");
        world.receive(LAN, &bare(client, server));
        let sent = carry_raw(world, Hook::Egress, WAN, Some(LAN), &bare(client, server));
        assert_eq!(sent, (Sent, bare(outside, server)));
    });
}

#[test]
fn a_taken_port_is_replaced_by_a_free_one_until_there_is_none() {
    let rules = MASQUERADE.replace(
        "becomes: masquerade",
        "protocol: udp, becomes: masquerade, becomes_ports: 4000-4003",
    );
    with_addresses(&rules, |world| {
        let server = "192.0.2.1:53";
        let mut ports = Vec::new();
        for host in 2..6 {
            let client = format!("10.1.0.{host}:4000");
            let (_, frame) = carry(world, Hook::Ingress, LAN, None, &udp(&client, server));
            let (reason, sent) = carry(world, Hook::Egress, WAN, Some(LAN), &frame);
            assert_eq!(reason, Sent);
            let port = u16::from_be_bytes([sent[34], sent[35]]);
            through(
                world,
                (WAN, LAN),
                &udp(server, &format!("10.2.0.1:{port}")),
                &udp(server, &client),
            );
            ports.push(port);
        }
        assert_eq!(ports[0], 4000, "the own one, while it is free");
        ports.sort_unstable();
        assert_eq!(ports, [4000, 4001, 4002, 4003]);
        let one_more = summed(udp("10.1.0.9:4000", server));
        assert_eq!(world.receive(LAN, &one_more).reason, Forwarded);
        assert_eq!(world.forward(LAN, WAN, &one_more).reason, NatExhausted);
        // Towards another server all are free.
        through(
            world,
            (LAN, WAN),
            &udp("10.1.0.9:4001", "192.0.2.2:53"),
            &udp("10.2.0.1:4001", "192.0.2.2:53"),
        );
    });
}

#[test]
fn forwarded_ports_keep_their_place_in_the_range() {
    with_addresses(FORWARD, |world| {
        let client = "192.0.2.9:5000";
        for offset in [0, 9] {
            let (public, server) =
                (format!("198.51.100.7:{}", 8000 + offset), format!("10.1.0.10:{}", 80 + offset));
            for flags in [SYN, ACK] {
                through(
                    world,
                    (WAN, LAN),
                    &tcp(client, &public, flags),
                    &tcp(client, &server, flags),
                );
                through(world, (LAN, WAN), &tcp(&server, client, ACK), &tcp(&public, client, ACK));
            }
        }
        let (client, public, server) =
            ("[2001:db8:9::1]:5000", "[2001:db8:51::7]:443", "[2001:db8:1::10]:443");
        through(world, (WAN, LAN), &tcp(client, public, SYN), &tcp(client, server, SYN));
        through(
            world,
            (LAN, WAN),
            &tcp(server, client, SYN | ACK),
            &tcp(public, client, SYN | ACK),
        );
        assert_eq!((packets(world, "web"), packets(world, "web6")), (8, 2));
        assert_eq!(
            world.receive(WAN, &tcp("192.0.2.9:5000", "198.51.100.7:8010", SYN)).reason,
            NoRule
        );
        let flow =
            flows(world).into_iter().find(|flow| flow.origin.address.is_ipv6()).expect("a flow");
        assert_eq!(flow.responder.address.to_string(), server);
        assert_eq!(shown(&flow), [None, Some(public.to_owned())]);
    });
}

#[test]
fn a_client_beside_the_server_reaches_it_by_its_public_address() {
    for (client, public, server, outside) in [
        ("10.1.0.2:5000", "198.51.100.7:8000", "10.1.0.10:80", "10.1.0.1:5000"),
        (
            "[2001:db8:1::2]:5000",
            "[2001:db8:51::7]:80",
            "[2001:db8:1::10]:80",
            "[2001:db8:1::1]:5000",
        ),
    ] {
        with_addresses(FORWARD, |world| {
            for flags in [SYN, ACK, ACK | FIN] {
                through(
                    world,
                    (LAN, LAN),
                    &tcp(client, public, flags),
                    &tcp(outside, server, flags),
                );
                through(world, (LAN, LAN), &tcp(server, outside, ACK), &tcp(public, client, ACK));
            }
            assert_eq!(
                shown(&only_flow(world)),
                [Some(outside.to_owned()), Some(public.to_owned())]
            );
        });
    }
}

#[test]
fn filter_rules_see_the_new_destination_and_the_old_source() {
    let rules = FORWARD.replace(
        "from: [wan, lan], to: lan, action",
        "from: wan, to: lan, source: 192.0.2.0/24, destination: 10.1.0.10, action",
    );
    with_addresses(&rules, |world| {
        through(
            world,
            (WAN, LAN),
            &tcp("192.0.2.9:5", "198.51.100.7:8000", SYN),
            &tcp("192.0.2.9:5", "10.1.0.10:80", SYN),
        );
        assert_eq!(
            world.receive(WAN, &tcp("203.0.113.9:5", "198.51.100.7:8000", SYN)).reason,
            NoRule
        );
        // Nothing is left of what was refused.
        assert_eq!(flows(world).len(), 1);
    });
}

#[test]
fn one_to_one_hosts_are_reached_and_appear_by_their_outside_address() {
    let rules = "
  - { id: all, from: [lan, wan], to: [lan, wan], action: accept }
nat:
  one_to_one:
    - { id: dmz, zone: wan, outside: 203.0.113.16/28, inside: 10.1.0.16/28 }
    - { id: dmz6, zone: wan, outside: '2001:db8:71::/64', inside: '2001:db8:1::/64' }
";
    with_addresses(rules, |world| {
        for (inside, outside, far) in [
            ("10.1.0.21:22", "203.0.113.21:22", "192.0.2.1:900"),
            ("[2001:db8:1::5]:22", "[2001:db8:71::5]:22", "[2001:db8:9::1]:900"),
        ] {
            through(world, (WAN, LAN), &tcp(far, outside, SYN), &tcp(far, inside, SYN));
            through(world, (LAN, WAN), &tcp(inside, far, ACK), &tcp(outside, far, ACK));
            let (inside, outside) = (inside.replace(":22", ":77"), outside.replace(":22", ":77"));
            through(world, (LAN, WAN), &udp(&inside, far), &udp(&outside, far));
            through(world, (WAN, LAN), &udp(far, &outside), &udp(far, &inside));
        }
        assert_eq!((packets(world, "dmz"), packets(world, "dmz6")), (4, 4));
    });
}

#[test]
fn a_pool_gives_a_host_one_address_and_exceptions_come_first() {
    let rules = "
  - { id: out, from: lan, to: wan, action: accept }
nat:
  source:
    - { id: except, from: lan, to: wan, destination: 192.0.2.128/25, becomes: unchanged }
    - { id: pool, from: lan, to: wan, becomes: 198.51.100.8/30 }
";
    with_addresses(rules, |world| {
        let plain = udp("10.1.0.2:7", "192.0.2.200:7");
        through(world, (LAN, WAN), &plain, &plain);
        let mut seen = std::collections::BTreeSet::new();
        for host in 2..40 {
            let mut addresses = std::collections::BTreeSet::new();
            for server in ["192.0.2.1:1", "192.0.2.2:2"] {
                let client = format!("10.1.0.{host}:7");
                let (_, frame) = carry(world, Hook::Ingress, LAN, None, &udp(&client, server));
                let (_, sent) = carry(world, Hook::Egress, WAN, Some(LAN), &frame);
                assert_eq!(sent[26..29], [198, 51, 100]);
                addresses.insert(sent[29]);
            }
            assert_eq!(addresses.len(), 1, "one for all flows of a host");
            seen.extend(addresses);
        }
        assert_eq!(seen, [8, 9, 10, 11].into());
        assert_eq!(packets(world, "except"), 0, "nothing was translated");
    });
}

#[test]
fn the_gateways_own_packets_are_translated_when_a_rule_says_so() {
    let rules = "
  - { id: own, from: local, to: wan, action: accept }
nat:
  source:
    - { id: own-out, from: local, to: wan, becomes: 198.51.100.1 }
";
    with_addresses(rules, |world| {
        let (own, server, outside) = ("10.2.0.1:500", "192.0.2.1:443", "198.51.100.1:500");
        let sent = carry(world, Hook::Egress, WAN, None, &udp(own, server));
        assert_eq!(sent, (Sent, summed(udp(outside, server))));
        let received = carry(world, Hook::Ingress, WAN, None, &udp(server, outside));
        assert_eq!(received, (Local, summed(udp(server, own))));
    });
}

#[test]
fn a_change_of_the_rules_keeps_translations_of_flows_that_go_on() {
    let (client, server, outside) = ("10.1.0.2:4000", "192.0.2.1:80", "10.2.0.1:4000");
    let (far, public, inside) = ("192.0.2.9:5", "198.51.100.7:8000", "10.1.0.10:80");
    let both = format!("{MASQUERADE}{FORWARDS}")
        .replace("from: lan, to: wan, action", "from: [lan, wan], to: [lan, wan], action");
    // The rule that translates is another one by its number, but goes on counting.
    let behind = both.replace(
        "  source:\n",
        "  source:\n    - { id: other, from: lan, to: wan, protocol: 99, becomes: masquerade }\n",
    );
    with_addresses(&both, |world| {
        through(world, (LAN, WAN), &tcp(client, server, SYN), &tcp(outside, server, SYN));
        through(world, (WAN, LAN), &tcp(far, public, SYN), &tcp(far, inside, SYN));
        let without = "  - { id: out, from: [lan, wan], to: [lan, wan], action: accept }\n";
        for rules in [both.as_str(), without, behind.as_str(), both.as_str()] {
            world.commit(rules);
            through(world, (WAN, LAN), &tcp(server, outside, ACK), &tcp(server, client, ACK));
            through(world, (LAN, WAN), &tcp(client, server, ACK), &tcp(outside, server, ACK));
            through(world, (WAN, LAN), &tcp(far, public, ACK), &tcp(far, inside, ACK));
            through(world, (LAN, WAN), &tcp(inside, far, ACK), &tcp(public, far, ACK));
        }
        // Of the last two commits: a rule that goes takes its count along.
        assert_eq!((packets(world, "hide"), packets(world, "web")), (4, 4));
        world.commit("  - { id: out, from: [lan, wan], to: [lan, wan], action: drop }\n");
        assert_eq!(world.receive(WAN, &summed(tcp(server, outside, ACK))).reason, Rule);
        assert_eq!(world.receive(WAN, &summed(tcp(far, public, ACK))).reason, Rule);
        assert_eq!(flows(world), []);
    });
}

#[test]
fn flows_of_an_address_that_is_gone_end_and_begin_anew_with_another() {
    let (client, server) = ("10.1.0.2:4000", "192.0.2.1:80");
    with_addresses(MASQUERADE, |world| {
        through(world, (LAN, WAN), &udp(client, server), &udp("10.2.0.1:4000", server));
        let wan = IfIndex::of(WAN).expect("wan");
        let (old, new) =
            ("10.2.0.1".parse().expect("an address"), "10.2.0.77".parse().expect("an address"));
        world.datapath.set_addresses(wan, &[new]).expect("set");
        through(world, (LAN, WAN), &udp(client, server), &udp("10.2.0.1:4000", server));
        assert_eq!(
            world
                .datapath
                .end_masqueraded(|_, address| [old, new].contains(&address))
                .expect("ended"),
            0
        );
        assert_eq!(
            world
                .datapath
                .end_masqueraded(|interface, address| (interface, address) == (wan, new))
                .expect("ended"),
            1
        );
        assert_eq!(world.receive(WAN, &udp(server, "10.2.0.1:4000")).reason, NoRule);
        through(world, (LAN, WAN), &udp(client, server), &udp("10.2.0.77:4000", server));
        world.datapath.set_addresses(wan, &[]).expect("set");
        world.receive(LAN, &udp("10.1.0.3:1", server));
        assert_eq!(world.forward(LAN, WAN, &udp("10.1.0.3:1", server)).reason, NatNoAddress);
    });
}

#[test]
fn a_flow_that_is_killed_gives_its_ports_back() {
    let (client, server, outside) = ("10.1.0.2:4000", "192.0.2.1:80", "10.2.0.1:4000");
    let (far, public, inside) = ("192.0.2.9:5", "198.51.100.7:8000", "10.1.0.10:80");
    let rules =
        format!("  - {{ id: own, from: local, to: wan, action: accept }}{MASQUERADE}{FORWARDS}")
            .replace("from: lan, to: wan, action", "from: [lan, wan], to: [lan, wan], action");
    with_addresses(&rules, |world| {
        through(world, (LAN, WAN), &udp(client, server), &udp(outside, server));
        through(world, (WAN, LAN), &tcp(far, public, SYN), &tcp(far, inside, SYN));
        assert_eq!(world.send(WAN, &udp(outside, server)).reason, NatConflict, "reserved");
        assert_eq!(world.send(WAN, &tcp(public, far, SYN)).reason, NatConflict, "reserved");
        assert_eq!(world.datapath.kill_flows(|_| true).expect("killed"), 2);
        assert_eq!(world.send(WAN, &udp(outside, server)).reason, Sent);
        assert_eq!(world.send(WAN, &tcp(public, far, SYN)).reason, Sent);
    });
}

#[test]
fn a_masqueraded_flow_that_leaves_by_another_interface_ends() {
    let rules = MASQUERADE.replace("to: wan", "to: [wan, lan]");
    with_addresses(&rules, |world| {
        let (client, server) = ("10.1.0.2:4000", "192.0.2.1:80");
        through(world, (LAN, WAN), &udp(client, server), &udp("10.2.0.1:4000", server));
        assert_eq!(world.forward(LAN, LAN, &udp(client, server)).reason, NatRerouted);
        assert_eq!(world.receive(WAN, &udp(server, "10.2.0.1:4000")).reason, NoRule);
    });
}

#[test]
fn two_ways_to_one_server_are_not_mistaken_for_each_other() {
    let rules = FORWARD.replace("destination_ports: 8000-8009, becomes: 10.1.0.10, becomes_ports: 80-89", "destination_ports: [8000, 9000], becomes: 10.1.0.10")
        .replace("    - { id: web6", "    - { id: other, from: wan, destination: 198.51.100.8, becomes: 10.1.0.10 }\n    - { id: web6");
    with_addresses(&rules, |world| {
        let client = "192.0.2.9:5000";
        through(
            world,
            (WAN, LAN),
            &tcp(client, "198.51.100.7:8000", SYN),
            &tcp(client, "10.1.0.10:8000", SYN),
        );
        assert_eq!(world.receive(WAN, &tcp(client, "198.51.100.8:8000", SYN)).reason, NatConflict);
    });
}

/// A world whose interfaces' addresses the programs know.
fn with_addresses<T: Send>(rules: &str, test: impl FnOnce(&mut World<'_>) -> T + Send) -> T {
    with_world(rules, |world| {
        for (interface, number) in [(LAN, 1), (WAN, 2)] {
            let index = IfIndex::of(interface).expect("an interface");
            let addresses = [format!("10.{number}.0.1"), format!("2001:db8:{number}::1")]
                .map(|address| address.parse().expect("an address"));
            world.datapath.set_addresses(index, &addresses).expect("addresses");
        }
        test(world)
    })
}

/// Carries a frame from one interface to another: what leaves has to be `expected`, with every checksum right.
#[track_caller]
fn through(world: &mut World<'_>, (from, to): (&str, &str), frame: &[u8], expected: &[u8]) {
    let (reason, inside) = carry(world, Hook::Ingress, from, None, frame);
    assert_eq!(reason, Forwarded);
    let (reason, outside) = carry_raw(world, Hook::Egress, to, Some(from), &inside);
    assert_eq!(reason, Sent);
    assert_eq!(outside, summed(expected.to_vec()));
}

/// Runs a program on a frame with checksums; what comes out has to have right ones, too.
#[track_caller]
fn carry(
    world: &mut World<'_>,
    hook: Hook,
    interface: &str,
    by: Option<&str>,
    frame: &[u8],
) -> (Reason, Vec<u8>) {
    let (reason, after) = carry_raw(world, hook, interface, by, &summed(frame.to_vec()));
    assert_eq!(after, summed(after.clone()), "{reason}");
    (reason, after)
}

fn carry_raw(
    world: &mut World<'_>,
    hook: Hook,
    interface: &str,
    by: Option<&str>,
    frame: &[u8],
) -> (Reason, Vec<u8>) {
    let outcome = world.run(hook, interface, by, frame);
    (outcome.reason, outcome.frame)
}

fn flows(world: &World<'_>) -> Vec<FlowEntry> {
    world.datapath.flows().expect("flows")
}

fn only_flow(world: &World<'_>) -> FlowEntry {
    let flows = flows(world);
    let [flow] = flows.as_slice() else { panic!("one flow: {flows:#?}") };
    flow.clone()
}

fn shown(flow: &FlowEntry) -> [Option<String>; 2] {
    [&flow.origin, &flow.responder].map(|side| side.appears_as.map(|address| address.to_string()))
}

fn packets(world: &World<'_>, rule: &str) -> u64 {
    let hits = world.datapath.rule_hits().expect("counters");
    let (_, hits) = hits.into_iter().find(|(id, _)| id.as_str() == rule).expect("a rule");
    hits.counter.packets
}
