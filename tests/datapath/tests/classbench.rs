//! The kernel's trees against the reference, over rule sets with the character of ClassBench's families: as
//! ClassBench makes them, and with all else that rules can ask for.

use std::net::IpAddr;

use nightgate_datapath_tests::{
    World, frame,
    oracle::{Journey, Oracle},
    with_uncommitted_world,
};
use nightgate_lab::classbench::{
    Family, Header, Numbers, Rule, every_dimension, header, rules, sets, yaml,
};

#[test]
fn trees_and_reference_agree_on_every_family() {
    let oracle = compare(&[9, 200, 2_000], 1_300, 1);
    assert!(oracle.packets([100, 400]) >= 20_000, "{oracle}");
    println!("{oracle}");
}

/// The nightly form: `cargo test -p nightgate-datapath-tests --release -- --ignored a_million`.
#[test]
#[ignore = "a million pairs take minutes"]
fn a_million_pairs_agree() {
    let packets = (1..=6).map(|seed| {
        let oracle = compare(&[16, 300, 3_000, 10_000], 7_000, seed);
        println!("{oracle}");
        oracle.packets([100, 400])
    });
    let pairs: usize = packets.sum();
    assert!(pairs >= 1_000_000, "{pairs} pairs");
}

/// Judges packets by rule sets of every family and size, without and with every dimension.
fn compare(sizes: &[usize], packets: usize, seed: u64) -> Oracle {
    let mut oracle = Oracle::default();
    with_uncommitted_world(|world| {
        for family in Family::ALL {
            for size in sizes {
                for (name, generate) in [("plain", rules as Generate), ("all", every_dimension)] {
                    let name = format!("{}-{size}-{seed}-{name}-", family.name());
                    let set = generate(family, *size, seed);
                    compare_one(world, &mut oracle, (&name, &set, seed), packets);
                }
            }
        }
    });
    oracle
}

type Generate = fn(Family, usize, u64) -> Vec<Rule>;

/// Verdicts are compared packet by packet, the rules they come from by the counters at the end.
fn compare_one(
    world: &mut World<'_>,
    oracle: &mut Oracle,
    (name, set, seed): (&str, &[Rule], u64),
    packets: usize,
) {
    world.commit(&format!("{}{}", yaml(set, name), sets(set)));
    let mut numbers = Numbers(seed);
    let mut pairs = 0;
    while pairs < packets {
        let header = header(set, &mut numbers);
        let journey = Journey { from: header.from, to: "wan", frame: frame(&header) };
        match oracle.compare(world, &journey) {
            Ok(None) => {}
            Ok(Some(_)) => pairs += 1,
            Err(error) => panic!("{name}: {error}"),
        }
    }
    oracle.compare_counts(world).unwrap_or_else(|error| panic!("{name}: {error}"));
}

fn frame(header: &Header) -> Vec<u8> {
    let end = |address: IpAddr, port: u16| std::net::SocketAddr::new(address, port).to_string();
    let source = end(header.source, header.ports[0]);
    let destination = end(header.destination, header.ports[1]);
    let addresses = [header.source, header.destination].map(|address| address.to_string());
    let facts = header.facts;
    let frame = match (header.protocol, header.message()) {
        // Rules that ask for no flags have headers without any.
        (6, _) if facts.flags == 0 => frame::tcp(&source, &destination, frame::tcp_flags::SYN),
        (6, _) => frame::tcp(&source, &destination, facts.flags),
        (17, _) => frame::udp(&source, &destination),
        (_, Some(message)) => {
            frame::message(&addresses[0], &addresses[1], message, header.ports[0])
        }
        (number, None) => frame::other(&addresses[0], &addresses[1], number),
    };
    frame::from_host(frame::marked(frame, facts.dscp), facts.host)
}
