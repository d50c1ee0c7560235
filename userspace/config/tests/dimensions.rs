//! What rules ask of packets beyond addresses and ports: every key, and every mistake in it.

use nightgate_config::{Action, Rule, parse};

/// A rule with these keys beside its id, its zones and its action.
fn file(keys: &str) -> String {
    format!(
        "version: 1\nrouter: {{ identity: gw.json }}\nzones: {{ lan: {{ interfaces: [lan0] }} }}\nrules:\n  \
         - {{ id: a, from: lan, to: local, {keys}, action: count }}\n"
    )
}

fn rule(keys: &str) -> Rule {
    let config = parse(&file(keys), "gw.yaml").unwrap_or_else(|errors| panic!("{errors:#?}"));
    config.gateway.expect("a gateway").rules.remove(0)
}

fn texts<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

#[test]
fn every_key_is_understood_by_name_and_by_number() {
    let messages =
        rule("protocol: icmp, icmp_types: [echo-request, fragmentation-needed, 11, 12/1]");
    assert_eq!(texts(messages.icmp_types), ["8", "3/4", "11", "12/1"]);
    assert_eq!(messages.action, Action::Count);
    let messages = rule("protocol: icmpv6, icmp_types: packet-too-big");
    assert_eq!(texts(messages.icmp_types), ["2"]);
    let flags = [
        rule("protocol: tcp, tcp_flags: 'syn,!ack'").tcp_flags,
        rule("protocol: tcp, tcp_flags: [syn, '!ack']").tcp_flags,
    ];
    assert_eq!(flags.map(|flags| (flags.mask(), flags.value())), [(0x12, 0x02); 2]);
    assert_eq!(texts(rule("dscp: [ef, 0, af41]").dscp), ["cs0", "af41", "ef"]);
    let mac = rule("source_mac: 02:00:5e:10:00:01, comment: 'the printer: upstairs'");
    assert_eq!(texts(mac.source_mac), ["02:00:5e:10:00:01"]);
    assert_eq!(mac.comment.as_deref(), Some("the printer: upstairs"));
}

#[test]
fn absent_keys_restrict_nothing() {
    let plain = rule("protocol: any");
    assert!(plain.icmp_types.is_empty() && plain.dscp.is_empty() && plain.source_mac.is_empty());
    assert!(plain.tcp_flags.is_any() && plain.comment.is_none());
}

#[test]
fn each_mistake_is_named_with_its_path_and_remedy() {
    for (keys, path, word) in [
        ("icmp_types: [8]", "icmp_types", "set protocol to icmp"),
        ("protocol: tcp, icmp_types: 8", "icmp_types", "set protocol to icmp"),
        ("protocol: icmp, icmp_types: packet-too-big", "icmp_types", "fragmentation-needed"),
        ("protocol: icmpv6, icmp_types: [fragmentation-needed]", "icmp_types[0]", "packet-too-big"),
        ("protocol: icmp, icmp_types: 256", "icmp_types", "0 to 255"),
        ("protocol: icmp, icmp_types: 3/256", "icmp_types", "3/4"),
        ("protocol: icmp, icmp_types: []", "icmp_types", "at least one"),
        ("protocol: udp, tcp_flags: syn", "tcp_flags", "set protocol to tcp"),
        ("protocol: tcp, tcp_flags: sin", "tcp_flags", "fin, syn, rst"),
        ("protocol: tcp, tcp_flags: 'syn,!syn'", "tcp_flags", "each once"),
        ("protocol: tcp, tcp_flags: [syn, '!syn']", "tcp_flags", "each flag once"),
        ("dscp: [64]", "dscp[0]", "0 to 63"),
        ("dscp: af44", "dscp", "af11 to af43"),
        ("source_mac: 02-00-5e-10-00-01", "source_mac", "02:00:5e:10:00:01"),
        ("source_mac: [01:00:5e:00:00:01]", "source_mac[0]", "multicast"),
        ("comment: 7", "comment", "a text"),
        ("comment: \"two\\nlines\"", "comment", "YAML comment"),
        ("icmp_type: 8", "icmp_type", "icmp_types"),
    ] {
        let errors = parse(&file(keys), "gw.yaml").expect_err(keys);
        let [error] = errors.as_slice() else { panic!("{keys}: {errors:#?}") };
        assert_eq!((error.path.as_str(), error.line), (&*format!("rules[0].{path}"), 5), "{error}");
        assert!(error.to_string().contains(word), "{keys}: {error}");
    }
    let local = file("source_mac: 02:00:5e:10:00:01")
        .replace("from: lan", "from: local")
        .replace("to: local", "to: lan");
    let errors = parse(&local, "gw.yaml").unwrap_err();
    assert!(matches!(&errors[..], [error] if error.path == "rules[0].source_mac"), "{errors:?}");
}
