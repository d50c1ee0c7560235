//! ICMP and ICMPv6 errors about translated flows: they reach who has sent the quoted packet, and quote it as sent.

use std::net::{IpAddr, SocketAddr};

use nightgate_abi::Reason::{Forwarded, IcmpQuote, IcmpUnrelated, Local, Sent};
use nightgate_datapath::Hook;
use nightgate_datapath_tests::{LAN, WAN, World, checksum::summed, frame::*};
use tcp_flags::{ACK, SYN};

use crate::support::{carry, carry_raw, packets, through, with_addresses};

const RULES: &str = "
  - { id: all, from: [lan, wan, local], to: [lan, wan], action: accept }
nat:
  one_to_one:
    - { id: dmz, zone: wan, outside: 203.0.113.16/28, inside: 10.1.0.16/28 }
    - { id: dmz6, zone: wan, outside: '2001:db8:71::/64', inside: '2001:db8:11::/64' }
  destination:
    - { id: web, from: [wan, lan], destination: 198.51.100.7, protocol: tcp, destination_ports: 8000, becomes: 10.1.0.10, becomes_ports: 80 }
    - { id: web-udp, from: [wan, lan], destination: 198.51.100.7, protocol: udp, destination_ports: 8000, becomes: 10.1.0.10, becomes_ports: 80 }
    - { id: host, from: [wan, lan], destination: 198.51.100.8, becomes: 10.1.0.11 }
    - { id: host6, from: [wan, lan], destination: '2001:db8:51::7', becomes: '2001:db8:1::10' }
  source:
    - { id: hairpin, from: lan, to: lan, becomes: masquerade }
    - { id: hide, from: [lan, local], to: wan, becomes: masquerade }
";

