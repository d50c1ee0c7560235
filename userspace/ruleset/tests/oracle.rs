//! The image means what the reference classifier says, for random rules and packets.

use std::net::{Ipv4Addr, Ipv6Addr};

use nightgate_abi::{
    Address, Group, ZoneId,
    forest::{Progress, Walk},
    rule::action,
};
use nightgate_config::{Gateway, parse};
use nightgate_packet::PacketMeta;
use nightgate_ruleset::{MapImage, RuleSet, Verdict, classify, compile, counting_rule};
use proptest::prelude::*;

proptest! {
    #[test]
    fn image_and_reference_agree(rules in rules(), packets in prop::collection::vec(packet(6), 20)) {
        let set = compile(&gateway(&rules)).unwrap();
        let image = set.image();
        for packet in packets {
            let [found, expected] = compare(&set, &image, packet);
            prop_assert_eq!(found, expected, "{:?}", packet);
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
        for packet in packets {
            let [found, expected] = compare(&set, &image, packet);
            prop_assert_eq!(found, expected, "{:?}", packet);
        }
    }
}

/// A rule with a prefix of any length on either side, close to the addresses of [`packet`].
fn prefix_rule() -> impl Strategy<Value = String> {
    let pair = prop_oneof![(prefix_v4(), prefix_v4()), (prefix_v6(), prefix_v6())];
    let ports =
        prop::sample::select(vec!["", "destination_ports: [1], ", "destination_ports: ['2-4'], "]);
    let zone = prop::sample::select(vec!["lan", "wan"]);
    let members = prop_oneof![
        6 => Just(""),
        1 => prop::sample::select(vec!["$odd", "{ not: $odd }", "{ not: $few }", "$few", "{ not: [$odd, $few] }"]),
    ];
    (zone.clone(), zone, pair, members, ports, facts(true), action()).prop_map(
        |(from, to, (source, destination), members, ports, facts, action)| {
            let source = if members.is_empty() { format!("'{source}'") } else { members.into() };
            format!(
                "from: {from}, to: {to}, source: {source}, destination: ['{destination}'], \
                 protocol: tcp, {ports}{facts}action: {action}"
            )
        },
    )
}

fn action() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["accept", "accept", "drop", "reject", "count"])
}

/// What a rule asks of the packet that opens a flow; now and then something, of TCP if flags have a sense.
fn facts(is_tcp: bool) -> impl Strategy<Value = &'static str> {
    let mut facts = vec![
        "",
        "dscp: [ef, 0], ",
        "source_mac: '02:00:00:00:00:01', ",
        "source_mac: ['02:00:00:00:00:01', '02:00:00:00:00:02'], dscp: 46, ",
    ];
    if is_tcp {
        facts.extend(["tcp_flags: 'syn,!ack', ", "tcp_flags: [ack, '!syn'], dscp: cs1, "]);
    }
    prop_oneof![2 => Just(""), 1 => prop::sample::select(facts)]
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

/// What the kernel's walk over the image finds, and what the reference says: the rule that decides, and the rule
/// that only counts.
fn compare(
    set: &RuleSet,
    image: &MapImage,
    (from, to, packet): (ZoneId, ZoneId, PacketMeta),
) -> [(Verdict, Option<usize>); 2] {
    let subject = packet.subject(from, to);
    let (mut walk, key) = (Walk::new(Group::Filter), subject.key());
    while walk.step(image.slots().get(walk.wants() as usize), &key, &subject) == Progress::Goes {}
    let verdict = match walk.outcome().map(|found| (found.action(), found.rule as usize)) {
        Some((action::ACCEPT, rule)) => Verdict::Accept(rule),
        Some((action::DROP, rule)) => Verdict::Drop(rule),
        Some((_, rule)) => Verdict::Reject(rule),
        None => Verdict::NoRule,
    };
    let expected = (classify(set, from, to, &packet), counting_rule(set, from, to, &packet));
    [(verdict, walk.counting().map(|rule| rule as usize)), expected]
}

fn gateway(rules: &[String]) -> Gateway {
    let rules: String =
        rules.iter().enumerate().map(|(n, rule)| format!("  - {{ id: r{n}, {rule} }}\n")).collect();
    let text = format!(
        "version: 1\nrouter: {{ identity: a }}\nzones:\n  lan: {{ interfaces: [l] }}\n  wan: {{ interfaces: [w] \
         }}\n{}rules:\n{rules}",
        sets()
    );
    parse(&text, "generated.yaml").expect("generated rules are good").gateway.expect("a gateway")
}

