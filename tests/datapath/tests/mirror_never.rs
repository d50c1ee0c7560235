//! Nothing of what is never mirrored is: packets, answers, fragments and quoted errors of many flows, while rules and
//! sessions are changed again and again, beside flows of which everything is.
//!
//! With `NIGHTGATE_NEVER_PACKETS` it is so many packets: `cargo xtask test nightly-bpf` sends 1,000,000.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use nightgate_abi::{
    Hook,
    mirror::{MirrorSessionId, Outcome},
};
use nightgate_datapath_tests::{LAN, WAN, World, fragment::fragments, frame::*, with_world};
use tcp_flags::{ACK, SYN};

/// Packets of flows that are never mirrored, unless the environment says how many.
const PACKETS: usize = 50_000;
/// Times that the rules are put in force anew meanwhile.
const RELOADS: usize = 20;
/// Flows are of so many ports of a client.
const PORTS: usize = 500;

const RULES: &str = "
- { id: out, from: lan, to: wan, action: accept }
- { id: own, from: local, to: wan, action: accept }
mirror:
  sensors: { ids: { interface: mon0, encapsulation: local } }
  never: { filter: [{ from: [lan, local], to: wan, destination: [192.0.2.66, '2001:db8:9::66'] }] }
  sessions:
    - { id: all, sensor: ids, filter: { from: [lan, local], to: wan } }
";

/// The same with another rule before and another session, so that all numbers move.
const OTHER_RULES: &str = "
- { id: other, from: lan, to: wan, protocol: tcp, destination_ports: [9], action: drop }
- { id: out, from: lan, to: wan, action: accept }
- { id: own, from: local, to: wan, action: accept }
mirror:
  sensors: { ids: { interface: mon0, encapsulation: local } }
  never: { filter: [{ from: [lan, local], to: wan, destination: [192.0.2.66, '2001:db8:9::66'] }] }
  sessions:
    - { id: first, sensor: ids, filter: { from: lan, to: wan, protocol: tcp } }
    - { id: all, sensor: ids, filter: { from: [lan, local], to: wan } }
";

/// A client, an own address of the gateway, a server that is never mirrored, another one, and a router on the way.
struct Hosts {
    client: &'static str,
    gateway: &'static str,
    never: &'static str,
    other: &'static str,
    router: &'static str,
    /// Protocol and type of an error that says that the destination cannot be reached.
    error: (u8, u8),
}

const FAMILIES: [Hosts; 2] = [
    Hosts {
        client: "10.1.0.2",
        gateway: "10.2.0.1",
        never: "192.0.2.66",
        other: "192.0.2.1",
        router: "203.0.113.1",
        error: (1, 3),
    },
    Hosts {
        client: "[2001:db8:1::2]",
        gateway: "[2001:db8:2::1]",
        never: "[2001:db8:9::66]",
        other: "[2001:db8:9::1]",
        router: "[2001:db8:77::1]",
        error: (58, 1),
    },
];

#[test]
fn no_packet_of_what_is_never_mirrored_is_due_to_a_session() {
    let wanted = std::env::var("NIGHTGATE_NEVER_PACKETS").ok();
    let wanted = wanted.map_or(PACKETS, |text| text.parse().expect("a number of packets"));
    with_world(RULES, |world| {
        let (mut sent, mut others, mut round, mut reloads) = (0, 0, 0, 0);
        while sent < wanted {
            for hosts in &FAMILIES {
                let port = 4_000 + round % PORTS;
                sent += of_never(world, hosts, port, round);
                others += of_other(world, hosts, port);
            }
            round += 1;
            if sent * RELOADS >= reloads * wanted {
                reloads += 1;
                world.commit(if reloads % 2 == 0 { RULES } else { OTHER_RULES });
            }
        }
        assert!(reloads >= RELOADS, "{reloads} reloads");
        assert_eq!(due(world), others, "of {sent} packets that are never mirrored");
        println!("{sent} packets never mirrored, {others} others due, {reloads} reloads");
    });
}

/// Sends what is never mirrored by each way there is; gives how many packets that was.
fn of_never(world: &mut World<'_>, hosts: &Hosts, port: usize, round: usize) -> usize {
    let (client, server) = (format!("{}:{port}", hosts.client), format!("{}:53", hosts.never));
    let own = format!("{}:{port}", hosts.gateway);
    let there = udp(&client, &server);
    let forwarded = [there.clone(), tcp(&client, &server, SYN), tcp(&client, &server, ACK)];
    let answers = [
        udp(&server, &client),
        tcp(&server, &client, SYN | ACK),
        error(hosts, hosts.client, &there),
        error(hosts, hosts.client, &tcp(&client, &server, SYN)),
    ];
    let identification = u16::try_from(round % usize::from(u16::MAX)).unwrap();
    let pieces = fragments(&datagram(&client, &server, &[7; 3_000]), identification, 1_400);
    let mut count = 0;
    let mut pass = |received_by: &str, leaves_by: &str, frame: &[u8]| {
        world.probe(Hook::Ingress, received_by, None, frame);
        world.probe(Hook::Egress, leaves_by, Some(received_by), frame);
        count += 1;
    };
    forwarded.iter().chain(&pieces).for_each(|frame| pass(LAN, WAN, frame));
    answers.iter().for_each(|frame| pass(WAN, LAN, frame));
    let (out, back) = (udp(&own, &server), udp(&server, &own));
    world.probe(Hook::Egress, WAN, None, &out);
    world.probe(Hook::Ingress, WAN, None, &back);
    world.probe(Hook::Ingress, WAN, None, &error(hosts, hosts.gateway, &out));
    count + 3
}

/// Sends a datagram and its answer that are mirrored; gives how many copies are due.
fn of_other(world: &mut World<'_>, hosts: &Hosts, port: usize) -> u64 {
    let (client, server) = (format!("{}:{port}", hosts.client), format!("{}:53", hosts.other));
    for (hook, interface, received_by, frame) in [
        (Hook::Ingress, LAN, None, udp(&client, &server)),
        (Hook::Egress, WAN, Some(LAN), udp(&client, &server)),
        (Hook::Ingress, WAN, None, udp(&server, &client)),
        (Hook::Egress, LAN, Some(WAN), udp(&server, &client)),
    ] {
        world.probe(hook, interface, received_by, &frame);
    }
    2
}

/// An error from a router on the way that quotes a packet.
fn error(hosts: &Hosts, to: &str, about: &[u8]) -> Vec<u8> {
    let [router, to] =
        [hosts.router, to].map(|text| text.trim_matches(['[', ']']).parse().unwrap());
    let quoted = &about[14..];
    let quoted = &quoted[..quoted.len().min(64)];
    let (protocol, kind) = hosts.error;
    ip(router, to, protocol, &[&[kind, 0, 0, 0, 0, 0, 0, 0][..], quoted].concat())
}

/// Copies that any session was due.
fn due(world: &World<'_>) -> u64 {
    let statistics = world.datapath.mirror_statistics().unwrap();
    let rows =
        (1..=2).filter_map(|session| statistics.sessions.get(&MirrorSessionId::new(session)?));
    rows.map(|row| row[&Outcome::Matched].packets).sum()
}