/// What one side of the gateway sees of a flow: interface, originator, responder.
type View = (&'static str, &'static str, &'static str);

/// Translated flows, as the originator's side sees them and as the other does.
const FLOWS: &[(&str, View, View)] = &[
    ("masquerade", (LAN, "10.1.0.2:4000", "192.0.2.1:80"), (WAN, "10.2.0.1:4000", "192.0.2.1:80")),
    (
        "masquerade 6",
        (LAN, "[2001:db8:1::2]:4000", "[2001:db8:9::1]:80"),
        (WAN, "[2001:db8:2::1]:4000", "[2001:db8:9::1]:80"),
    ),
    (
        "port forward",
        (WAN, "192.0.2.9:5000", "198.51.100.7:8000"),
        (LAN, "192.0.2.9:5000", "10.1.0.10:80"),
    ),
    (
        "forward",
        (WAN, "192.0.2.9:5000", "198.51.100.8:80"),
        (LAN, "192.0.2.9:5000", "10.1.0.11:80"),
    ),
    (
        "forward 6",
        (WAN, "[2001:db8:9::1]:5000", "[2001:db8:51::7]:80"),
        (LAN, "[2001:db8:9::1]:5000", "[2001:db8:1::10]:80"),
    ),
    ("1:1 in", (WAN, "192.0.2.1:900", "203.0.113.21:22"), (LAN, "192.0.2.1:900", "10.1.0.21:22")),
    (
        "1:1 out",
        (LAN, "10.1.0.22:4000", "192.0.2.1:80"),
        (WAN, "203.0.113.22:4000", "192.0.2.1:80"),
    ),
    (
        "1:1 out 6",
        (LAN, "[2001:db8:11::5]:4000", "[2001:db8:9::1]:80"),
        (WAN, "[2001:db8:71::5]:4000", "[2001:db8:9::1]:80"),
    ),
    (
        "hairpin",
        (LAN, "10.1.0.2:5000", "198.51.100.7:8000"),
        (LAN, "10.1.0.1:5000", "10.1.0.10:80"),
    ),
    (
        "hairpin 6",
        (LAN, "[2001:db8:1::2]:5000", "[2001:db8:51::7]:80"),
        (LAN, "[2001:db8:1::1]:5000", "[2001:db8:1::10]:80"),
    ),
];

/// Makes the frame that an originator sends to a responder, and the one that comes back.
type Exchange = (fn(&str, &str) -> Vec<u8>, fn(&str, &str) -> Vec<u8>);

const EXCHANGES: [Exchange; 3] = [
    (
        |from, to| segment(from, to, SYN, [1_000, 0], 0),
        |from, to| segment(from, to, SYN | ACK, [5_000, 1_001], 0),
    ),
    (udp, udp),
    (
        |from, to| echo(from, to, port(from), [8, 128]),
        |from, to| echo(from, to, port(to), [0, 129]),
    ),
];

#[test]
fn errors_from_hosts_and_routers_reach_who_has_sent_the_packet() {
    with_addresses(RULES, |world| {
        for (name, near, far) in FLOWS {
            for (number, (there, back)) in EXCHANGES.into_iter().enumerate() {
                // An echo has one identifier, and its rule no ports.
                if number == 2 && port(near.2) != port(far.2) {
                    continue;
                }
                println!("{name}, protocol {number}");
                exchange(world, *near, *far, (there, back));
            }
        }
        assert!(packets(world, "hide") > 0);
    });
}

/// Sends a packet there and one back, and errors about both.
fn exchange(world: &mut World<'_>, near: View, far: View, (there, back): Exchange) {
    let [sent, arrived] = [near, far].map(|(_, from, to)| there(from, to));
    through(world, (near.0, far.0), &sent, &arrived);
    let [answered, answer] = [near, far].map(|(_, from, to)| back(to, from));
    through(world, (far.0, near.0), &answer, &answered);
    let router = if near.1.contains('[') { "2001:db8:77::1" } else { "203.0.113.1" };
    // Whom the other side takes a router for.
    let [seen_near, seen_far] = [
        if near.2 == far.2 { router } else { host(near.2) },
        if near.1 == far.1 { router } else { host(far.1) },
    ];
    for length in [8, 12, 20, 64] {
        for (reporter, seen) in [(router, seen_near), (host(far.2), host(near.2))] {
            let [came, left] =
                [error(reporter, far.1, &arrived, length), error(seen, near.1, &sent, length)];
            through(world, (far.0, near.0), &came, &left);
        }
        for (reporter, seen) in [(router, seen_far), (host(near.1), host(far.1))] {
            let [came, left] =
                [error(reporter, near.2, &answered, length), error(seen, far.2, &answer, length)];
            through(world, (near.0, far.0), &came, &left);
        }
    }
}

#[test]
fn the_gateways_own_errors_quote_what_has_been_sent() {
    with_addresses(RULES, |world| {
        for (_, near, far) in FLOWS {
            let (there, back) = EXCHANGES[1];
            through(world, (near.0, far.0), &there(near.1, near.2), &there(far.1, far.2));
            // As it is between coming in and leaving.
            let (about, back_about) = (there(near.1, far.2), back(far.2, near.1));
            let gateway = if near.1.contains('[') { "2001:db8:4::1" } else { "10.4.0.1" };
            for (interface, to, about, seen) in [
                (near.0, near.1, about, there(near.1, near.2)),
                (far.0, far.2, back_about, back(far.2, far.1)),
            ] {
                let own =
                    carry(world, Hook::Egress, interface, None, &error(gateway, to, &about, 64));
                assert_eq!(own, (Sent, error(gateway, to, &seen, 64)));
            }
        }
    });
}

#[test]
fn an_identifier_that_was_taken_is_quoted_as_sent() {
    with_addresses(RULES, |world| {
        for (first, second, server, outside) in [
            ("10.1.0.2:7", "10.1.0.3:7", "192.0.2.1:7", "10.2.0.1:7"),
            ("[2001:db8:1::2]:7", "[2001:db8:1::3]:7", "[2001:db8:9::1]:7", "[2001:db8:2::1]:7"),
        ] {
            let (request, _) = EXCHANGES[2];
            through(world, (LAN, WAN), &request(first, server), &request(outside, server));
            let sent = request(second, server);
            let (_, inside) = carry(world, Hook::Ingress, LAN, None, &sent);
            let (_, outer) = carry(world, Hook::Egress, WAN, Some(LAN), &inside);
            assert_ne!(outer, summed(request(outside, server)));
            let router = if first.contains('[') { "2001:db8:77::1" } else { "203.0.113.1" };
            through(
                world,
                (WAN, LAN),
                &error(router, outside, &outer, 64),
                &error(router, second, &sent, 64),
            );
        }
    });
}

#[test]
fn errors_about_the_gateways_own_flows_reach_it() {
    with_addresses(&RULES.replace("becomes: masquerade }\n    - { id: hide", "becomes: masquerade }\n    - { id: own, from: local, to: wan, becomes: 198.51.100.1 }\n    - { id: hide"), |world| {
        let (own, server, outside) = ("10.2.0.1:500", "192.0.2.1:443", "198.51.100.1:500");
        let sent = carry(world, Hook::Egress, WAN, None, &udp(own, server));
        assert_eq!(sent, (Sent, summed(udp(outside, server))));
        let came = error("203.0.113.1", outside, &udp(outside, server), 64);
        let expected = error("203.0.113.1", own, &udp(own, server), 64);
        assert_eq!(carry(world, Hook::Ingress, WAN, None, &came), (Local, expected));
    });
}

#[test]
fn errors_that_quote_what_nobody_has_sent_there_are_refused() {
    let (client, server, outside, router) =
        ("10.1.0.2:4000", "192.0.2.1:80", "10.2.0.1:4000", "203.0.113.1");
    with_addresses(RULES, |world| {
        let arrived = udp(outside, server);
        through(world, (LAN, WAN), &udp(client, server), &arrived);
        let good = error(router, outside, &arrived, 64);
        let refused = [
            ("another port", error(router, outside, &udp("10.2.0.1:4001", server), 64)),
            ("another server", error(router, outside, &udp(outside, "192.0.2.2:80"), 64)),
            ("not as it is outside", error(router, client, &udp(client, server), 64)),
            ("an answer", error(router, server, &udp(server, outside), 64)),
        ];
        for (name, frame) in &refused {
            assert_eq!(world.receive(WAN, frame).reason, IcmpUnrelated, "{name}");
        }
        assert_eq!(world.receive(LAN, &refused[3].1).reason, IcmpUnrelated, "from inside");
        assert_eq!(world.send(LAN, &good).reason, IcmpUnrelated, "as it is outside");
        let later = error(router, outside, &patched(arrived.clone(), 20, &[0, 9]), 64);
        assert_eq!(world.receive(WAN, &later).reason, IcmpQuote, "a later fragment");
        let other_host = error(router, "10.2.0.9:1", &arrived, 64);
        assert_eq!(world.receive(WAN, &other_host).reason, IcmpQuote, "to another host");
        assert_eq!(world.receive(WAN, &good).reason, Forwarded);
        world.datapath.kill_flows(|_| true).expect("killed");
        assert_eq!(world.receive(WAN, &good).reason, IcmpUnrelated, "the flow is over");
    });
}

#[test]
fn a_datagram_without_a_checksum_is_quoted_without() {
    with_addresses(RULES, |world| {
        let bare = |from: &str, to: &str| patched(summed(udp(from, to)), 40, &[0, 0]);
        let (client, server, outside) = ("10.1.0.2:4000", "192.0.2.1:80", "10.2.0.1:4000");
        through(world, (LAN, WAN), &udp(client, server), &udp(outside, server));
        let [came, left] = [(outside, bare(outside, server)), (client, bare(client, server))]
            .map(|(to, about)| error_about("203.0.113.1", to, &about));
        let (reason, inside) = carry_raw(world, Hook::Ingress, WAN, None, &came);
        assert_eq!((reason, inside), (Forwarded, left));
    });
}

/// An error from a host or router to who has sent the packet of a frame, with as many bytes of the message behind the
/// header. Both are summed.
fn error(from: &str, to: &str, about: &[u8], length: usize) -> Vec<u8> {
    let about = summed(about.to_vec());
    let header = if about[14] >> 4 == 4 { 20 } else { 40 };
    error_about(from, to, &about[..about.len().min(14 + header + length)])
}

/// An error that quotes a frame's packet as it is: too big for a link of 1,280 bytes.
fn error_about(from: &str, to: &str, about: &[u8]) -> Vec<u8> {
    let [from, to]: [IpAddr; 2] =
        [from, host(to)].map(|address| address.parse().expect("an address"));
    let (protocol, header) = match from {
        IpAddr::V4(_) => (1, [3, 4, 0, 0, 0, 0, 5, 0]),
        IpAddr::V6(_) => (58, [2, 0, 0, 0, 0, 0, 5, 0]),
    };
    summed(ip(from, to, protocol, &[&header[..], &about[14..]].concat()))
}

/// An echo between two ends, of the type for their family.
fn echo(from: &str, to: &str, identifier: u16, [v4, v6]: [u8; 2]) -> Vec<u8> {
    let kind = if from.contains('[') { v6 } else { v4 };
    icmp(host(from), host(to), kind, identifier)
}

fn host(end: &str) -> &str {
    let (host, _) = end.rsplit_once(':').expect("an address and port");
    host.trim_matches(['[', ']'])
}

fn port(end: &str) -> u16 {
    end.parse::<SocketAddr>().expect("an address and port").port()
}
