//! What lint says about rules is true of every packet.

use std::{collections::BTreeSet, fmt::Write as _};

use nightgate_config::{Gateway, parse};
use nightgate_packet::PacketMeta;
use nightgate_ruleset::{Finding, FindingKind, RuleSet, Severity, Verdict, ZoneId, classify, lint};
use proptest::prelude::*;

mod world;

/// Rules, and the kinds found with the rules that they are about.
const CASES: &[(&str, &[&str])] = &[
    ("from: lan, to: wan, protocol: tcp, action: accept", &["unused-zone"]),
    (
        "from: lan, to: wan, action: accept
         from: lan, to: wan, protocol: tcp, destination_ports: [25], action: drop",
        &["shadowed r1", "unused-zone"],
    ),
    (
        "from: lan, to: wan, action: accept
         from: lan, to: wan, protocol: tcp, destination_ports: [25], action: accept",
        &["redundant r1", "unused-zone"],
    ),
    (
        "from: lan, to: [wan, dmz], protocol: tcp, destination_ports: [22], action: accept
         from: lan, to: [wan, dmz], protocol: tcp, destination_ports: [22], action: drop",
        &["conflict r1"],
    ),
    // Only together.
    (
        "from: lan, to: [wan, dmz], source: [10.0.0.0/9], action: accept
         from: lan, to: [wan, dmz], source: [10.128.0.0/9], action: drop
         from: lan, to: wan, source: [10.0.0.0/8], action: accept",
        &["shadowed r2"],
    ),
    (
        "from: lan, to: [wan, dmz], protocol: tcp, destination_ports: ['1-99'], action: accept
         from: lan, to: [wan, dmz], protocol: tcp, destination_ports: ['100-65535'], action: accept
         from: lan, to: wan, protocol: tcp, destination_ports: ['90-110'], action: accept",
        &["redundant r2"],
    ),
    // A rule that only counts is in nobody's way, and one that asks for more covers nothing.
    (
        "from: lan, to: [wan, dmz], action: count
         from: lan, to: [wan, dmz], protocol: tcp, tcp_flags: ack, action: drop
         from: lan, to: [wan, dmz], protocol: tcp, action: accept
         from: lan, to: [wan, dmz], protocol: tcp, dscp: ef, action: count",
        &[],
    ),
    (
        "from: lan, to: [wan, dmz], protocol: icmp, icmp_types: [3], action: accept
         from: lan, to: [wan, dmz], protocol: icmp, icmp_types: 3/4, action: drop",
        &["shadowed r1"],
    ),
    (
        "from: lan, to: [wan, dmz], protocol: tcp, action: accept
         from: lan, to: [wan, dmz], protocol: tcp, dscp: ef, action: drop",
        &["shadowed r1"],
    ),
    // A rule with exceptions covers what they leave.
    (
        "from: lan, to: [wan, dmz], source: { not: 10.0.0.0/8 }, action: drop
         from: lan, to: [wan, dmz], source: 10.1.0.0/16, action: accept
         from: lan, to: [wan, dmz], source: [11.0.0.0/8, '::/0'], action: accept",
        &["shadowed r2"],
    ),
    (
        "from: lan, to: [wan, dmz], source: [10.0.0.0/9, 10.128.0.0/9], action: drop
         from: lan, to: [wan, dmz], source: { not: [0.0.0.0/5, 8.0.0.0/7, 11.0.0.0/8, 12.0.0.0/6, 16.0.0.0/4, \
         32.0.0.0/3, 64.0.0.0/2, 128.0.0.0/1, '::/0'] }, action: drop",
        &["redundant r0", "redundant r1"],
    ),
    // An exception before the rule is no contradiction.
    (
        "from: lan, to: [wan, dmz], protocol: tcp, destination_ports: [25], action: drop
         from: lan, to: [wan, dmz], action: accept",
        &[],
    ),
    (
        "from: lan, to: [wan, dmz], source: [10.0.0.0/8], action: drop
         from: lan, to: [wan, dmz], destination: [192.0.2.0/24], action: accept",
        &["partial-conflict r1"],
    ),
    // The later, wider rule says the same, and nothing between them something else.
    (
        "from: lan, to: [wan, dmz], protocol: tcp, destination_ports: [443], action: accept
         from: lan, to: [wan, dmz], protocol: tcp, action: accept",
        &["redundant r0"],
    ),
    (
        "from: lan, to: [wan, dmz], protocol: tcp, destination_ports: [443], action: accept
         from: lan, to: [wan, dmz], protocol: tcp, destination_ports: ['400-500'], action: drop
         from: lan, to: [wan, dmz], protocol: tcp, action: accept",
        &[],
    ),
    (
        "from: lan, to: [wan, dmz], protocol: udp, action: accept
         from: wan, to: [lan, dmz], action: drop",
        &["like-default r1"],
    ),
    ("from: lan, to: [overlay, dmz, wan], protocol: udp, action: accept", &[]),
    (
        "from: [lan, dmz], to: overlay, protocol: udp, action: accept
         from: lan, to: wan, source: [127.0.0.0/8, '::1'], action: accept
         from: lan, to: wan, destination: [0.0.0.0/8], action: accept",
        &["never-matches r0", "never-matches r1", "never-matches r2"],
    ),
    (
        "from: [wan, dmz], to: [lan, local], action: accept
         from: wan, to: [lan, local], protocol: icmp, action: accept",
        &["wide-accept r0", "redundant r1"],
    ),
    (
        "from: wan, to: [local, dmz], protocol: tcp, action: accept
         from: wan, to: lan, protocol: tcp, destination_ports: [443], action: accept
         from: wan, to: lan, protocol: udp, source: [192.0.2.0/24], action: accept",
        &["wide-accept r0"],
    ),
];

