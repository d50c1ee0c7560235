//! Why a packet is accepted or refused: which rule decides, and in what the others differ from the packet.

mod mismatch;

use nightgate_abi::ZoneId;
use nightgate_config::RuleId;
use nightgate_packet::PacketMeta;

use crate::{
    classify::{Field, Verdict, classify, counting_rule},
    compile::{CompiledRule, RuleSet},
    nat::Translation,
};

/// What becomes of a packet, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// What becomes of it.
    pub outcome: Outcome,
    /// The rule that gives it another destination before the rules are asked, and the packet as they see it.
    pub redirected: Option<(Translation, PacketMeta)>,
    /// The rule that gives it another source when it leaves.
    pub disguised: Option<Translation>,
    /// Index of the rule that only counts it before another decides.
    pub counting: Option<usize>,
    /// The rules that were asked before the one that decides, or all of them.
    pub passed_over: Vec<PassedOver>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Its zone's guard refuses its source before anything else.
    Blocked,
    /// It is an ICMP error, so the flow of the packet that it quotes decides, and no rule.
    AsItsFlow,
    /// The rules decide.
    Judged(Verdict),
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

/// Explains what becomes of the first packet of a flow between two zones; `to` is the zone that it reaches with the
/// destination that address translation gives it. As the kernel does, rules are asked about that destination.
pub fn explain(rules: &RuleSet, from: ZoneId, to: ZoneId, packet: &PacketMeta) -> Explanation {
    if let Some(outcome) = without_rules(rules, from, packet) {
        return Explanation::by(outcome);
    }
    let redirected = redirect(rules, from, to, packet);
    let packet = redirected.as_ref().map_or(packet, |(_, packet)| packet);
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
    let passed_over = passed_over.filter(|rule| !rule.differences.is_empty()).collect();
    let disguised = match verdict {
        Verdict::Accept(_) => rules.nat().disguise(from, to, packet).cloned(),
        Verdict::Drop(_) | Verdict::Reject(_) | Verdict::NoRule => None,
    };
    let counting = counting_rule(rules, from, to, packet);
    Explanation {
        disguised,
        counting,
        passed_over,
        redirected,
        ..Explanation::by(Outcome::Judged(verdict))
    }
}

/// What becomes of a packet from a zone if no rule is asked about it; then its destination does not matter.
pub fn without_rules(rules: &RuleSet, from: ZoneId, packet: &PacketMeta) -> Option<Outcome> {
    let mut guards = rules.guards().iter().filter(|guard| guard.zone == from);
    if guards.any(|guard| guard.blocks(packet.source)) {
        Some(Outcome::Blocked)
    } else if packet.is_icmp_error() {
        Some(Outcome::AsItsFlow)
    } else {
        None
    }
}

/// What is sent by the gateway itself or to an intercepted address keeps its destination.
fn redirect(
    rules: &RuleSet,
    from: ZoneId,
    to: ZoneId,
    packet: &PacketMeta,
) -> Option<(Translation, PacketMeta)> {
    if from == ZoneId::LOCAL || to == ZoneId::OVERLAY {
        return None;
    }
    let (translation, packet) = rules.nat().redirect(from, packet)?;
    Some((translation.clone(), packet))
}

impl Explanation {
    fn by(outcome: Outcome) -> Self {
        let (redirected, disguised, counting, passed_over) = (None, None, None, Vec::new());
        Self { outcome, redirected, disguised, counting, passed_over }
    }

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

#[cfg(test)]
mod tests {
    use nightgate_config::ZoneName;

    use super::*;
    use crate::{Description, compile};

    const GATEWAY: &str = "
version: 1
router: { identity: gw.json }
zones:
  lan: { interfaces: [lan0] }
  wan: { interfaces: [wan0], block: ['::/0', 192.0.2.0/24], allow: 192.0.2.7 }
rules:
  - { id: dns, from: lan, to: local, protocol: udp, destination_ports: [53], action: accept }
  - { id: no-smtp, from: lan, to: wan, protocol: tcp, destination_ports: [25, 465, 587, 2525, 2526], action: drop }
  - { id: web, from: lan, to: wan, source: [10.1.0.0/24], protocol: tcp, destination_ports: [443], action: accept }
  - { id: in, from: wan, to: lan, destination: 10.1.0.10, protocol: tcp, destination_ports: [84], action: accept }
nat:
  destination:
    - { id: kept, from: wan, source: 203.0.113.9, becomes: unchanged }
    - { id: forward, from: [lan, wan], protocol: tcp, destination_ports: 8000-8009, becomes: 10.1.0.10, becomes_ports: 80-89 }
  source:
    - { id: out, from: [lan, local], to: wan, becomes: masquerade }
";

