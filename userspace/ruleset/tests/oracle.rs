//! The image means what the reference classifier says, for random rules and packets.

use std::net::{Ipv4Addr, Ipv6Addr};

use nightgate_abi::{
    Address, Family, ZoneId,
    forest::{Progress, Walk},
    rule::{Subject, action},
};
use nightgate_config::{Gateway, parse};
use nightgate_packet::PacketMeta;
use nightgate_ruleset::{MapImage, Verdict, classify, compile};
use proptest::prelude::*;

proptest! {
    #[test]
    fn image_and_reference_agree(rules in rules(), packets in prop::collection::vec(packet(6), 20)) {
        let set = compile(&gateway(&rules)).unwrap();
        let image = set.image();
        for (from, to, packet) in packets {
            let expected = classify(&set, from, to, &packet);
            prop_assert_eq!(first_match(&image, from, to, &packet), expected, "{:?}", packet);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Enough rules for real trees, with prefixes of every length in both families: a short prefix of
    /// one family must never hide rules of the other.
    #[test]
    fn trees_and_reference_agree(
        rules in prop::collection::vec(prefix_rule(), 60..200),
        packets in prop::collection::vec(packet(32), 200),
    ) {
        let set = compile(&gateway(&rules)).unwrap();
        let image = set.image();
        for (from, to, packet) in packets {
            let expected = classify(&set, from, to, &packet);
            prop_assert_eq!(first_match(&image, from, to, &packet), expected, "{:?}", packet);
        }
    }
}

/// A rule with a prefix of any length on either side, close to the addresses of [`packet`].
fn prefix_rule() -> impl Strategy<Value = String> {
    let pair = prop_oneof![(prefix_v4(), prefix_v4()), (prefix_v6(), prefix_v6())];
    let ports =
        prop::sample::select(vec!["", "destination_ports: [1], ", "destination_ports: ['2-4'], "]);
    let zone = prop::sample::select(vec!["lan", "wan"]);
    let action = prop::sample::select(vec!["accept", "drop"]);
    (zone.clone(), zone, pair, ports, action).prop_map(
        |(from, to, (source, destination), ports, action)| {
            format!(
                "from: {from}, to: {to}, source: ['{source}'], destination: ['{destination}'], \
                 protocol: tcp, {ports}action: {action}"
            )
        },
    )
}

fn prefix_v4() -> impl Strategy<Value = String> {
    (0_u8..32, length(32)).prop_map(|(host, length)| {
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        format!("{}/{length}", Ipv4Addr::from(u32::from_be_bytes([10, 0, 0, host]) & mask))
    })
}

fn prefix_v6() -> impl Strategy<Value = String> {
    (0_u128..32, length(128)).prop_map(|(host, length)| {
        let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        format!("{}/{length}", Ipv6Addr::from((0x2001_0db8 << 96 | host) & mask))
    })
}

/// Mostly long, or the first few rules would match everything; sometimes everything, or any length.
fn length(longest: u32) -> impl Strategy<Value = u32> {
    prop_oneof![1 => Just(0), 6 => Just(longest), 1 => 0..=longest]
}

/// The kernel's walk over the image, and a search of the entries one by one.
fn first_match(image: &MapImage, from: ZoneId, to: ZoneId, packet: &PacketMeta) -> Verdict {
    let subject = Subject {
        from,
        to,
        source: packet.source,
        destination: packet.destination,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
        protocol: packet.protocol,
    };
    let entry = image.entries().iter().find(|entry| subject.matches(entry));
    let found = walk(image, &subject);
    assert_eq!(found, entry.map(|entry| (entry.rule, entry.action)), "{subject:?}");
    match found.map(|(rule, action)| (action, rule as usize)) {
        Some((action::ACCEPT, rule)) => Verdict::Accept(rule),
        Some((_, rule)) => Verdict::Drop(rule),
        None => Verdict::NoRule,
    }
}

fn walk(image: &MapImage, subject: &Subject) -> Option<(u32, u8)> {
    let (mut walk, key) = (Walk::new(), subject.key());
    while walk.step(image.slots().get(walk.wants() as usize), &key, subject) == Progress::Goes {}
    walk.outcome()
}

fn gateway(rules: &[String]) -> Gateway {
    let rules: String =
        rules.iter().enumerate().map(|(n, rule)| format!("  - {{ id: r{n}, {rule} }}\n")).collect();
    let text = format!(
        "version: 1\nrouter: {{ identity: a }}\nzones:\n  lan: {{ interfaces: [l] }}\n  wan: {{ interfaces: [w] \
         }}\nrules:\n{rules}"
    );
    parse(&text, "generated.yaml").expect("generated rules are good").gateway.expect("a gateway")
}

/// Rules from a small world, so that they overlap and packets hit them.
fn rules() -> impl Strategy<Value = Vec<String>> {
    let prefixes = prop::sample::select(vec![
        "",
        "[10.0.0.0/8], ",
        "[10.0.0.0/30, 10.0.0.4]",
        "[0.0.0.0/0], ",
        "['::/0'], ",
        "['2001:db8::/126', 10.0.0.0/31], ",
    ]);
    let matches = prop::sample::select(vec![
        "",
        "protocol: tcp, ",
        "protocol: udp, destination_ports: [1, '2-3'], ",
        "protocol: tcp, source_ports: ['1-2', 4], destination_ports: [2], ",
        "protocol: 47, ",
    ]);
    let zone = prop::sample::select(vec!["lan", "wan", "[lan, wan]"]);
    let to = prop::sample::select(vec!["lan", "wan", "local", "overlay", "[wan, local, overlay]"]);
    let action = prop::sample::select(vec!["accept", "drop"]);
    let rule =
        (zone, to, prefixes, matches, action).prop_map(|(from, to, source, matches, action)| {
            let source = match source.trim_end_matches(", ") {
                "" => String::new(),
                list => format!("source: {list}, "),
            };
            format!("from: {from}, to: {to}, {source}{matches}action: {action}")
        });
    prop::collection::vec(rule, 1..12)
}

/// A packet between any two of the first addresses of either family.
fn packet(hosts: u8) -> impl Strategy<Value = (ZoneId, ZoneId, PacketMeta)> {
    let zone = (1_u8..5).prop_map(|number| ZoneId::new(number).expect("a small number"));
    let protocol = prop::sample::select(vec![6_u8, 17, 1, 47]);
    let is_v4 = any::<bool>();
    (zone.clone(), zone, is_v4, 0..hosts, 0..hosts, 0_u16..6, 0_u16..6, protocol).prop_map(
        |(from, to, is_v4, s, d, source_port, destination_port, protocol)| {
            let address = |n| {
                if is_v4 {
                    Address::from_v4([10, 0, 0, n])
                } else {
                    Address::from_v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n])
                }
            };
            let packet = PacketMeta {
                source: address(s),
                destination: address(d),
                source_port,
                destination_port,
                protocol,
                tcp_flags: 0,
                family: if is_v4 { Family::V4 } else { Family::V6 },
            };
            (from, to, packet)
        },
    )
}
