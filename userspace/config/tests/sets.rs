//! Named sets, and rules that name them or say what must not be.

use nightgate_config::{ConfigError, Gateway, Sense, Set, parse};

fn file(sets: &str, keys: &str) -> String {
    format!(
        "version: 1\nrouter: {{ identity: gw.json }}\nzones: {{ lan: {{ interfaces: [lan0] }} }}\nsets:\n{sets}rules:\n  \
         - {{ id: a, from: lan, to: local, {keys}, action: drop }}\n"
    )
}

const SETS: &str =
    "  bad: { addresses: [192.0.2.0/24, '2001:db8::/32'] }\n  web: { ports: [80, '8000-8099'] }\n";

fn gateway(keys: &str) -> Gateway {
    let config = parse(&file(SETS, keys), "gw.yaml").unwrap_or_else(|errors| panic!("{errors:#?}"));
    config.gateway.expect("a gateway")
}

fn errors(text: &str) -> Vec<ConfigError> {
    parse(text, "gw.yaml").expect_err(text)
}

#[test]
fn rules_name_sets_alone_mixed_and_negated() {
    let all = gateway("source: $bad, protocol: tcp, destination_ports: [$web, 443]");
    let rule = &all.rules[0];
    let source = rule.source_members.as_ref().expect("members");
    assert_eq!((source.sense, source.to_string().as_str()), (Sense::In, "$bad"));
    assert_eq!(source.members(&all.sets).count(), 2);
    let ports = rule.destination_port_members.as_ref().expect("members");
    assert_eq!(ports.to_string(), "443, $web");
    assert!(
        matches!(&all.sets.values().next(), Some(Set::Addresses(prefixes)) if prefixes.len() == 2)
    );

    let negated = gateway("source: { not: [$bad, 10.0.0.0/8] }, destination: { not: '::/0' }");
    let rule = &negated.rules[0];
    let texts = [&rule.source_members, &rule.destination_members]
        .map(|members| members.as_ref().expect("members").to_string());
    assert_eq!(texts, ["not 10.0.0.0/8, $bad", "not ::/0"]);
    assert!(gateway("source: 10.0.0.0/8").rules[0].source_members.is_none());
}

#[test]
fn each_mistake_in_a_rule_is_named() {
    for (keys, path, word) in [
        ("source: $worse", "source", "under sets"),
        ("source: [$web]", "source[0]", "something else"),
        ("source: $", "source", "a text"),
        ("source: $Bad", "source", "lower-case"),
        ("source: { not: [] }", "source.not", "at least one"),
        ("source: { nor: $bad }", "source.nor", "one of not"),
        ("destination: { not: 10.0.0.1/8 }", "destination.not", "10.0.0.0/8"),
        ("protocol: tcp, destination_ports: $bad", "destination_ports", "a set of ports"),
        ("protocol: icmp, destination_ports: $web", "destination_ports", "tcp or udp"),
    ] {
        let found = errors(&file(SETS, keys));
        let path = format!("rules[0].{path}");
        let error =
            found.iter().find(|error| error.path == path).unwrap_or_else(|| panic!("{found:#?}"));
        assert_eq!(error.line, 8, "{error}");
        assert!(error.to_string().contains(word), "{keys}: {error}");
    }
}

#[test]
fn each_mistake_in_a_set_is_named_with_its_line() {
    for (set, path, line, word) in [
        ("  a: { addresses: [10.0.0.1/8] }\n", "sets.a.addresses[0]", 5, "10.0.0.0/8"),
        ("  a: { addresses: [] }\n", "sets.a.addresses", 5, "at least one"),
        ("  a: { ports: [0] }\n", "sets.a.ports[0]", 5, "1 to 65535"),
        ("  a: {}\n", "sets.a", 5, "addresses or ports"),
        ("  a: { addresses: 10.0.0.0/8, ports: 1 }\n", "sets.a", 5, "two sets"),
        ("  A: { ports: 1 }\n", "sets.A", 5, "lower-case"),
        ("  a: { ports: 1, port: 2 }\n", "sets.a.port", 5, "addresses, ports"),
        (
            "  a:\n    addresses:\n    - 10.0.0.1\n    - ::1\n    - 10.0.0.1/32\n",
            "sets.a.addresses[2]",
            9,
            "line 7",
        ),
        ("  a: { ports: [5, 5] }\n", "sets.a.ports[1]", 5, "each entry once"),
    ] {
        let found = errors(&file(set, "protocol: any"));
        let [error] = found.as_slice() else { panic!("{set}: {found:#?}") };
        assert_eq!((error.path.as_str(), error.line), (path, line), "{error}");
        assert!(error.to_string().contains(word), "{set}: {error}");
    }
}

#[test]
fn a_wrong_set_is_not_blamed_on_the_rules_that_name_it() {
    let found = errors(&file("  bad: { addresses: [x] }\n", "source: [$bad, $other]"));
    assert!(matches!(&found[..], [error] if error.path == "sets.bad.addresses[0]"), "{found:#?}");
}
