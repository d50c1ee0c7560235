//! Why a packet is accepted or refused: which rule decides, and in what the others differ from the packet.

use std::{collections::BTreeSet, fmt};

use nightgate_abi::ZoneId;
use nightgate_config::{Protocol, RuleId, TcpFlags, ZoneName};
use nightgate_packet::PacketMeta;

use crate::{
    classify::{Field, Verdict, classify},
    compile::{CompiledRule, RuleSet},
    members::Members,
};

/// What the rules say about a packet, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// What they say.
    pub verdict: Verdict,
    /// The rules that were asked before the one that decides, or all of them.
    pub passed_over: Vec<PassedOver>,
}

/// A rule that does not match.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PassedOver {
    /// Its index.
    pub index: usize,
    /// The rule.
    pub rule: RuleId,
    /// In what it differs from the packet; at least one.
    pub differences: Vec<Mismatch>,
}

/// A field in which a rule and a packet differ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mismatch {
    /// Key of the rule.
    pub field: &'static str,
    /// What the rule asks for.
    pub expected: String,
    /// What the packet has.
    pub found: String,
}

/// Explains what becomes of a packet between two zones.
pub fn explain(rules: &RuleSet, from: ZoneId, to: ZoneId, packet: &PacketMeta) -> Explanation {
    let verdict = classify(rules, from, to, packet);
    let asked = match verdict {
        Verdict::Accept(index) | Verdict::Drop(index) | Verdict::Reject(index) => index,
        Verdict::NoRule => rules.rules().len(),
    };
    let passed_over = rules.rules()[..asked].iter().enumerate().map(|(index, rule)| PassedOver {
        index,
        rule: rule.id.clone(),
        differences: differences(rules, rule, (from, to), packet),
    });
    // A rule that only counts may match and is passed over all the same.
    let passed_over = passed_over.filter(|rule| !rule.differences.is_empty());
    Explanation { verdict, passed_over: passed_over.collect() }
}

impl Explanation {
    /// The rules that differ from the packet in the fewest fields, at most `count`, in their order. The zones
    /// weigh most: a rule between the packet's zones is nearer than any other.
    pub fn nearest(&self, count: usize) -> Vec<&PassedOver> {
        let mut nearest: Vec<&PassedOver> = self.passed_over.iter().collect();
        nearest.sort_by_key(|rule| rule.distance());
        nearest.truncate(count);
        nearest.sort_by_key(|rule| rule.index);
        nearest
    }
}

impl PassedOver {
    fn distance(&self) -> (usize, usize) {
        let is_zone = |difference: &&Mismatch| ["from", "to"].contains(&difference.field);
        (self.differences.iter().filter(is_zone).count(), self.differences.len())
    }
}

fn differences(
    rules: &RuleSet,
    rule: &CompiledRule,
    zones: (ZoneId, ZoneId),
    packet: &PacketMeta,
) -> Vec<Mismatch> {
    let differing = Field::ALL.iter().filter(|field| !field.holds(rule, zones, packet));
    differing.map(|field| field.mismatch(rules, rule, zones, packet)).collect()
}