#[test]
fn each_kind_is_found_where_it_is_and_nowhere_else() {
    for (rules, expected) in CASES {
        let rules: Vec<String> = rules.lines().map(|line| line.trim().to_owned()).collect();
        let (gateway, set) = rules_of_three_zones(&rules);
        let found: Vec<_> = lint(&gateway, &set).iter().map(brief).collect();
        assert_eq!(found, *expected, "{rules:#?}");
    }
}

#[test]
fn a_finding_names_lines_reason_and_remedy() {
    let rules = [
        "from: [lan, dmz], to: wan, action: accept",
        "from: lan, to: wan, protocol: icmp, action: drop",
    ];
    let (gateway, set) = rules_of_three_zones(&rules.map(str::to_owned));
    let findings = lint(&gateway, &set);
    let [finding] = &findings[..] else { panic!("{findings:?}") };

    assert_eq!(finding.kind.severity(), Severity::Warning);
    let place = finding.rule.as_ref().expect("a rule");
    assert_eq!((place.rule.as_str(), place.line.number()), ("r1", 9));
    assert_eq!(finding.others[0].line.number(), 8);
    assert!(finding.why.contains("r0 (line 8)"), "{}", finding.why);
    assert!(!finding.remedy.is_empty());
}

#[test]
fn a_forward_that_no_flow_comes_to_is_found() {
    let text = "version: 1
router: { identity: a }
zones: { lan: { interfaces: [l] }, wan: { interfaces: [w] } }
rules:
- { id: in, from: [lan, wan], to: [lan, wan], protocol: tcp, destination_ports: [80], action: accept }
nat:
  one_to_one:
  - { id: dmz, zone: wan, outside: 203.0.113.16/28, inside: 10.3.0.0/28 }
  destination:
  - { id: web, from: wan, protocol: tcp, destination_ports: 8000-8009, becomes: 10.1.0.10, becomes_ports: 80-89 }
  - { id: again, from: wan, protocol: tcp, destination_ports: 8004, becomes: 10.1.0.11 }
  - { id: inside, from: lan, destination: 203.0.113.17, becomes: 10.1.0.11 }
  - { id: other, from: wan, protocol: tcp, destination_ports: 8010, becomes: 10.1.0.11 }
  - { id: nobody, from: wan, source: 127.0.0.0/8, becomes: 10.1.0.11 }
  source:
  - { id: out, from: [lan, local], to: wan, becomes: masquerade }
  - { id: late, from: lan, to: wan, protocol: udp, becomes: 198.51.100.8 }
";
    let gateway = parse(text, "gw.yaml").unwrap().gateway.unwrap();
    let set = nightgate_ruleset::compile(&gateway).unwrap();
    let findings = lint(&gateway, &set);
    let found: Vec<_> = findings.iter().map(brief).collect();
    assert_eq!(
        found,
        ["shadowed again", "shadowed inside", "never-matches nobody", "shadowed late"]
    );
    assert!(findings[0].why.contains("web (line 10)"), "{}", findings[0].why);
    assert!(findings[1].why.contains("dmz (line 8)"), "{}", findings[1].why);
}