/// Sets that rules name, with trees of one node and of several levels, over both families.
fn sets() -> String {
    let odd: Vec<String> = (0..100_u16)
        .flat_map(|host| {
            [format!("10.0.0.{}", 2 * host + 1), format!("'2001:db8::{:x}'", 3 * host)]
        })
        .collect();
    let ports: Vec<String> =
        (1..60_u16).map(|port| format!("'{}-{}'", 5 * port, 5 * port + 2)).collect();
    format!(
        "sets:\n  few: {{ addresses: [10.0.0.0/30, 10.0.0.2/31, '2001:db8::4/126'] }}\n  \
         odd: {{ addresses: [{}] }}\n  short: {{ addresses: ['::/1', 10.0.0.3] }}\n  \
         low: {{ ports: [1, '3-4'] }}\n  many: {{ ports: [2, {}] }}\n",
        odd.join(", "),
        ports.join(", ")
    )
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
        "protocol: tcp, tcp_flags: 'syn,!ack', ",
        "protocol: tcp, destination_ports: $many, ",
        "protocol: udp, source_ports: { not: [$low, 5] }, destination_ports: [$low, 5], ",
        "protocol: icmp, ",
        "protocol: icmp, icmp_types: [echo-request, 3/4], ",
        "protocol: icmpv6, icmp_types: [echo-request, packet-too-big, '3/1'], ",
    ]);
    let members = prop_oneof![
        3 => Just(""),
        1 => prop::sample::select(vec![
            "source: $few, ",
            "source: [$odd, 10.0.0.8/29], ",
            "source: { not: $odd }, ",
            "source: { not: [10.0.0.0/30, '2001:db8::/126'] }, ",
            "source: $short, ",
            "source: { not: [$short, $few] }, ",
        ]),
    ];
    let destination = prop_oneof![
        3 => Just(""),
        1 => prop::sample::select(vec![
            "destination: $odd, ",
            "destination: { not: [$few, 10.0.0.5] }, ",
            "destination: { not: '::/0' }, ",
        ]),
    ];
    let zone = prop::sample::select(vec!["lan", "wan", "[lan, wan]"]);
    let to = prop::sample::select(vec!["lan", "wan", "local", "overlay", "[wan, local, overlay]"]);
    let members = (members, destination);
    let rule = (zone, to, prefixes, members, matches, facts(false), action()).prop_map(
        |(from, to, source, (members, destination), matches, facts, action)| {
            // No rule may be for IPv6 addresses and ICMP, or the other way round.
            let source = match source.trim_end_matches(", ") {
                "['::/0']" if matches.contains("icmp,") => String::new(),
                list if list.is_empty()
                    || list.starts_with("[10") && matches.contains("icmpv6") =>
                {
                    String::new()
                }
                "[0.0.0.0/0]" if matches.contains("icmpv6") => String::new(),
                list => format!("source: {list}, "),
            };
            let source = if members.is_empty() { &source } else { members };
            format!("from: {from}, to: {to}, {source}{destination}{matches}{facts}action: {action}")
        },
    );
    prop::collection::vec(rule, 1..12)
}

/// A packet between any two of the first addresses of either family.
fn packet(hosts: u8) -> impl Strategy<Value = (ZoneId, ZoneId, PacketMeta)> {
    let zone = (1_u8..5).prop_map(|number| ZoneId::new(number).expect("a small number"));
    let ends = (any::<bool>(), 0..hosts, 0..hosts, 0_u16..6, 0_u16..6);
    let protocol = prop::sample::select(vec![6_u8, 6, 17, 1, 47]);
    let message =
        prop::sample::select(vec![(8_u8, 0_u8), (0, 0), (3, 4), (3, 1), (2, 0), (128, 0)]);
    let flags = prop::sample::select(vec![0x02_u8, 0x12, 0x10]);
    let facts = (message, flags, prop::sample::select(vec![0_u8, 8, 46, 63]), 0_u8..3);
    (zone.clone(), zone, ends, protocol, facts).prop_map(
        |(from, to, (is_v4, s, d, source_port, destination_port), protocol, facts)| {
            let address = |n| {
                if is_v4 {
                    Address::from_v4([10, 0, 0, n])
                } else {
                    Address::from_v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n])
                }
            };
            let ((icmp_type, icmp_code), tcp_flags, dscp, mac) = facts;
            let is_icmp = protocol == 1;
            let of_icmp = |value| if is_icmp { value } else { 0 };
            let protocol = if is_icmp && !is_v4 { 58 } else { protocol };
            let packet = PacketMeta {
                tcp_flags: if protocol == 6 { tcp_flags } else { 0 },
                icmp_type: of_icmp(icmp_type),
                icmp_code: of_icmp(icmp_code),
                dscp,
                source_mac: [2, 0, 0, 0, 0, mac],
                ..PacketMeta::between(
                    protocol,
                    (address(s), source_port),
                    (address(d), destination_port),
                )
            };
            (from, to, packet)
        },
    )
}
