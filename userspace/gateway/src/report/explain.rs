//! Why a packet passes or not, in the shape that it is printed in.

use nightgate_ruleset::{Description, Explanation, PassedOver, RuleSet, Verdict, ZoneId, ZoneName};
use serde::{Deserialize, Serialize};

use super::FlowReport;

/// Which of the rules that do not decide are explained.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Those that nearly match.
    Nearest,
    /// Every one before the rule that decides.
    All,
}

/// What becomes of a packet, and why.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainReport {
    packet: String,
    /// `accept` or `drop`.
    verdict: &'static str,
    /// The rule that decides; `None` for the default.
    rule: Option<String>,
    why: String,
    /// The rule that only counts the packet before another decides.
    counted_by: Option<String>,
    /// How the packet goes through the gateway, as far as a running gateway has found out.
    pub(crate) way: Vec<String>,
    /// The tracked flow that the packet belongs to, which decides as long as the rules do not change.
    pub(crate) flow: Option<FlowReport>,
    passed_over: Vec<PassedOverReport>,
}

#[derive(Clone, Debug, Serialize)]
struct PassedOverReport {
    rule: String,
    differs: Vec<String>,
}

/// Rules that nearly match and are explained.
const NEAREST: usize = 5;

impl ExplainReport {
    /// Explains what becomes of a packet whose zones are described.
    ///
    /// # Errors
    /// A zone is missing or unknown.
    pub fn new(rules: &RuleSet, packet: &Description, scope: Scope) -> Result<Self, String> {
        let from = zone(rules, packet.from.as_ref(), "from")?;
        let to = zone(rules, packet.to.as_ref(), "to")?;
        let explanation = nightgate_ruleset::explain(rules, from, to, &packet.packet);
        let name = |index: usize| rules.rules().get(index).map(|rule| rule.id.to_string());
        let (verdict, rule, why) = match explanation.verdict {
            Verdict::Accept(index) => {
                ("accept", name(index), "the first rule that matches accepts it")
            }
            Verdict::Drop(index) => ("drop", name(index), "the first rule that matches refuses it"),
            Verdict::Reject(index) => (
                "reject",
                name(index),
                "the first rule that matches refuses it and tells its sender",
            ),
            Verdict::NoRule => {
                ("drop", None, "no rule matches, and what no rule accepts is refused")
            }
        };
        Ok(Self {
            packet: packet.to_string(),
            verdict,
            rule,
            why: why.into(),
            counted_by: nightgate_ruleset::counting_rule(rules, from, to, &packet.packet)
                .and_then(name),
            way: Vec::new(),
            flow: None,
            passed_over: chosen(&explanation, scope),
        })
    }
}

fn zone(rules: &RuleSet, name: Option<&ZoneName>, word: &str) -> Result<ZoneId, String> {
    let known = || rules.zones().keys().map(ZoneName::as_str).collect::<Vec<_>>().join(", ");
    let Some(name) = name else {
        return Err(format!("packet: no `{word} ZONE`; expected one of {}", known()));
    };
    let zone = rules.zones().get(name).copied();
    zone.ok_or_else(|| format!("packet: {word} {name}: no such zone; expected one of {}", known()))
}

fn chosen(explanation: &Explanation, scope: Scope) -> Vec<PassedOverReport> {
    let rules = match scope {
        Scope::Nearest => explanation.nearest(NEAREST),
        Scope::All => explanation.passed_over.iter().collect(),
    };
    rules.into_iter().map(PassedOverReport::new).collect()
}

impl PassedOverReport {
    fn new(rule: &PassedOver) -> Self {
        let differs = rule.differences.iter();
        let differs = differs.map(|d| format!("{} is {}, not {}", d.field, d.found, d.expected));
        Self { rule: rule.rule.to_string(), differs: differs.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str = "
version: 1
router: { identity: gw.json }
zones: { lan: { interfaces: [lan0] }, wan: { interfaces: [wan0] } }
rules:
  - { id: dns, from: lan, to: local, protocol: udp, destination_ports: [53], action: accept }
  - { id: no-smtp, from: lan, to: wan, protocol: tcp, destination_ports: [25], action: drop }
";

    #[test]
    fn a_packet_is_explained_by_the_rule_that_decides_or_the_lack_of_one() {
        let json = |packet, scope| serde_json::to_value(report(packet, scope).unwrap()).unwrap();
        let refused = json("tcp 10.1.0.5 > 192.0.2.7:25 from lan to wan", Scope::All);
        assert_eq!((&refused["verdict"], &refused["rule"]), (&"drop".into(), &"no-smtp".into()));
        assert_eq!(refused["passed_over"][0]["differs"][0], "to is wan, not local");

        let default = json("tcp 10.1.0.5 > 192.0.2.7:26 from lan to wan", Scope::Nearest);
        assert!(default["rule"].is_null());
        assert!(default["why"].as_str().unwrap().contains("no rule matches"));
    }

    #[test]
    fn zones_have_to_be_said_and_known() {
        let error = report("tcp 10.1.0.5 > 192.0.2.7:25 from lan", Scope::All).unwrap_err();
        assert!(error.contains("`to ZONE`") && error.contains("lan, local, overlay"), "{error}");
        let error = report("tcp 10.1.0.5 > 192.0.2.7:25 from x to wan", Scope::All).unwrap_err();
        assert!(error.contains("from x: no such zone"), "{error}");
    }

    fn report(packet: &str, scope: Scope) -> Result<ExplainReport, String> {
        ExplainReport::new(&rules(), &described(packet), scope)
    }

    fn rules() -> RuleSet {
        let config = nightgate_config::parse(GATEWAY, "gw.yaml").unwrap();
        nightgate_ruleset::compile(&config.gateway.unwrap()).unwrap()
    }

    fn described(packet: &str) -> Description {
        packet.parse().unwrap()
    }
}
