//! The policy.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use nightgate_config::{RuleId, Verdict, VerdictAction, VerdictRule};
use serde::Serialize;

use super::{
    alert::{Alert, Ends},
    limiter::Limiter,
};

/// Alerts of one signature about one flow are one alert for this long.
const REPEAT: Duration = Duration::from_secs(60);
/// Alerts that are remembered so that their repetitions are known.
const REMEMBERED: usize = 16_384;

/// Who is behind the flow of an alert, as far as it is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Suspect {
    /// Name of the service that the flow is of.
    pub service: Option<String>,
    /// Name of the identity that began it.
    pub identity: Option<String>,
    /// Address that began it.
    pub source: Option<IpAddr>,
}

/// What is to be done about an alert.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "decision")]
pub enum Decision {
    /// It is noted: by a rule, or because none matches.
    Observe {
        /// The rule.
        rule: Option<String>,
    },
    /// The flow ends.
    Cut {
        /// The rule.
        rule: String,
    },
    /// Whoever began the flow sends and gets no more packets than that for a time.
    RateLimit {
        /// The rule.
        rule: String,
        /// So many packets...
        packets: u32,
        /// ... in so many seconds.
        per_seconds: u32,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// Whoever began the flow is cut off for a time.
    Quarantine {
        /// The rule.
        rule: String,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// The identity that began the flow has to show its second factor again.
    RequireMfa {
        /// The rule.
        rule: String,
        /// For how long it is cut off if it has none, in seconds.
        seconds: u64,
    },
    /// A rule asks for an action, and the configuration forbids one about this identity, service or source.
    Spared {
        /// The rule.
        rule: String,
        /// What is not to be touched.
        because: String,
    },
    /// A rule asks for an action, and there have been too many of late.
    Limited {
        /// The rule.
        rule: String,
    },
    /// The same signature about the same flow has been judged less than a minute ago.
    Repeated,
}

/// Applies a policy.
#[derive(Debug)]
pub struct Judge {
    policy: Verdict,
    limiter: Limiter,
    seen: HashMap<(Ends, u32), Duration>,
}

impl Judge {
    /// A judge who has seen nothing yet.
    pub fn new(policy: Verdict) -> Self {
        let limiter = Limiter::new(policy.actions_per_minute);
        Self { policy, limiter, seen: HashMap::new() }
    }

    /// Judges an alert. `now` is a time since some fixed moment.
    pub fn judge(&mut self, alert: &Alert, suspect: &Suspect, now: Duration) -> Decision {
        if self.is_repeated(alert, now) {
            return Decision::Repeated;
        }
        let matching = |rule: &&VerdictRule| matches(rule, alert, suspect);
        let Some(rule) = self.policy.policy.iter().find(matching) else {
            return Decision::Observe { rule: None };
        };
        let name = |id: &RuleId| id.as_str().to_owned();
        let rule_name = name(&rule.id);
        let action = rule.action;
        if action == VerdictAction::Observe {
            return Decision::Observe { rule: Some(rule_name) };
        }
        if let Some(because) = self.spared(suspect) {
            return Decision::Spared { rule: rule_name, because };
        }
        if !self.limiter.take(now) {
            return Decision::Limited { rule: rule_name };
        }
        match action {
            VerdictAction::Observe | VerdictAction::Cut => Decision::Cut { rule: rule_name },
            VerdictAction::RateLimit(rate, time) => Decision::RateLimit {
                rule: rule_name,
                packets: rate.count,
                per_seconds: rate.seconds,
                seconds: time.as_secs(),
            },
            VerdictAction::Quarantine(time) => {
                Decision::Quarantine { rule: rule_name, seconds: time.as_secs() }
            }
            VerdictAction::RequireMfa(time) => {
                Decision::RequireMfa { rule: rule_name, seconds: time.as_secs() }
            }
        }
    }

    /// Why nothing may be done about this suspect.
    fn spared(&self, suspect: &Suspect) -> Option<String> {
        let never = &self.policy.never;
        let named = |list: &[String], name: &Option<String>, what| {
            let name = name.as_ref().filter(|name| list.contains(name))?;
            Some(format!("{what} {name}"))
        };
        let source = suspect.source.filter(|source| {
            let source = source.to_canonical();
            never.sources.iter().any(|prefix| prefix.contains(source))
        });
        named(&never.identities, &suspect.identity, "identity")
            .or_else(|| named(&never.services, &suspect.service, "service"))
            .or_else(|| source.map(|source| format!("source {source}")))
    }

    fn is_repeated(&mut self, alert: &Alert, now: Duration) -> bool {
        let key = (alert.ends, alert.signature_id);
        let is_recent = |seen: &Duration| now.saturating_sub(*seen) < REPEAT;
        if self.seen.get(&key).is_some_and(is_recent) {
            return true;
        }
        if self.seen.len() >= REMEMBERED {
            self.seen.retain(|_, seen| is_recent(seen));
        }
        if self.seen.len() < REMEMBERED {
            self.seen.insert(key, now);
        }
        false
    }
}

fn matches(rule: &VerdictRule, alert: &Alert, suspect: &Suspect) -> bool {
    let names = |service: &String| suspect.service.as_ref() == Some(service);
    alert.severity <= rule.severity
        && (rule.signatures.is_empty() || rule.signatures.contains(&alert.signature_id))
        && (rule.categories.is_empty() || rule.categories.contains(&alert.category))
        && (rule.services.is_empty() || rule.services.iter().any(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERDICT: &str = "
  alerts: [{ eve: /var/log/suricata/eve.json }]
  policy:
    - { id: chatter, signatures: [7], action: observe }
    - { id: web, services: [web], categories: [Leak], action: cut }
    - { id: slow, signatures: [8], action: rate-limit, rate: 30/min, for: 1h }
    - { id: odd, signatures: [9], action: require-mfa, for: 10m }
    - { id: grave, severity: 2, action: quarantine, for: 10m }
  never: { identities: [alice], services: [dns], sources: [10.9.0.0/16, 'fd09::/16'] }
  actions_per_minute: 3
";

    fn judge() -> Judge {
        let text = format!(
            "version: 1\nrouter: {{ identity: gw.json }}\nzones: {{ lan: {{ interfaces: [lan0] }} }}\n\
             verdict:{VERDICT}"
        );
        let config = nightgate_config::parse(&text, "test").unwrap();
        Judge::new(config.gateway.unwrap().verdict.unwrap())
    }

    fn alert(signature: u32, category: &str, severity: u8) -> Alert {
        Alert {
            at: String::new(),
            signature_id: signature,
            signature: "s".into(),
            category: category.into(),
            severity,
            ends: Ends {
                protocol: 6,
                client: "10.1.0.2:4".parse().unwrap(),
                server: "10.77.0.1:80".parse().unwrap(),
            },
        }
    }

    fn suspect(service: &str, identity: &str, source: &str) -> Suspect {
        let name = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Suspect { service: name(service), identity: name(identity), source: source.parse().ok() }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let mut judge = judge();
        let bob = suspect("web", "bob", "10.1.0.2");
        let mut decide =
            |alert: &Alert, suspect: &Suspect| judge.judge(alert, suspect, Duration::ZERO);
        assert_eq!(
            decide(&alert(7, "Leak", 1), &bob),
            Decision::Observe { rule: Some("chatter".into()) }
        );
        assert_eq!(decide(&alert(1, "Leak", 3), &bob), Decision::Cut { rule: "web".into() });
        let grave = Decision::Quarantine { rule: "grave".into(), seconds: 600 };
        assert_eq!(decide(&alert(2, "Other", 2), &bob), grave);
        assert_eq!(decide(&alert(3, "Leak", 1), &suspect("ssh", "bob", "")), grave);
        assert_eq!(decide(&alert(4, "Other", 3), &bob), Decision::Observe { rule: None });
    }

    #[test]
    fn a_second_factor_is_asked_for_with_a_time_for_those_who_have_none() {
        let decision = judge().judge(&alert(9, "x", 1), &suspect("web", "bob", ""), Duration::ZERO);
        assert_eq!(decision, Decision::RequireMfa { rule: "odd".into(), seconds: 600 });
        let spared = judge().judge(&alert(9, "x", 1), &suspect("web", "alice", ""), Duration::ZERO);
        assert!(matches!(spared, Decision::Spared { .. }), "{spared:?}");
    }

    #[test]
    fn a_rate_limit_says_how_fast_and_for_how_long() {
        let decision = judge().judge(&alert(8, "x", 1), &Suspect::default(), Duration::ZERO);
        let slow = Decision::RateLimit {
            rule: "slow".into(),
            packets: 30,
            per_seconds: 60,
            seconds: 3_600,
        };
        assert_eq!(decision, slow);
    }

    #[test]
    fn who_is_not_to_be_touched_is_spared_by_name_service_or_address() {
        let mut judge = judge();
        for (number, (service, identity, source)) in (1..).zip([
            ("web", "alice", ""),
            ("dns", "bob", ""),
            ("", "", "::ffff:10.9.1.1"),
            ("", "", "fd09::1"),
        ]) {
            let suspect = suspect(service, identity, source);
            let decision = judge.judge(&alert(100 + number, "x", 1), &suspect, Duration::ZERO);
            assert!(matches!(decision, Decision::Spared { .. }), "{decision:?}");
        }
    }

    #[test]
    fn a_noisy_signature_is_limited_and_its_repetitions_count_once() {
        let mut judge = judge();
        let bob = suspect("web", "bob", "");
        let mut decide = |number, seconds| {
            judge.judge(&alert(number, "x", 1), &bob, Duration::from_secs(seconds))
        };
        assert!(matches!(decide(1, 0), Decision::Quarantine { .. }));
        assert_eq!(decide(1, 59), Decision::Repeated);
        assert!(matches!(decide(2, 59), Decision::Quarantine { .. }));
        assert!(matches!(decide(3, 59), Decision::Quarantine { .. }));
        assert!(matches!(decide(4, 59), Decision::Quarantine { .. }), "one came back in a minute");
        assert_eq!(decide(5, 60), Decision::Limited { rule: "grave".into() });
        assert!(matches!(decide(1, 120), Decision::Quarantine { .. }), "a minute later");
    }
}
