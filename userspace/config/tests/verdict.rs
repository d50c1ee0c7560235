//! Wrong policies about alerts.

use nightgate_config::{AlertSource, VerdictAction, parse};

const HEAD: &str =
    "version: 1\nrouter: { identity: gw.json }\nzones: { lan: { interfaces: [lan0] } }\nverdict:\n";

#[test]
fn a_policy_is_read_with_its_defaults() {
    let text = HEAD.to_owned()
        + "  alerts: { eve: eve.json }\n  policy:\n    - { id: all, action: quarantine, for: 10m }\n";
    let verdict = parse(&text, "test").unwrap().gateway.unwrap().verdict.unwrap();
    assert_eq!(verdict.alerts, [AlertSource::Eve("eve.json".into())]);
    let rule = &verdict.policy[0];
    assert_eq!(
        (rule.severity, rule.action),
        (255, VerdictAction::Quarantine(std::time::Duration::from_secs(600)))
    );
    assert_eq!(verdict.actions_per_minute, 10);
    let text = text + "    - { id: slow, action: rate-limit, rate: 30/min, for: 1h }\n";
    let verdict = parse(&text, "test").unwrap().gateway.unwrap().verdict.unwrap();
    let VerdictAction::RateLimit(rate, time) = verdict.policy[1].action else {
        panic!("{:?}", verdict.policy[1]);
    };
    assert_eq!((rate.to_string(), time.as_secs()), ("30/min".to_owned(), 3_600));
    let text = text + "    - { id: again, action: require-mfa, for: 2m }\n";
    let verdict = parse(&text, "test").unwrap().gateway.unwrap().verdict.unwrap();
    let time = std::time::Duration::from_secs(120);
    assert_eq!(verdict.policy[2].action, VerdictAction::RequireMfa(time));
    let wrong = text.replace(", for: 2m", "");
    assert!(parse(&wrong, "test").unwrap_err()[0].to_string().contains("require-mfa"));
}

#[test]
fn everything_wrong_is_reported_with_its_place() {
    let text = HEAD.to_owned()
        + "  alerts:
    - { eve: a, socket: b }
    - { webhook: '127.0.0.1:1' }
  policy:
    - { id: a, action: quarantine }
    - { id: a, action: cut, for: 1m }
    - { id: b, action: drop }
    - { id: c, action: quarantine, for: 31d }
    - { id: d, action: cut, severity: 0, signatures: [] }
    - { id: e, action: rate-limit, for: 1m }
    - { id: f, action: cut, rate: 1/s }
    - { id: g, action: rate-limit, for: 1m, rate: 0/s }
  never: { sources: [10.0.0.1/8] }
  actions_per_minute: 0
";
    let errors = parse(&text, "test").unwrap_err();
    let found: Vec<_> = errors.iter().map(|error| (error.path.as_str(), error.line)).collect();
    assert_eq!(
        found,
        [
            ("verdict.alerts[0]", 6),
            ("verdict.alerts[1]", 7),
            ("verdict.policy[0]", 9),
            ("verdict.policy[1].id", 10),
            ("verdict.policy[1]", 10),
            ("verdict.policy[2].action", 11),
            ("verdict.policy[3].for", 12),
            ("verdict.policy[4].severity", 13),
            ("verdict.policy[4].signatures", 13),
            ("verdict.policy[5]", 14),
            ("verdict.policy[6]", 15),
            ("verdict.policy[7].rate", 16),
            ("verdict.never.sources[0]", 17),
            ("verdict.actions_per_minute", 18),
        ]
    );
}

#[test]
fn a_policy_without_zones_is_refused() {
    let text =
        "version: 1\nrouter: { identity: r.json }\nverdict: { alerts: { eve: a }, policy: [] }\n";
    let errors = parse(text, "test").unwrap_err();
    assert_eq!(errors[0].path, "verdict");
}