#[test]
fn large_sets_are_not_searched_and_nothing_false_is_said() {
    let entries = |from: u32| {
        let entries = (from..from + 400).map(|n| format!("10.0.{}.{}", n / 200, n % 200));
        entries.collect::<Vec<_>>().join(", ")
    };
    let rules = [
        format!("from: lan, to: [wan, dmz], source: [{}], action: accept", entries(0)),
        "from: lan, to: [wan, dmz], source: $many, action: drop".to_owned(),
        "from: lan, to: [wan, dmz], source: { not: $many }, action: drop".to_owned(),
        "from: lan, to: [wan, dmz], source: 10.0.0.1, action: accept".to_owned(),
    ];
    let text: String =
        rules.iter().enumerate().map(|(n, rule)| format!("- {{ id: r{n}, {rule} }}\n")).collect();
    let text = format!(
        "version: 1\nrouter: {{ identity: a }}\nzones: {{ lan: {{ interfaces: [l] }}, wan: {{ interfaces: [w] }}, \
         dmz: {{ interfaces: [d] }} }}\nrules:\n{text}sets: {{ many: {{ addresses: [{}] }} }}\n",
        entries(0)
    );
    let gateway = parse(&text, "gw.yaml").unwrap().gateway.unwrap();
    let set = nightgate_ruleset::compile(&gateway).unwrap();
    let found: Vec<_> = lint(&gateway, &set).iter().map(brief).collect();
    assert_eq!(found, ["redundant r3"]);
}

/// Ten thousand rules of every kind of overlap, in a time that an operator does not notice.
#[test]
fn many_rules_are_compared_without_comparing_all_pairs() {
    let rules: Vec<String> = (0..3_000_u32)
        .map(|n| {
            let (a, b) = (n / 250, n % 250);
            match n % 3 {
                0 => format!("from: lan, to: wan, source: [10.{a}.{b}.0/24], action: accept"),
                1 => format!("from: lan, to: wan, destination: [10.{a}.{b}.0/24], action: accept"),
                _ => format!(
                    "from: wan, to: lan, protocol: tcp, destination_ports: [{}], action: accept",
                    n + 1
                ),
            }
        })
        .chain(
            ["from: lan, to: wan, source: [10.0.0.0/24], protocol: tcp, action: drop".to_owned()],
        )
        .collect();
    let (gateway, set) = rules_of_three_zones(&rules);
    let found: Vec<_> = lint(&gateway, &set).iter().map(brief).collect();

    assert!(found.contains(&"shadowed r3000".to_owned()), "{found:?}");
    assert!(!found.contains(&"cut-short".to_owned()), "{found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A rule that is said to decide nothing decides nothing, and one that is said to be redundant can go.
    #[test]
    fn findings_are_true_of_every_packet_of_a_small_world(rules in rules()) {
        let (gateway, set) = world::rules_of_two_zones(&rules);
        let packets = world::every_packet();
        let verdicts: Vec<_> = packets.iter().map(|packet| verdict(&set, packet)).collect();
        let deciding: BTreeSet<usize> = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Accept(rule) | Verdict::Drop(rule) | Verdict::Reject(rule) => Some(*rule),
            Verdict::NoRule => None,
        }).collect();
        for finding in lint(&gateway, &set) {
            let Some(place) = &finding.rule else { continue };
            let index = set.rules().iter().position(|rule| rule.id == place.rule).expect("a rule");
            match finding.kind {
                FindingKind::Shadowed | FindingKind::Conflict | FindingKind::NeverMatches => {
                    prop_assert!(!deciding.contains(&index), "{finding:?} of {rules:#?}");
                }
                FindingKind::Redundant | FindingKind::LikeDefault => {
                    let rest = without(&rules, index);
                    let (_, rest) = world::rules_of_two_zones(&rest);
                    for (packet, before) in packets.iter().zip(&verdicts) {
                        let after = verdict(&rest, packet);
                        prop_assert_eq!(passes(*before), passes(after), "{:?}: {:?}", finding, packet);
                    }
                }
                FindingKind::PartialConflict => prop_assert!(!finding.others.is_empty()),
                FindingKind::WideAccept | FindingKind::UnusedZone | FindingKind::CutShort => {}
            }
        }
    }

    /// What decides nothing because of one earlier rule is found.
    #[test]
    fn a_rule_that_is_repeated_is_found(mut rules in rules(), at in any::<prop::sample::Index>()) {
        let repeated = rules[at.index(rules.len())].clone();
        // Two counts are not one.
        prop_assume!(!repeated.contains("action: count"));
        rules.push(repeated);
        let (gateway, set) = world::rules_of_two_zones(&rules);
        let last = format!("r{}", rules.len() - 1);
        let is_found = lint(&gateway, &set).iter().any(|finding| {
            let is_dead = matches!(finding.kind, FindingKind::Redundant | FindingKind::NeverMatches | FindingKind::Shadowed | FindingKind::Conflict);
            is_dead && finding.rule.as_ref().is_some_and(|place| place.rule.as_str() == last)
        });
        prop_assert!(is_found, "{:#?}", rules);
    }
}

