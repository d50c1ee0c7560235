//! A world so small that every packet in it can be tried.

use nightgate_abi::{Address, Family};
use nightgate_config::{Gateway, parse};
use nightgate_packet::{PacketMeta, protocol};
use nightgate_ruleset::{RuleSet, ZoneId, compile};

/// Sets that rules may name.
pub(crate) const SETS: &str = "\
sets:
  few: { addresses: [10.0.0.0/31, 10.0.0.2, '2001:db8::1', '2001:db8::2/127'] }
  low: { ports: [1, '3-9'] }
";

/// Compiles rules, without their ids, for the zones `lan` and `wan`; the ids are `r0`, `r1` and so on.
pub(crate) fn rules_of_two_zones(rules: &[String]) -> (Gateway, RuleSet) {
    compiled("  lan: { interfaces: [l] }\n  wan: { interfaces: [w] }\n", rules)
}

/// As [`rules_of_two_zones`], for zones given as lines of YAML.
pub(crate) fn compiled(zones: &str, rules: &[String]) -> (Gateway, RuleSet) {
    let rules: String =
        rules.iter().enumerate().map(|(n, rule)| format!("  - {{ id: r{n}, {rule} }}\n")).collect();
    let rules = if rules.is_empty() { "  []\n".into() } else { rules };
    let text =
        format!("version: 1\nrouter: {{ identity: a }}\nzones:\n{zones}rules:\n{rules}{SETS}");
    let config = parse(&text, "generated.yaml").unwrap_or_else(|e| panic!("{text}\n{e:#?}"));
    let gateway = config.gateway.expect("a gateway");
    let set = compile(&gateway).expect("within the limits");
    (gateway, set)
}

/// A packet of every kind that the rules of these tests can tell apart.
pub(crate) fn every_packet() -> Vec<(ZoneId, ZoneId, PacketMeta)> {
    let mut packets = Vec::new();
    let zones = [3, 4].map(|number| ZoneId::new(number).expect("a small number"));
    for (from, to) in zones.into_iter().flat_map(|from| zones.map(|to| (from, to))) {
        for (family, source, destination) in pairs() {
            for (protocol, source_port, destination_port) in ports(family) {
                let packet = PacketMeta::between(
                    protocol,
                    (source, source_port),
                    (destination, destination_port),
                );
                packets.extend(variants(packet).map(|packet| (from, to, packet)));
            }
        }
    }
    packets
}

fn pairs() -> Vec<(Family, Address, Address)> {
    let mut pairs = Vec::new();
    let v4 = [0, 1, 2, 3, 9].map(|n| Address::from_v4([10, 0, 0, n]));
    let v6 = [0, 1, 2, 3, 9]
        .map(|n| Address::from_v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n]));
    for (family, list) in [(Family::V4, v4), (Family::V6, v6)] {
        pairs.extend(list.iter().flat_map(|s| list.map(|d| (family, *s, d))));
    }
    pairs
}

fn ports(family: Family) -> Vec<(u8, u16, u16)> {
    let icmp = match family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    };
    let mut all = vec![(icmp, 7, 7), (47, 0, 0)];
    for number in [protocol::TCP, protocol::UDP] {
        all.extend([0, 1, 3].into_iter().flat_map(|s| [1, 2, 3].map(|d| (number, s, d))));
    }
    all
}

/// The packet as it is, and otherwise in what only first packets of some protocols say.
fn variants(packet: PacketMeta) -> impl Iterator<Item = PacketMeta> {
    let is_icmp = [protocol::ICMP, protocol::ICMPV6].contains(&packet.protocol);
    let messages = if is_icmp { vec![8, 128, 3] } else { vec![0] };
    let flags = if packet.protocol == protocol::TCP { vec![2, 18] } else { vec![0] };
    messages.into_iter().flat_map(move |icmp_type| {
        let of_type = PacketMeta { icmp_type, ..packet };
        flags.clone().into_iter().map(move |tcp_flags| PacketMeta { tcp_flags, ..of_type })
    })
}
