//! What the gateway itself sends for services that it hosts: a number in the mark of the first packet says what it is,
//! and the flow keeps it.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::BTreeMap;

use nightgate_abi::{
    Hook, Intercept, Reason,
    intercept::{HOSTED_MARK, hosted_mark},
    mirror::{MirrorSessionId, NEVER, Outcome, claim},
};
use nightgate_datapath::{IfIndex, Probe};
use nightgate_datapath_tests::{LAN, WAN, World, fragment::fragments, frame::*, with_world};
use tcp_flags::{ACK, SYN};

/// Without a service, the second session has what the gateway itself sends.
const RULES: &str = "
- { id: out, from: lan, to: wan, action: accept }
- { id: own, from: local, to: wan, action: accept }
mirror:
  sensors: { ids: { interface: mon0, encapsulation: local } }
  sessions:
    - { id: first, sensor: ids, filter: { from: lan, to: wan, protocol: icmp } }
    - { id: all, sensor: ids, filter: { from: local, to: wan } }
";

const SERVICE: u32 = 3;
const NUMBER: u16 = 7;
const SECRET: u16 = u16::MAX - 1;
const GATEWAY: [&str; 2] = ["10.2.0.1:5000", "[2001:db8:2::1]:5000"];
const SERVER: [&str; 2] = ["192.0.2.1:443", "[2001:db8:9::1]:443"];

/// Frames that each of the two sessions was due for what a function sends; there is no sensor.
fn dues(world: &mut World<'_>, send: impl FnOnce(&mut World<'_>)) -> [u64; 2] {
    let due = |world: &World<'_>, number| {
        let statistics = world.datapath.mirror_statistics().unwrap();
        let row = statistics.sessions.get(&MirrorSessionId::new(number).unwrap()).cloned();
        row.map_or(0, |row| row[&Outcome::Matched].packets)
    };
    let before = [1, 2].map(|number| due(world, number));
    send(world);
    [1, 2].map(|number| due(world, number) - before[usize::from(number) - 1])
}

/// Sends a frame of the gateway itself, with a mark.
fn send(world: &mut World<'_>, number: u16, frame: &[u8]) {
    let interface = IfIndex::of(WAN).unwrap();
    let probe = Probe { hook: Hook::Egress, interface, received_by: None, frame, repeat: 1 };
    let sent = world.datapath.probe_marked(&probe, hosted_mark(HOSTED_MARK, number)).unwrap();
    assert_eq!(sent.reason, Reason::Sent);
}

fn host(world: &mut World<'_>, mirrored: u16) {
    let entries = [(NUMBER, mirrored), (SECRET, NEVER)];
    let entries = entries.map(|(number, claim)| (number, Intercept::new(SERVICE, claim)));
    world.datapath.set_hosted(&BTreeMap::from(entries)).unwrap();
}

fn first() -> u16 {
    claim(1, MirrorSessionId::new(1).unwrap())
}

#[test]
fn a_connection_for_a_service_is_mirrored_by_its_session_both_ways() {
    with_world(RULES, |world| {
        host(world, first());
        for (own, server) in GATEWAY.into_iter().zip(SERVER) {
            for (there, back) in [
                (tcp(own, server, SYN), tcp(server, own, SYN | ACK)),
                (udp(own, server), udp(server, own)),
            ] {
                let found = dues(world, |world| {
                    send(world, NUMBER, &there);
                    assert_eq!(world.receive(WAN, &back).reason, Reason::Local);
                });
                assert_eq!(found, [2, 0], "{own}");
                let services = world.datapath.flows().unwrap();
                assert!(services.iter().all(|flow| flow.service == Some(SERVICE)));
            }
        }
        let unknown = dues(world, |world| send(world, 9, &udp("10.2.0.1:9", SERVER[0])));
        assert_eq!(unknown, [0, 1], "a number that nothing is said of");
    });
}

#[test]
fn what_is_said_of_a_service_later_holds_for_its_connections_from_the_next_packet_on() {
    with_world(RULES, |world| {
        let (own, server) = (GATEWAY[0], SERVER[0]);
        let (there, back) = (tcp(own, server, SYN), tcp(server, own, SYN | ACK));
        host(world, 0);
        assert_eq!(dues(world, |world| send(world, NUMBER, &there)), [0, 1]);
        host(world, first());
        // Answers have no mark.
        assert_eq!(dues(world, |world| drop(world.receive(WAN, &back))), [1, 0]);
        host(world, NEVER);
        assert_eq!(dues(world, |world| drop(world.receive(WAN, &back))), [0, 0]);
        world.datapath.set_hosted(&BTreeMap::new()).unwrap();
        assert_eq!(dues(world, |world| drop(world.receive(WAN, &back))), [0, 1]);
    });
}

#[test]
fn nothing_of_a_connection_that_is_never_mirrored_is() {
    with_world(RULES, |world| {
        host(world, first());
        let (own, server) = (GATEWAY[0], SERVER[0]);
        let whole = datagram(own, server, &[7; 3_000]);
        let request = tcp(own, server, SYN);
        let error = icmp_data("192.0.2.9", "10.2.0.1", 3, 1, &request[14..]);
        let found = dues(world, |world| {
            for frame in fragments(&whole, 9, 1_400) {
                send(world, SECRET, &frame);
            }
            send(world, SECRET, &request);
            world.receive(WAN, &tcp(server, own, SYN | ACK));
            world.receive(WAN, &error);
        });
        assert_eq!(found, [0, 0]);
    });
}

#[test]
fn marks_of_what_others_send_say_nothing() {
    with_world(RULES, |world| {
        host(world, first());
        let frame = udp("10.1.0.2:4000", SERVER[0]);
        let interface = IfIndex::of(LAN).unwrap();
        let (hook, received_by) = (Hook::Ingress, None);
        let probe = Probe { hook, interface, received_by, frame: &frame, repeat: 1 };
        let mark = hosted_mark(HOSTED_MARK, NUMBER);
        assert_eq!(dues(world, |world| drop(world.datapath.probe_marked(&probe, mark))), [0, 0]);
        assert!(world.datapath.flows().unwrap().iter().all(|flow| flow.service.is_none()));
    });
}
