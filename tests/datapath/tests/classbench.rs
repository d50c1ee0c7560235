//! The kernel's trees against the reference, over rule sets with the character of ClassBench's families.

use std::{collections::BTreeMap, net::IpAddr};

use nightgate_abi::{Reason, reason::Kind};
use nightgate_datapath_tests::{LAN, WAN, World, frame, with_uncommitted_world};
use nightgate_lab::classbench::{Family, Header, Numbers, header, rules, yaml};
use nightgate_packet::{Packet, parse};
use nightgate_ruleset::{Verdict, ZoneName, classify};

#[test]
fn trees_and_reference_agree_on_every_family() {
    let pairs = compare(&[9, 200, 2_000], 2_400, 1);
    assert!(pairs >= 20_000, "{pairs} pairs");
}

/// The nightly form: `cargo test -p nightgate-datapath-tests --release -- --ignored a_million`.
#[test]
#[ignore = "a million pairs take minutes"]
fn a_million_pairs_agree() {
    let pairs: usize = (1..=6).map(|seed| compare(&[16, 300, 3_000, 10_000], 14_000, seed)).sum();
    assert!(pairs >= 1_000_000, "{pairs} pairs");
}

/// What the flow table knows a flow by; it keeps flows across commits.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Flow(IpAddr, IpAddr, u8, [u16; 2]);

/// Judges packets by rule sets of every family and size; returns how many.
fn compare(sizes: &[usize], packets: usize, seed: u64) -> usize {
    let mut pairs = 0;
    let mut verdicts = [0; 2];
    let mut flows = BTreeMap::new();
    with_uncommitted_world(|world| {
        for family in Family::ALL {
            for size in sizes {
                let [accepted, dropped] =
                    compare_one(world, &mut flows, (family, *size, seed), packets);
                verdicts = [verdicts[0] + accepted, verdicts[1] + dropped];
                pairs += packets;
            }
        }
    });
    // A comparison in which hardly anything is accepted, or dropped, would prove little.
    assert!(verdicts.into_iter().all(|count| count > pairs / 20), "{verdicts:?} of {pairs}");
    pairs
}

/// Verdicts are compared packet by packet, the rules they come from by the counters at the end. Returns how
/// many packets rules accept and drop.
fn compare_one(
    world: &mut World<'_>,
    flows: &mut BTreeMap<Flow, &'static str>,
    (family, size, seed): (Family, usize, u64),
    packets: usize,
) -> [usize; 2] {
    let set = rules(family, size, seed);
    let prefix = format!("{}-{size}-{seed}-", family.name());
    world.commit(&yaml(&set, &prefix));
    let mut numbers = Numbers(seed);
    let mut expected = BTreeMap::new();
    let mut verdicts = [0; 2];
    let mut pairs = 0;
    while pairs < packets {
        let header = header(&set, &mut numbers);
        // A known flow from another zone would be a forgery, which the flow table refuses without the rules.
        let flow = Flow(header.source, header.destination, header.protocol, header.ports);
        if *flows.entry(flow).or_insert(header.from) != header.from {
            continue;
        }
        pairs += 1;
        let frame = frame(&header);
        let Ok(Packet::Ip(meta)) = parse(&frame.as_slice()) else {
            panic!("a well-formed packet: {header:?}")
        };
        let zone = |name| world.rules.zones()[&ZoneName::new(name).expect("a zone's name")];
        let verdict = classify(&world.rules, zone(header.from), zone("wan"), &meta);
        let interface = if header.from == "lan" { LAN } else { WAN };
        let reason = world.receive(interface, &frame).reason;
        let rule = match verdict {
            Verdict::Accept(rule) => {
                assert_eq!(
                    reason.kind(),
                    Kind::Pass,
                    "{prefix}{rule} accepts {header:?}: {reason}"
                );
                verdicts[0] += 1;
                rule
            }
            Verdict::Drop(rule) | Verdict::Reject(rule) => {
                assert_eq!(reason, Reason::Rule, "{prefix}{rule} drops {header:?}");
                verdicts[1] += 1;
                rule
            }
            Verdict::NoRule => {
                assert_eq!(reason, Reason::NoRule, "{header:?}");
                continue;
            }
        };
        *expected.entry(world.rules.rules()[rule].id.clone()).or_insert(0) += 1;
    }
    let hits = world.datapath.rule_hits().expect("hits").into_iter();
    let counted: BTreeMap<_, _> = hits
        .map(|(rule, hits)| (rule, hits.counter.packets))
        .filter(|(_, packets)| *packets != 0)
        .collect();
    assert_eq!(counted, expected, "{prefix}");
    verdicts
}

fn frame(header: &Header) -> Vec<u8> {
    let end = |address: IpAddr, port: u16| std::net::SocketAddr::new(address, port).to_string();
    let source = end(header.source, header.ports[0]);
    let destination = end(header.destination, header.ports[1]);
    match header.protocol {
        6 => frame::tcp(&source, &destination, frame::tcp_flags::SYN),
        17 => frame::udp(&source, &destination),
        number => frame::other(&header.source.to_string(), &header.destination.to_string(), number),
    }
}