impl Field {
    fn mismatch(
        self,
        rules: &RuleSet,
        rule: &CompiledRule,
        (from, to): (ZoneId, ZoneId),
        packet: &PacketMeta,
    ) -> Mismatch {
        let zone = |zone: &ZoneId| rules.zone_name(*zone).map_or("no zone", ZoneName::as_str);
        let zones = |set: &BTreeSet<ZoneId>| list(set.iter().map(zone));
        let (field, expected, found) = match self {
            Self::From => ("from", zones(&rule.from), zone(&from).into()),
            Self::To => ("to", zones(&rule.to), zone(&to).into()),
            Self::Source => (
                "source",
                either(&rule.source, &rule.source_members),
                packet.source.to_ip().to_string(),
            ),
            Self::Destination => (
                "destination",
                either(&rule.destination, &rule.destination_members),
                packet.destination.to_ip().to_string(),
            ),
            Self::Protocol => (
                "protocol",
                rule.protocol.to_string(),
                Protocol::Number(packet.protocol).to_string(),
            ),
            Self::SourcePorts => (
                "source_ports",
                either(&rule.source_ports, &rule.source_port_members),
                packet.source_port.to_string(),
            ),
            Self::DestinationPorts => {
                let found = packet.destination_port.to_string();
                (
                    "destination_ports",
                    either(&rule.destination_ports, &rule.destination_port_members),
                    found,
                )
            }
            Self::IcmpTypes => {
                let found = format!("{}/{}", packet.icmp_type, packet.icmp_code);
                ("icmp_types", list(&rule.icmp_types), found)
            }
            Self::TcpFlags => {
                let found = TcpFlags::of(packet.tcp_flags).to_string();
                ("tcp_flags", rule.tcp_flags.to_string(), found)
            }
            Self::Dscp => ("dscp", list(&rule.dscp), packet.dscp.to_string()),
            Self::SourceMac => {
                let found = packet.source_mac.map(|byte| format!("{byte:02x}")).join(":");
                ("source_mac", list(&rule.source_mac), found)
            }
        };
        Mismatch { field, expected, found }
    }
}

/// What a rule lists, or else the sets that it names and what it must not be.
fn either<T: ToString + fmt::Display>(items: &[T], members: &Option<Members<T>>) -> String {
    members.as_ref().map_or_else(|| list(items), |members| members.membership.to_string())
}

/// The first elements of a list, in words.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    /// Elements that are written out.
    const SHOWN: usize = 4;
    let words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    let more = words.len().saturating_sub(SHOWN);
    let text = words.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { text } else { format!("{text} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Description, compile};

    const GATEWAY: &str = "
version: 1
router: { identity: gw.json }
zones: { lan: { interfaces: [lan0] }, wan: { interfaces: [wan0] } }
rules:
  - { id: dns, from: lan, to: local, protocol: udp, destination_ports: [53], action: accept }
  - { id: no-smtp, from: lan, to: wan, protocol: tcp, destination_ports: [25, 465, 587, 2525, 2526], action: drop }
  - { id: web, from: lan, to: wan, source: [10.1.0.0/24], protocol: tcp, destination_ports: [443], action: accept }
";

    #[test]
    fn the_rule_that_decides_is_named_and_in_what_the_others_differ() {
        let found = explained("tcp 10.1.0.5:40000 > 192.0.2.7:443");
        assert_eq!(found.verdict, Verdict::Accept(2));
        let text = |rule: &PassedOver| {
            let differences = rule.differences.iter();
            let texts = differences.map(|d| format!("{} {} not {}", d.field, d.found, d.expected));
            format!("{}: {}", rule.rule, texts.collect::<Vec<_>>().join("; "))
        };
        let [dns, smtp] = &found.passed_over[..] else { panic!("{found:?}") };
        assert_eq!(
            text(dns),
            "dns: to wan not local; protocol tcp not udp; destination_ports 443 not 53"
        );
        assert_eq!(text(smtp), "no-smtp: destination_ports 443 not 25, 465, 587, 2525 and 1 more");
        assert_eq!(found.nearest(1), [smtp]);
    }

    #[test]
    fn without_a_match_the_nearest_rules_are_those_of_the_zones() {
        let found = explained("tcp 10.9.0.5:40000 > 192.0.2.7:443");
        assert_eq!(found.verdict, Verdict::NoRule);
        let nearest = found.nearest(2).into_iter().map(|rule| rule.rule.as_str());
        assert_eq!(nearest.collect::<Vec<_>>(), ["no-smtp", "web"]);
        assert_eq!(found.passed_over[2].differences[0].field, "source");
    }

    fn explained(packet: &str) -> Explanation {
        let config = nightgate_config::parse(GATEWAY, "gw.yaml").unwrap();
        let rules = compile(&config.gateway.unwrap()).unwrap();
        let packet: Description = packet.parse().unwrap();
        let zone = |name| rules.zones()[&ZoneName::new(name).unwrap()];
        explain(&rules, zone("lan"), zone("wan"), &packet.packet)
    }
}
