//! The kernel's classifier against the reference: random rules, random packets, the same verdicts.

use std::sync::atomic::{AtomicU32, Ordering};

use nightgate_abi::{Reason, ZoneId, reason::Kind};
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, with_uncommitted_world};
use nightgate_packet::{Packet, parse};
use nightgate_ruleset::{Verdict, ZoneName, classify};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

/// Rule sets and packets for each; together the number of pairs.
const RULE_SETS: u32 = 100;
const PACKETS: usize = 200;

#[test]
fn kernel_and_reference_agree() {
    let pairs = AtomicU32::new(0);
    let verdicts = [const { AtomicU32::new(0) }; 4];
    with_uncommitted_world(|world| {
        let world = std::cell::RefCell::new(world);
        let mut runner = TestRunner::new(Config {
            cases: RULE_SETS,
            failure_persistence: None,
            ..Config::default()
        });
        let strategy = (rules(), prop::collection::vec(journey(), PACKETS));
        runner
            .run(&strategy, |(rules, journeys)| {
                let mut world = world.borrow_mut();
                // A new epoch: no packet profits from a flow of other rules. Nor is one the answer to another,
                // since hosts that send are not those that are sent to.
                world.commit(&rules);
                for journey in journeys {
                    let (expected, found) = judge(&mut world, &journey);
                    prop_assert_eq!(found, expected, "{:?}", journey);
                    pairs.fetch_add(1, Ordering::Relaxed);
                    verdicts[found as usize].fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
    });
    let pairs = pairs.into_inner();
    assert!(pairs >= 20_000, "{pairs} pairs");
    for (verdict, count) in verdicts.into_iter().enumerate() {
        let count = count.into_inner();
        assert!(count > pairs / 50, "verdict {verdict} only {count} times of {pairs}");
    }
}

/// What became of a packet, without saying by which rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Accepted,
    RefusedByRule,
    Rejected,
    NoRule,
}

/// A packet, and where it is seen.
#[derive(Clone, Debug)]
struct Journey {
    from: &'static str,
    to: &'static str,
    frame: Vec<u8>,
}

fn judge(world: &mut World<'_>, journey: &Journey) -> (Fate, Fate) {
    let Ok(Packet::Ip(meta)) = parse(&journey.frame.as_slice()) else {
        panic!("a well-formed IP packet: {journey:?}")
    };
    let zone = |name: &str| -> ZoneId {
        world.rules.zones()[&ZoneName::new(name).expect("a zone's name")]
    };
    let expected = match classify(&world.rules, zone(journey.from), zone(journey.to), &meta) {
        Verdict::Accept(_) => Fate::Accepted,
        Verdict::Drop(_) => Fate::RefusedByRule,
        Verdict::Reject(_) => Fate::Rejected,
        Verdict::NoRule => Fate::NoRule,
    };
    let outcome = match (journey.from, journey.to) {
        ("local", _) => world.send(WAN, &journey.frame),
        ("lan", _) => world.receive(LAN, &journey.frame),
        (_, _) => world.receive(WAN, &journey.frame),
    };
    let found = if outcome.reason.kind() == Kind::Pass {
        Fate::Accepted
    } else if outcome.reason == Reason::Rule {
        Fate::RefusedByRule
    } else if outcome.reason == Reason::Rejected {
        Fate::Rejected
    } else {
        assert_eq!(outcome.reason, Reason::NoRule, "{journey:?}");
        Fate::NoRule
    };
    (expected, found)
}

/// Rules from a small world, so that they overlap and packets meet them.
fn rules() -> impl Strategy<Value = String> {
    let from = prop::sample::select(vec!["lan", "wan", "local", "[lan, wan]", "[lan, wan, local]"]);
    let to = prop::sample::select(vec!["lan", "wan", "[wan, local]", "[lan, wan, local]"]);
    let source = prop::sample::select(vec![
        "",
        "source: 10.1.0.0/30, ",
        "source: [10.1.0.4, 10.2.0.0/16], ",
        "source: '2001:db8:1::/64', ",
        "source: [0.0.0.0/0, '2001:db8:2::/126'], ",
        "source: '::/0', ",
    ]);
    let destination = prop::sample::select(vec![
        "",
        "destination: [10.2.0.8/30, 10.1.0.1, '2001:db8::/32'], ",
        "destination: [0.0.0.0/0, '2001:db8:2::10/126'], ",
    ]);
    let matches = prop::sample::select(vec![
        "",
        "protocol: tcp, ",
        "protocol: udp, destination_ports: [1, '3-4'], ",
        "protocol: tcp, source_ports: ['1-2', 5], destination_ports: ['2-65535'], ",
        "protocol: 47, ",
    ]);
    let action = prop::sample::select(vec!["accept", "drop", "reject"]);
    let rule = (from, to, source, destination, matches, action).prop_map(
        |(from, to, source, destination, matches, action)| {
            format!("from: {from}, to: {to}, {source}{destination}{matches}action: {action}")
        },
    );
    prop::collection::vec(rule, 1..9).prop_map(|rules| {
        let lines = rules.iter().enumerate().map(|(n, rule)| format!("- {{ id: r{n}, {rule} }}\n"));
        lines.collect()
    })
}

fn journey() -> impl Strategy<Value = Journey> {
    let way = prop::sample::select(vec![
        ("lan", "wan"),
        ("wan", "lan"),
        ("lan", "local"),
        ("wan", "local"),
        ("local", "wan"),
    ]);
    let protocol = prop::sample::select(vec![6_u8, 17, 47]);
    (way, any::<bool>(), 2_u8..8, 10_u8..16, 1_u16..6, 1_u16..6, protocol).prop_map(
        |((from, to), is_v4, source, destination, source_port, destination_port, protocol)| {
            let address = |zone: &str, host: u8| match (zone, is_v4) {
                ("lan", true) => format!("10.1.0.{host}"),
                ("lan", false) => format!("2001:db8:1::{host}"),
                ("wan", true) => format!("10.2.0.{host}"),
                ("wan", false) => format!("2001:db8:2::{host}"),
                (_, true) => "10.1.0.1".to_owned(),
                (_, false) => "2001:db8:1::1".to_owned(),
            };
            let (source, destination) = (address(from, source), address(to, destination));
            let with_port = |address: &str, port| {
                if is_v4 { format!("{address}:{port}") } else { format!("[{address}]:{port}") }
            };
            let source_end = with_port(&source, source_port);
            let destination_end = with_port(&destination, destination_port);
            let frame = match protocol {
                6 => tcp(&source_end, &destination_end, tcp_flags::SYN),
                17 => udp(&source_end, &destination_end),
                number => other(&source, &destination, number),
            };
            Journey { from, to, frame }
        },
    )
}
