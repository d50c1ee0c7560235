//! Sources: masquerade, pools and exceptions.

use nightgate_abi::Reason::{
    Forwarded, Local, NatConflict, NatExhausted, NatRewrite, NoRule, Sent, ZoneMismatch,
};
use nightgate_datapath::Hook;
use nightgate_datapath_tests::{LAN, WAN, checksum::summed, frame::*};
use tcp_flags::ACK;

use crate::support::{
    MASQUERADE, carry, carry_raw, only_flow, packets, shown, through, with_addresses,
};

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
fn a_message_too_short_for_its_checksum_is_refused() {
    with_addresses(MASQUERADE, |world| {
        // UDP-Lite (RFC 3828), whose checksum covers the addresses.
        for (client, server) in [("10.1.0.2", "192.0.2.1"), ("2001:db8:1::2", "2001:db8:9::1")] {
            let [client, server] = [client, server].map(|end| end.parse().expect("an address"));
            let frame = ip(client, server, 136, &[0; 4]);
            assert_eq!(world.receive(LAN, &frame).reason, Forwarded);
            assert_eq!(world.forward(LAN, WAN, &frame).reason, NatRewrite);
        }
    });
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