    #[test]
    fn the_rule_that_decides_is_named_and_in_what_the_others_differ() {
        let found = explained("tcp 10.1.0.5:40000 > 192.0.2.7:443 from lan to wan");
        assert_eq!(found.outcome, Outcome::Judged(Verdict::Accept(2)));
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
        assert_eq!(found.disguised.map(|rule| rule.matching.id.to_string()), Some("out".into()));
    }

    #[test]
    fn without_a_match_the_nearest_rules_are_those_of_the_zones() {
        let found = explained("tcp 10.9.0.5:40000 > 192.0.2.7:443 from lan to wan");
        assert_eq!(found.outcome, Outcome::Judged(Verdict::NoRule));
        let nearest = found.nearest(2).into_iter().map(|rule| rule.rule.as_str());
        assert_eq!(nearest.collect::<Vec<_>>(), ["no-smtp", "web"]);
        assert_eq!(found.passed_over[2].differences[0].field, "source");
        assert_eq!(found.disguised, None, "it does not leave");
    }

    #[test]
    fn a_forwarded_packet_is_judged_by_its_new_destination() {
        let found = explained("tcp 198.51.100.9:40000 > 203.0.113.1:8004 from wan to lan");
        assert_eq!(found.outcome, Outcome::Judged(Verdict::Accept(3)));
        let (rule, packet) = found.redirected.expect("a forward");
        assert_eq!((rule.matching.id.as_str(), packet.destination_port), ("forward", 84));

        let other = explained("tcp 198.51.100.9:40000 > 203.0.113.1:8005 from wan to lan");
        assert_eq!(other.outcome, Outcome::Judged(Verdict::NoRule));
        let difference = &other.passed_over[3].differences[0];
        assert_eq!((difference.field, difference.found.as_str()), ("destination_ports", "85"));
        for packet in [
            "tcp 203.0.113.9:40000 > 203.0.113.1:8004 from wan to lan",
            "tcp 10.1.0.1:40000 > 203.0.113.1:8004 from local to wan",
            "tcp 10.1.0.5:40000 > 100.64.0.1:8004 from lan to overlay",
            "udp 198.51.100.9:40000 > 203.0.113.1:8004 from wan to lan",
        ] {
            assert_eq!(explained(packet).redirected, None, "{packet}");
        }
    }

    #[test]
    fn what_no_rule_is_asked_about_is_told_apart() {
        for (packet, expected) in [
            ("udp 192.0.2.8:1 > 10.1.0.1:53 from wan to local", Outcome::Blocked),
            ("udp [2001:db8::1]:1 > [2001:db8::2]:53 from wan to local", Outcome::Blocked),
            ("icmp 192.0.2.8 > 10.1.0.1 from wan to local type 3 code 4", Outcome::Blocked),
            ("icmp 198.51.100.1 > 10.1.0.1 from wan to local type 3 code 4", Outcome::AsItsFlow),
            ("icmpv6 2001:db8::1 > 2001:db8::2 from lan to wan type 2", Outcome::AsItsFlow),
        ] {
            let found = explained(packet);
            assert_eq!((found.outcome, found.passed_over.len()), (expected, 0), "{packet}");
        }
        for packet in [
            "udp 192.0.2.7:1 > 10.1.0.1:53 from wan to local",
            "udp 192.0.2.8:1 > 10.1.0.1:53 from lan to local",
            "udp 198.51.100.1:1 > 10.1.0.1:53 from wan to local",
        ] {
            assert!(matches!(explained(packet).outcome, Outcome::Judged(_)), "{packet}");
        }
    }

    fn explained(packet: &str) -> Explanation {
        let config = nightgate_config::parse(GATEWAY, "gw.yaml").unwrap();
        let rules = compile(&config.gateway.unwrap()).unwrap();
        let packet: Description = packet.parse().unwrap();
        let zone = |name: Option<ZoneName>| rules.zones()[&name.unwrap()];
        explain(&rules, zone(packet.from), zone(packet.to), &packet.packet)
    }
}
