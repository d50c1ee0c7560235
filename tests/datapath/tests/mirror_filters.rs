//! Which flows are mirrored by which session: each packet once, the lowest session, and never what never is.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use nightgate_abi::{
    Reason,
    mirror::{MirrorSessionId, Outcome},
};
use nightgate_datapath_tests::{LAN, WAN, World, fragment::fragments, frame::*, with_world};
use tcp_flags::{ACK, SYN};

const RULES: &str = "
- { id: out, from: lan, to: wan, action: accept }
- { id: own, from: local, to: wan, action: accept }
mirror:
  sensors: { ids: { interface: mon0, encapsulation: local } }
  never:
    filter:
      - { from: [lan, local], to: wan, destination: [192.0.2.66, '2001:db8:9::66'] }
  sessions:
    - id: web
      sensor: ids
      filter:
        - { from: lan, to: wan, protocol: tcp, destination_ports: [81], skip: true }
        - { from: lan, to: wan, protocol: tcp, destination_ports: ['80-89'] }
    - id: all
      sensor: ids
      filter:
        - { from: [lan, local], to: wan, protocol: tcp }
        - { from: lan, to: wan, protocol: udp, source: 10.1.0.0/28 }
";

/// Filters by what rules can ask for beyond addresses and ports.
const FACTS: &str = "
- { id: out, from: lan, to: wan, action: accept }
sets:
  servers: { addresses: [192.0.2.16/28, '2001:db8:9::16'] }
  doors: { ports: [8000, '9000-9009'] }
mirror:
  sensors: { ids: { interface: mon0, encapsulation: local } }
  sessions:
    - id: pings
      sensor: ids
      filter:
        - { from: lan, to: wan, protocol: icmp, icmp_types: [echo-request] }
        - { from: lan, to: wan, protocol: icmpv6, icmp_types: [echo-request] }
    - id: known
      sensor: ids
      filter:
        - { from: lan, to: wan, source_mac: ['02:00:00:00:00:99'], skip: true }
        - { from: lan, to: wan, protocol: tcp, destination: $servers, destination_ports: $doors }
";

const CLIENT: &str = "10.1.0.2:4000";

/// Frames that a session was due, all of which are counted as lost: the tests' gateway knows no session.
fn due(world: &World<'_>, session: u16) -> u64 {
    let statistics = world.datapath.mirror_statistics().unwrap();
    let id = MirrorSessionId::new(session).unwrap();
    let Some(row) = statistics.sessions.get(&id) else { return 0 };
    let [matched, lost] =
        [Outcome::Matched, Outcome::NoSession].map(|outcome| row[&outcome].packets);
    assert_eq!(matched, lost);
    matched
}

/// What sessions 1 and 2 were due for what a function sends.
fn dues(world: &mut World<'_>, send: impl FnOnce(&mut World<'_>)) -> [u64; 2] {
    let before = [due(world, 1), due(world, 2)];
    send(world);
    [due(world, 1) - before[0], due(world, 2) - before[1]]
}

/// A packet through the gateway, and its answer, each by both interfaces.
fn exchange(world: &mut World<'_>, there: &[u8], back: &[u8]) {
    assert_eq!(world.receive(LAN, there).reason, Reason::Forwarded);
    assert_eq!(world.forward(LAN, WAN, there).reason, Reason::Sent);
    assert_eq!(world.receive(WAN, back).reason, Reason::Forwarded);
    assert_eq!(world.forward(WAN, LAN, back).reason, Reason::Sent);
}

fn connection(world: &mut World<'_>, client: &str, server: &str) {
    exchange(world, &tcp(client, server, SYN), &tcp(server, client, SYN | ACK));
}

#[test]
fn each_packet_of_a_forwarded_flow_is_due_once_to_the_lowest_session() {
    with_world(RULES, |world| {
        let cases = [
            (CLIENT, "192.0.2.1:80", [2, 0]),
            ("[2001:db8:1::2]:4000", "[2001:db8:9::1]:89", [2, 0]),
            (CLIENT, "192.0.2.1:90", [0, 2]),
            // Skipped by the first session, not by the second.
            (CLIENT, "192.0.2.1:81", [0, 2]),
            (CLIENT, "192.0.2.66:80", [0, 0]),
            ("[2001:db8:1::2]:4000", "[2001:db8:9::66]:80", [0, 0]),
        ];
        for (client, server, expected) in cases {
            let found = dues(world, |world| connection(world, client, server));
            assert_eq!(found, expected, "{client} to {server}");
        }
        let (there, back) = (udp(CLIENT, "192.0.2.1:53"), udp("192.0.2.1:53", CLIENT));
        assert_eq!(dues(world, |world| exchange(world, &there, &back)), [0, 2]);
        let (there, back) =
            (udp("10.1.0.77:9", "192.0.2.1:53"), udp("192.0.2.1:53", "10.1.0.77:9"));
        assert_eq!(dues(world, |world| exchange(world, &there, &back)), [0, 0]);
    });
}

