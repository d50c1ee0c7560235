//! Why a packet passes or not, in the shape that it is printed in.

use nightgate_packet::protocol;
use nightgate_ruleset::{
    Description, Explanation, Outcome, PassedOver, RuleSet, Translation, Verdict, ZoneId, ZoneName,
    explain, without_rules,
};
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
    /// `accept`, `drop`, `reject`, or `as-its-flow` for an ICMP error.
    verdict: &'static str,
    /// The rule that decides; `None` for the default.
    rule: Option<String>,
    why: String,
    /// Where the packet goes instead, by which rule of address translation; rules are asked about that.
    redirected: Option<TranslationReport>,
    /// Whom the packet appears to come from when it leaves, and by which rule.
    disguised: Option<TranslationReport>,
    /// What may refuse it although the rules accept it.
    limits: Vec<String>,
    /// The rule that only counts the packet before another decides.
    counted_by: Option<String>,
    /// How the packet goes through the gateway, as far as a running gateway has found out.
    pub(crate) way: Vec<String>,
    /// The tracked flow that the packet belongs to, which decides as long as the rules do not change.
    pub(crate) flow: Option<FlowReport>,
    passed_over: Vec<PassedOverReport>,
}

#[derive(Clone, Debug, Serialize)]
struct TranslationReport {
    rule: String,
    becomes: String,
}

#[derive(Clone, Debug, Serialize)]
struct PassedOverReport {
    rule: String,
    differs: Vec<String>,
}

/// Rules that nearly match and are explained.
const NEAREST: usize = 5;

impl ExplainReport {
    /// Whether the rules let the packet pass.
    pub(crate) fn is_accepted(&self) -> bool {
        self.verdict == "accept"
    }

    /// Explains what becomes of a packet whose zones are described; where no rule is asked, the first is enough.
    ///
    /// # Errors
    /// A zone is missing or unknown.
    pub fn new(rules: &RuleSet, packet: &Description, scope: Scope) -> Result<Self, String> {
        let from = zone(rules, packet.from.as_ref(), "from")?;
        let to = match without_rules(rules, from, &packet.packet) {
            Some(_) => ZoneId::LOCAL,
            None => zone(rules, packet.to.as_ref(), "to")?,
        };
        let explanation = explain(rules, from, to, &packet.packet);
        let name = |index: usize| rules.rules().get(index).map(|rule| rule.id.to_string());
        let (verdict, rule, why) = match explanation.outcome {
            Outcome::Blocked => ("drop", None, "its zone blocks such sources before any rule"),
            Outcome::AsItsFlow => (
                "as-its-flow",
                None,
                "an ICMP error passes with the flow of the packet that it quotes, and is refused without one; no rule \
                 is asked",
            ),
            Outcome::Judged(Verdict::Accept(index)) => {
                ("accept", name(index), "the first rule that matches accepts it")
            }
            Outcome::Judged(Verdict::Drop(index)) => {
                ("drop", name(index), "the first rule that matches refuses it")
            }
            Outcome::Judged(Verdict::Reject(index)) => (
                "reject",
                name(index),
                "the first rule that matches refuses it and tells its sender",
            ),
            Outcome::Judged(Verdict::NoRule) => {
                ("drop", None, "no rule matches, and what no rule accepts is refused")
            }
        };
        Ok(Self {
            packet: packet.to_string(),
            verdict,
            rule,
            why: why.into(),
            redirected: redirected(&explanation),
            disguised: explanation.disguised.as_ref().map(TranslationReport::new),
            limits: limits(rules, from, &explanation),
            counted_by: explanation.counting.and_then(name),
            way: Vec::new(),
            flow: None,
            passed_over: chosen(&explanation, scope),
        })
    }
}

fn redirected(explanation: &Explanation) -> Option<TranslationReport> {
    let (rule, packet) = explanation.redirected.as_ref()?;
    let address = packet.destination.to_ip();
    let becomes = match packet.protocol {
        protocol::TCP | protocol::UDP => {
            std::net::SocketAddr::new(address, packet.destination_port).to_string()
        }
        _ => address.to_string(),
    };
    Some(TranslationReport { rule: rule.matching.id.to_string(), becomes })
}

/// What counts packets and flows, which a single packet knows nothing of.
fn limits(rules: &RuleSet, from: ZoneId, explanation: &Explanation) -> Vec<String> {
    let Outcome::Judged(Verdict::Accept(index)) = explanation.outcome else { return Vec::new() };
    let rule = &rules.rules()[index];
    let rate = rule.limit.map(|limit| format!("rule {}: {limit}", rule.id));
    let connections = rule.connections.map(|limit| format!("rule {}: {limit}", rule.id));
    let mut guards = rules.guards().iter();
    let is_guarded = guards.any(|guard| guard.zone == from && guard.guard.floods != 0);
    let flood = is_guarded.then(|| "its zone against floods".to_owned());
    rate.into_iter().chain(connections).chain(flood).collect()
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

impl TranslationReport {
    fn new(rule: &Translation) -> Self {
        Self { rule: rule.matching.id.to_string(), becomes: rule.to_string() }
    }
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
  - { id: in, from: wan, to: lan, destination: 10.1.0.10, action: accept, limit: { rate: 10/s, per: source }, connections: { max: 100 } }
  - { id: all, from: lan, to: wan, protocol: udp, action: accept }
nat:
  destination: [{ id: forward, from: wan, protocol: tcp, destination_ports: 8080, becomes: 10.1.0.10, becomes_ports: 80 }]
  source: [{ id: out, from: lan, to: wan, becomes: masquerade }]
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
    fn translations_and_limits_are_told() {
        let json = |packet| serde_json::to_value(report(packet, Scope::All).unwrap()).unwrap();
        let forwarded = json("tcp 198.51.100.9 > 203.0.113.1:8080 from wan to lan");
        assert_eq!(forwarded["verdict"], "accept");
        let redirected = serde_json::json!({ "rule": "forward", "becomes": "10.1.0.10:80" });
        assert_eq!(forwarded["redirected"], redirected);
        let limits = serde_json::json!([
            "rule in: 10/s new flows, 10 at once, for each source",
            "rule in: 100 flows at a time, all together",
        ]);
        assert_eq!(forwarded["limits"], limits);
        let out = json("udp 10.1.0.5 > 198.51.100.9:53 from lan to wan");
        let disguised = serde_json::json!({ "rule": "out", "becomes": "masquerade" });
        assert_eq!((&out["disguised"], &out["redirected"]), (&disguised, &serde_json::Value::Null));
    }

    #[test]
    fn an_icmp_error_is_its_flows_and_needs_no_zone_to_go_to() {
        let report = report("icmp 198.51.100.1 > 10.1.0.5 from wan type 11", Scope::All).unwrap();
        let json = serde_json::to_value(report).unwrap();
        assert_eq!(
            (&json["verdict"], &json["rule"]),
            (&"as-its-flow".into(), &serde_json::Value::Null)
        );
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