fn brief(finding: &Finding) -> String {
    let mut text = finding.kind.as_str().to_owned();
    if let Some(place) = &finding.rule {
        write!(text, " {}", place.rule).expect("a string");
    }
    text
}

fn without(rules: &[String], index: usize) -> Vec<String> {
    let mut rest = rules.to_vec();
    rest.remove(index);
    rest
}

fn verdict(set: &RuleSet, (from, to, packet): &(ZoneId, ZoneId, PacketMeta)) -> Verdict {
    classify(set, *from, *to, packet)
}

fn passes(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Accept(_))
}

/// Compiles rules for the zones `lan`, `wan` and `dmz`. The first rule is on line 8.
fn rules_of_three_zones(rules: &[String]) -> (Gateway, RuleSet) {
    let zones =
        "  dmz: { interfaces: [d] }\n  lan: { interfaces: [l] }\n  wan: { interfaces: [w] }\n";
    world::compiled(zones, rules)
}

/// Rules that overlap in every way.
fn rules() -> impl Strategy<Value = Vec<String>> {
    let prefix = |key: &'static str| {
        prop::sample::select(vec![
            "",
            "10.0.0.0/30",
            "10.0.0.0/31",
            "10.0.0.2/31, 10.0.0.0/32",
            "0.0.0.0/0",
            "'::/0'",
            "'2001:db8::/127', 10.0.0.1",
            "'2001:db8::2/127', '2001:db8::1'",
            "$few",
            "$few, 10.0.0.3",
            "not $few",
            "not 10.0.0.0/31, '2001:db8::/126'",
        ])
        .prop_map(move |list| match list.strip_prefix("not ") {
            Some(list) => format!("{key}: {{ not: [{list}] }}, "),
            None if list.is_empty() => String::new(),
            None => format!("{key}: [{list}], "),
        })
    };
    let matches = prop::sample::select(vec![
        "",
        "",
        "protocol: tcp, ",
        "protocol: udp, destination_ports: [1, '2-65535'], ",
        "protocol: tcp, source_ports: ['1-2'], destination_ports: [2], ",
        "protocol: tcp, destination_ports: ['1-2'], ",
        "protocol: tcp, destination_ports: $low, ",
        "protocol: tcp, source_ports: { not: [$low, 2] }, ",
        "protocol: icmp, ",
        "protocol: icmp, icmp_types: [echo-request], ",
        "protocol: icmpv6, icmp_types: ['3', echo-request], ",
        "protocol: tcp, tcp_flags: 'syn,!ack', ",
        "protocol: udp, dscp: [ef], ",
        "source_mac: '02:00:5e:10:00:01', ",
        "protocol: 47, ",
    ]);
    let zone = prop::sample::select(vec!["lan", "wan", "[lan, wan]"]);
    let to = prop::sample::select(vec!["lan", "wan", "[lan, wan]"]);
    let action = prop::sample::select(vec!["accept", "drop", "accept", "drop", "reject", "count"]);
    let rule = (zone, to, prefix("source"), prefix("destination"), matches, action).prop_filter_map(
        "one family",
        |(from, to, source, destination, matches, action)| {
            let rule =
                format!("from: {from}, to: {to}, {source}{destination}{matches}action: {action}");
            let text = format!(
                "version: 1\nrouter: {{ identity: a }}\nzones: {{ lan: {{ interfaces: [l] }}, wan: {{ interfaces: \
                 [w] }} }}\nrules: [{{ id: r, {rule} }}]\n{}",
                world::SETS
            );
            parse(&text, "rule.yaml").is_ok().then_some(rule)
        },
    );
    prop::collection::vec(rule, 1..9)
}