#[test]
fn filters_name_messages_link_addresses_and_sets() {
    with_world(FACTS, |world| {
        let cases = [
            (CLIENT, "192.0.2.17:8000", [0, 2]),
            ("[2001:db8:1::2]:4000", "[2001:db8:9::16]:9009", [0, 2]),
            (CLIENT, "192.0.2.17:8001", [0, 0]),
            (CLIENT, "192.0.2.32:8000", [0, 0]),
        ];
        for (client, server, expected) in cases {
            let found = dues(world, |world| connection(world, client, server));
            assert_eq!(found, expected, "{client} to {server}");
        }
        let mut other = tcp("10.1.0.2:4001", "192.0.2.17:8000", SYN);
        other[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x99]);
        let found = dues(world, |world| {
            world.receive(LAN, &other);
            world.receive(WAN, &tcp("192.0.2.17:8000", "10.1.0.2:4001", SYN | ACK));
        });
        assert_eq!(found, [0, 0]);
        for (kind, expected) in [(8, [1, 0]), (13, [0, 0])] {
            let message = icmp("10.1.0.2", "192.0.2.1", kind, 0);
            let found = dues(world, |world| {
                world.receive(LAN, &message);
            });
            assert_eq!(found, expected, "type {kind}");
        }
    });
}

#[test]
fn what_the_gateway_itself_sends_is_due_where_it_leaves_and_is_answered() {
    with_world(RULES, |world| {
        for (server, expected) in [("192.0.2.1:443", [0, 2]), ("192.0.2.66:443", [0, 0])] {
            let found = dues(world, |world| {
                world.send(WAN, &tcp("10.2.0.1:5000", server, SYN));
                world.receive(WAN, &tcp(server, "10.2.0.1:5000", SYN | ACK));
            });
            assert_eq!(found, expected, "{server}");
        }
    });
}

#[test]
fn fragments_and_errors_of_what_never_is_mirrored_are_not() {
    with_world(RULES, |world| {
        for (server, expected) in [("192.0.2.1:53", [0, 3]), ("192.0.2.66:53", [0, 0])] {
            let whole = datagram(CLIENT, server, &[7; 3_000]);
            let found = dues(world, |world| {
                for frame in fragments(&whole, 9, 1_400) {
                    world.receive(LAN, &frame);
                }
            });
            assert_eq!(found, expected, "{server}");
        }
        let never = tcp(CLIENT, "192.0.2.66:80", SYN);
        let error = icmp_data("192.0.2.66", "10.1.0.2", 3, 0, &never[14..]);
        let found = dues(world, |world| {
            world.receive(LAN, &never);
            world.receive(WAN, &error);
        });
        assert_eq!(found, [0, 0]);
    });
}

#[test]
fn an_error_about_a_mirrored_flow_is_due_once_like_its_packets() {
    with_world(RULES, |world| {
        let request = tcp(CLIENT, "192.0.2.1:80", SYN);
        world.receive(LAN, &request);
        let to_client = icmp_data("192.0.2.9", "10.1.0.2", 3, 1, &request[14..]);
        let found = dues(world, |world| {
            assert_eq!(world.receive(WAN, &to_client).reason, Reason::Forwarded);
            world.forward(WAN, LAN, &to_client);
        });
        assert_eq!(found, [1, 0]);
        let (there, back) = (udp(CLIENT, "192.0.2.1:53"), udp("192.0.2.1:53", CLIENT));
        exchange(world, &there, &back);
        let to_server = icmp_data("10.1.0.2", "192.0.2.1", 3, 3, &back[14..]);
        let found = dues(world, |world| {
            assert_eq!(world.receive(LAN, &to_server).reason, Reason::Forwarded);
            world.forward(LAN, WAN, &to_server);
        });
        assert_eq!(found, [0, 1]);
        let own = tcp("10.2.0.1:5000", "192.0.2.1:443", SYN);
        world.send(WAN, &own);
        let to_gateway = icmp_data("192.0.2.9", "10.2.0.1", 3, 1, &own[14..]);
        assert_eq!(dues(world, |world| drop(world.receive(WAN, &to_gateway))), [0, 1]);
    });
}

#[test]
fn flows_are_mirrored_as_the_rules_in_force_say_from_their_next_packet_on() {
    with_world(RULES, |world| {
        let (there, back) =
            (tcp(CLIENT, "192.0.2.1:80", SYN), tcp("192.0.2.1:80", CLIENT, SYN | ACK));
        assert_eq!(dues(world, |world| exchange(world, &there, &back)), [2, 0]);
        let acknowledgement = tcp(CLIENT, "192.0.2.1:80", ACK);
        world.commit(&RULES.replace("192.0.2.66", "192.0.2.0/24"));
        assert_eq!(dues(world, |world| drop(world.receive(LAN, &acknowledgement))), [0, 0]);
        world.commit(RULES);
        assert_eq!(dues(world, |world| drop(world.receive(LAN, &acknowledgement))), [1, 0]);
    });
}
