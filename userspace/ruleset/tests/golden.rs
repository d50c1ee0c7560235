//! The image of a small rule set, field by field: what the kernel reads must not change unnoticed.

use nightgate_abi::{
    Family, RuleEntry, Slot, ZoneId,
    forest::LEAF,
    rule::{LAST, action},
};
use nightgate_config::parse;
use nightgate_ruleset::{CompileError, Entry, compile};

const ZONES: &str = "\
version: 1
router: { identity: gw.json }
zones:
  wan: { interfaces: [und0] }
  lan: { interfaces: [lan0, lan1] }
";

const BOTH: u8 = Family::V4.bit() | Family::V6.bit();

#[test]
fn image_of_a_rule_set_is_as_written_here() {
    let image = compile(&gateway(
        "rules:\n  - { id: overlay, from: lan, to: overlay, action: accept }\n  \
         - { id: dns, from: [lan, wan], to: local, source: [10.1.0.0/16, '2001:db8::/32'], protocol: udp, \
         destination_ports: [53, '1000-1999'], action: drop }\n",
    ))
    .unwrap()
    .image();
    let zones: Vec<_> =
        image.zones().iter().map(|(name, id)| (name.as_str(), id.number())).collect();
    assert_eq!(zones, [("lan", 3), ("local", 1), ("overlay", 2), ("wan", 4)]);
    let rules: Vec<_> = image.rules().iter().map(|rule| rule.as_str()).collect();
    assert_eq!(rules, ["overlay", "dns"]);
    let any = RuleEntry {
        source_port_span: u16::MAX,
        destination_port_span: u16::MAX,
        families: BOTH,
        ..RuleEntry::default()
    };
    let overlay = RuleEntry { from: 1 << 3, to: 1 << 2, action: action::ACCEPT, rule: 0, ..any };
    let v4 = RuleEntry {
        from: 1 << 3 | 1 << 4,
        to: 1 << 1,
        source: words([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 0, 0]),
        source_mask: words(
            [0xff; 14].into_iter().chain([0; 2]).collect::<Vec<_>>().try_into().unwrap(),
        ),
        protocol: 17,
        protocol_mask: 0xff,
        families: Family::V4.bit(),
        action: action::DROP,
        rule: 1,
        ..any
    };
    let v6 = RuleEntry {
        source: words([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        source_mask: words(
            [0xff; 4].into_iter().chain([0; 12]).collect::<Vec<_>>().try_into().unwrap(),
        ),
        families: Family::V6.bit(),
        ..v4
    };
    let dns = |entry| RuleEntry { destination_port: 53, destination_port_span: 0, ..entry };
    let range = |entry| RuleEntry { destination_port: 1000, destination_port_span: 999, ..entry };
    let expected = [overlay, dns(v4), range(v4), dns(v6), range(v6)];
    assert_eq!(image.entries(), expected.map(Entry::from));
}

#[test]
fn few_entries_are_one_leaf_behind_the_headers() {
    let image = compile(&gateway(
        "rules:\n  - { id: a, from: lan, to: wan, protocol: tcp, action: accept }\n  \
         - { id: b, from: [lan, wan], to: local, action: drop }\n",
    ))
    .unwrap()
    .image();
    let leaf = image.entries().iter().zip(0..).map(|(entry, index)| {
        let last = if index == 1 { LAST } else { 0 };
        Slot(RuleEntry { action: entry.rule.action | last, ..entry.rule }.to_words())
    });
    let no_trees = Slot::header(&[], 0);
    let headers = [Slot::header(&[(LEAF | 4, 0)], 0), no_trees, no_trees, no_trees];
    assert_eq!(image.slots(), headers.into_iter().chain(leaf).collect::<Vec<_>>());
}

#[test]
fn the_same_text_gives_the_same_image() {
    let rules = "rules:\n  - { id: a, from: wan, to: [lan, local], action: accept }\n";
    let first = compile(&gateway(rules)).unwrap().image();
    assert_eq!(compile(&gateway(rules)).unwrap().image(), first);
}

#[test]
fn prefixes_of_different_families_make_no_entry() {
    let image = compile(&gateway(
        "rules:\n  - { id: a, from: lan, to: wan, source: [10.0.0.0/8, '::/0'], destination: [11.0.0.0/8], \
         action: accept }\n",
    ))
    .unwrap()
    .image();
    assert_eq!(image.entries().len(), 1);
    assert_eq!(image.entries()[0].rule.families, Family::V4.bit());
}

#[test]
fn limits_are_named_with_what_exceeds_them() {
    let many: String = (0..100_001)
        .map(|n| format!("  - {{ id: r{n}, from: lan, to: wan, action: accept }}\n"))
        .collect();
    let errors = compile(&gateway(&format!("rules:\n{many}"))).unwrap_err();
    assert_eq!(errors, [CompileError::Rules { count: 100_001, limit: 100_000 }]);

    let ports =
        |count: u16| (1..=count).map(|port| port.to_string()).collect::<Vec<_>>().join(", ");
    let wide = format!(
        "rules:\n  - {{ id: w, from: lan, to: wan, protocol: tcp, source_ports: [{}], destination_ports: [{}], \
         action: drop }}\n",
        ports(2_000),
        ports(100)
    );
    let errors = compile(&gateway(&wide)).unwrap_err();
    assert!(matches!(errors[..], [CompileError::Entries { count: 200_000, limit: 131_072, .. }]));
}

#[test]
fn zones_fit_their_set() {
    let zones: String = (0..62).map(|n| format!("  z{n}: {{ interfaces: [i{n}] }}\n")).collect();
    let text = format!("version: 1\nrouter: {{ identity: a }}\nzones:\n{zones}");
    let gateway = parse(&text, "gw.yaml").unwrap().gateway.unwrap();
    let errors = compile(&gateway).unwrap_err();
    assert_eq!(errors, [CompileError::Zones { count: 62, limit: 61 }]);
    assert_eq!(ZoneId::new(64), None);
}

fn gateway(rules: &str) -> nightgate_config::Gateway {
    let text = format!("{ZONES}{rules}");
    parse(&text, "gw.yaml").expect("a good file").gateway.expect("a gateway")
}

fn words(bytes: [u8; 16]) -> [u64; 2] {
    nightgate_abi::Address::from_v6(bytes).halves()
}
