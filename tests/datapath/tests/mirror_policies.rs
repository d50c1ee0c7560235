//! What a session copies of its flows: every packet that is due has one outcome, and says which.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::BTreeMap;

use nightgate_abi::{
    Rate, Reason,
    mirror::{MirrorSession, MirrorSessionId, Outcome, directions},
};
use nightgate_datapath::IfIndex;
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, with_world};
use tcp_flags::{ACK, SYN};

const RULES: &str = "
- { id: out, from: lan, to: wan, action: accept }
mirror:
  sensors: { ids: { interface: mon0, encapsulation: local } }
  sessions: [{ id: all, sensor: ids, filter: { from: lan, to: wan } }]
";

const CLIENT: &str = "10.1.0.2:4000";
const SERVER: &str = "192.0.2.1:80";
/// Nanoseconds of an hour.
const HOUR: u64 = 3_600_000_000_000;

/// Mirrors by a session what a function sends; gives the outcomes. The tests' gateway has no mirror device, so that
/// what would be copied is counted as that.
fn outcomes(
    world: &mut World<'_>,
    session: MirrorSession,
    send: impl FnOnce(&mut World<'_>),
) -> BTreeMap<Outcome, u64> {
    let id = MirrorSessionId::new(1).unwrap();
    world.datapath.mirror().forget_copies(id).unwrap();
    world.datapath.mirror().set_session(id, session).unwrap();
    send(world);
    let statistics = world.datapath.mirror_statistics().unwrap();
    let row = statistics.sessions.get(&id).cloned().unwrap_or_default();
    let counts: BTreeMap<_, _> = row
        .into_iter()
        .map(|(outcome, counter)| (outcome, counter.packets))
        .filter(|(_, packets)| *packets != 0)
        .collect();
    let others = counts.iter().filter(|(outcome, _)| **outcome != Outcome::Matched);
    let others: u64 = others.map(|(_, packets)| packets).sum();
    assert_eq!(counts.get(&Outcome::Matched).copied().unwrap_or_default(), others);
    counts
}

/// A packet through the gateway, and its answer, each by both interfaces.
fn exchange(world: &mut World<'_>, there: &[u8], back: &[u8]) {
    assert_eq!(world.receive(LAN, there).reason, Reason::Forwarded);
    assert_eq!(world.forward(LAN, WAN, there).reason, Reason::Sent);
    assert_eq!(world.receive(WAN, back).reason, Reason::Forwarded);
    assert_eq!(world.forward(WAN, LAN, back).reason, Reason::Sent);
}

/// An exchange of two datagrams.
fn question(world: &mut World<'_>, client: &str, server: &str) {
    exchange(world, &udp(client, server), &udp(server, client));
}

#[test]
fn a_session_is_due_the_directions_it_asks_for() {
    with_world(RULES, |world| {
        let all = [(directions::BOTH, 4), (directions::ORIGINAL, 3), (directions::REPLY, 1)];
        for (directions, expected) in all {
            let session = MirrorSession { directions, ..MirrorSession::default() };
            let counts = outcomes(world, session, |world| {
                exchange(world, &tcp(CLIENT, SERVER, SYN), &tcp(SERVER, CLIENT, SYN | ACK));
                for _ in 0..2 {
                    world.receive(LAN, &tcp(CLIENT, SERVER, ACK));
                }
            });
            assert_eq!(counts[&Outcome::NoDevice], expected, "{directions}");
        }
    });
}

#[test]
fn a_session_is_due_what_is_copied_at_its_interfaces() {
    with_world(RULES, |world| {
        let [lan, wan] = [LAN, WAN].map(|name| IfIndex::of(name).unwrap().get());
        for (interfaces, expected) in [
            ([0; 4], Some(2)),
            ([lan, 0, 0, 0], Some(2)),
            ([wan, u32::MAX, u32::MAX, lan], Some(2)),
            ([wan, 0, 0, 0], None),
            ([u32::MAX, 0, 0, 0], None),
        ] {
            let session = MirrorSession { interfaces, ..MirrorSession::default() };
            let counts = outcomes(world, session, |world| question(world, CLIENT, "192.0.2.1:53"));
            assert_eq!(counts.get(&Outcome::NoDevice).copied(), expected, "{interfaces:?}");
        }
    });
}

#[test]
fn a_sample_takes_whole_flows() {
    with_world(RULES, |world| {
        const FLOWS: u64 = 400;
        let mut sampled = 0;
        let session = MirrorSession { one_in: 4, ..MirrorSession::default() };
        let counts = outcomes(world, session, |world| {
            let copied = |world: &World<'_>| {
                let statistics = world.datapath.mirror_statistics().unwrap();
                let row = statistics.sessions.get(&MirrorSessionId::new(1).unwrap());
                row.map_or(0, |row| row[&Outcome::NoDevice].packets)
            };
            for flow in 0..FLOWS {
                let before = copied(world);
                if flow % 2 == 0 {
                    question(world, &format!("10.1.0.2:{}", 5_000 + flow), "192.0.2.1:53");
                } else {
                    let client = format!("[2001:db8:1::2]:{}", 5_000 + flow);
                    question(world, &client, "[2001:db8:9::1]:53");
                }
                let packets = copied(world) - before;
                assert!(packets == 0 || packets == 2, "{packets} packets of flow {flow}");
                sampled += packets / 2;
            }
        });
        assert_eq!(counts[&Outcome::SampledOut], 2 * (FLOWS - sampled));
        assert!((70..=130).contains(&sampled), "{sampled} of {FLOWS} flows");
    });
}

#[test]
fn the_beginning_of_a_flow_is_copied_as_far_as_asked() {
    with_world(RULES, |world| {
        let packet = datagram(CLIENT, "192.0.2.1:53", &[7; 958]);
        // 1000 bytes each, with their link headers.
        assert_eq!(packet.len(), 1_000);
        let session = MirrorSession { cut_after: 5_000, ..MirrorSession::default() };
        let counts = outcomes(world, session, |world| {
            for _ in 0..12 {
                world.receive(LAN, &packet);
            }
            question(world, "10.1.0.2:4001", "192.0.2.1:53");
        });
        assert_eq!(counts[&Outcome::CutOff], 7);
        assert_eq!(counts[&Outcome::NoDevice], 5 + 2);
    });
}

#[test]
fn frames_beyond_the_rate_are_not_copied() {
    with_world(RULES, |world| {
        let session = MirrorSession { rate: Rate::new(1, HOUR, 10), ..MirrorSession::default() };
        let counts = outcomes(world, session, |world| {
            for port in 0..50 {
                question(world, &format!("10.1.0.2:{}", 6_000 + port), "192.0.2.1:53");
            }
        });
        assert_eq!((counts[&Outcome::NoDevice], counts[&Outcome::RateLimited]), (10, 90));
    });
}

#[test]
fn a_session_that_has_ended_copies_nothing() {
    with_world(RULES, |world| {
        for (until, outcome) in [(1, Outcome::Expired), (u64::MAX, Outcome::NoDevice)] {
            let session = MirrorSession { until, ..MirrorSession::default() };
            let counts = outcomes(world, session, |world| question(world, CLIENT, "192.0.2.1:53"));
            assert_eq!(counts[&outcome], 2);
        }
    });
}
