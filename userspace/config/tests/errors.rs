//! Bad configurations: every error at once, each with its line, path and remedy.

use nightgate_config::{ConfigError, parse, parse_tunnel_mirror};
use proptest::prelude::*;

mod mistakes;

use mistakes::Mistake;

const GOOD: &str = "\
version: 1
router: { identity: gw.json }
zones:
  lan: { interfaces: [lan0] }
  wan: { interfaces: [und0] }
rules:
  - { id: web, from: lan, to: wan, protocol: tcp, destination_ports: [443], action: accept }
";

const CASES: &[Mistake] = &[
    ("version: 1", "version: 2", "version", 1, "1 to 1"),
    ("version: 1\n", "\n", "version", 2, "add the key"),
    ("identity: gw.json", "identity: [a]", "router.identity", 2, "a text"),
    ("identity: gw.json", "identity: a, listen: 1.2.3.4:5", "router.advertise", 2, "host and port"),
    ("identity: gw.json", "identity: a, advertise: a.example:5", "router.listen", 2, "dials out"),
    (
        "identity: gw.json",
        "identity: a, legacy_clients: 1",
        "router.legacy_clients",
        2,
        "true or false",
    ),
    (
        "identity: gw.json",
        "identity: a, listen: localhost:5, advertise: a:5",
        "router.listen",
        2,
        "names are not resolved",
    ),
    ("identity: gw.json", "identity: a, links: 2", "router.links", 2, "a map"),
    (
        "identity: gw.json",
        "identity: a, links: { connections: 9 }",
        "router.links.connections",
        2,
        "1 to 8",
    ),
    (
        "identity: gw.json",
        "identity: a, links: { dial: [Paris] }",
        "router.links.dial[0]",
        2,
        "lower-case",
    ),
    ("identity: gw.json", "identity: a, links: { listen: a }", "router.links.listen", 2, "a list"),
    ("identity: gw.json", "identity: a, threads: 0", "router.threads", 2, "1 to 1024"),
    ("identity: gw.json", "identity: a, offline: { for: soon }", "router.offline.for", 2, "24h"),
    ("lan: {", "local: {", "zones.local", 4, "rename"),
    ("[und0] }", "[und0], block: 10.1.2.3/8 }", "zones.wan.block", 5, "10.0.0.0/8"),
    ("[und0] }", "[und0], block: [10.0.0.1, 10.0.0.1] }", "zones.wan.block", 5, "each prefix once"),
    ("[und0] }", "[und0], block: 10.0.0.1, allow: 10.0.0.1 }", "zones.wan.allow", 5, "remove one"),
    ("[und0] }", "[und0], allow: 10.0.0.1 }", "zones.wan.allow", 5, "block or flood"),
    ("[und0] }", "[und0], flood: { syn: fast } }", "zones.wan.flood.syn", 5, "write 10/s"),
    (
        "[und0] }",
        "[und0], flood: { sin: 9/s } }",
        "zones.wan.flood.sin",
        5,
        "one of syn, udp, icmp",
    ),
    ("[und0] }", "[und0], pass_through: [ipx] }", "zones.wan.pass_through[0]", 5, "eapol, lldp"),
    ("[und0] }", "[und0], pass_through: 0x0800 }", "zones.wan.pass_through", 5, "other than IP"),
    ("[und0] }", "[und0], clamp_mss: pmtu }", "zones.wan.clamp_mss", 5, "write auto"),
    ("[und0] }", "[und0], clamp_mss: 87 }", "zones.wan.clamp_mss", 5, "88 to 65495"),
    ("[und0]", "[lan0]", "zones.wan.interfaces", 5, "each interface once"),
    ("[und0]", "[]", "zones.wan.interfaces", 5, "at least one"),
    ("[und0]", "[an-interface-name]", "zones.wan.interfaces[0]", 5, "ip link"),
    ("id: web", "id: Web Server", "rules[0].id", 7, "lower-case"),
    ("to: wan", "to: won", "rules[0].to", 7, "a zone, local or overlay"),
    ("to: wan", "to: [wan, won]", "rules[0].to[1]", 7, "a zone, local or overlay"),
    ("from: lan", "from: overlay", "rules[0].from", 7, "write local"),
    ("from: lan, to: wan", "from: local, to: overlay", "rules[0].to", 7, "own packets"),
    ("to: wan", "to: wan, source: 10.1.2.3/8", "rules[0].source", 7, "10.0.0.0/8"),
    ("to: wan", "to: wan, destination: [10.0.0.0/33]", "rules[0].destination[0]", 7, "prefix"),
    ("to: wan", "to: wan, source: 10.0.0.0/8, destination: '::/0'", "rules[0]", 7, "one family"),
    ("[443]", "[70000]", "rules[0].destination_ports[0]", 7, "1 to 65535"),
    ("[443]", "[443, \"90-80\"]", "rules[0].destination_ports[1]", 7, "range"),
    ("[443]", "[0]", "rules[0].destination_ports[0]", 7, "1 to 65535"),
    ("protocol: tcp", "protocol: icmp", "rules[0].destination_ports", 7, "tcp or udp"),
    ("protocol: tcp", "protocol: sctp", "rules[0].protocol", 7, "protocol number"),
    ("protocol: tcp", "protocol: 256", "rules[0].protocol", 7, "1 to 255"),
    ("action: accept", "action: allow", "rules[0].action", 7, "accept, drop, reject or count"),
    ("action: accept", "action: accept, limit: { rate: 10 }", "rules[0].limit.rate", 7, "a text"),
    (
        "action: accept",
        "action: accept, limit: { rate: 0/s }",
        "rules[0].limit.rate",
        7,
        "1 to 1000000",
    ),
    ("action: accept", "action: accept, limit: { rate: 5/day }", "rules[0].limit.rate", 7, "/min"),
    (
        "action: accept",
        "action: accept, limit: { burst: 5 }",
        "rules[0].limit.rate",
        7,
        "add the key",
    ),
    (
        "action: accept",
        "action: accept, limit: { rate: 1/s, burst: 0 }",
        "rules[0].limit.burst",
        7,
        "1 to",
    ),
    (
        "action: accept",
        "action: accept, limit: { rate: 1/s, per: host }",
        "rules[0].limit.per",
        7,
        "rule or source",
    ),
    (
        "action: accept",
        "action: accept, connections: { max: 0 }",
        "rules[0].connections.max",
        7,
        "1 to",
    ),
    ("action: accept", "action: accept, connections: 5", "rules[0].connections", 7, "a map"),
    (
        "action: accept",
        "action: drop, limit: { rate: 1/s }",
        "rules[0].limit",
        7,
        "action to accept",
    ),
    (
        "action: accept",
        "action: reject, connections: { max: 9 }",
        "rules[0].connections",
        7,
        "action to accept",
    ),
    ("action: accept", "action: drop, with: reset", "rules[0].with", 7, "action to reject"),
    ("action: accept", "action: reject, with: rst", "rules[0].with", 7, "remove the key"),
    (
        "tcp, destination_ports: [443], action: accept",
        "udp, action: reject, with: reset",
        "rules[0].with",
        7,
        "protocol to tcp",
    ),
    ("action: accept", "acton: accept, action: drop", "rules[0].acton", 7, "one of id, from"),
    ("rules:", "timeouts: { udp: 5 }\nrules:", "timeouts.udp", 6, "a text"),
    ("rules:", "timeouts: { udp: 5 m }\nrules:", "timeouts.udp", 6, "30s or 2h"),
    ("rules:", "timeouts: { tcp_closing: 0s }\nrules:", "timeouts.tcp_closing", 6, "1s to 30d"),
    ("rules:", "timeouts: { tcp: 5m }\nrules:", "timeouts.tcp", 6, "tcp_opening"),
    ("rules:", "flows: { established: 10 }\nrules:", "flows.established", 6, "1024 to 4194304"),
    ("rules:", "tcp: { pickup: drop }\nrules:", "tcp.pickup", 6, "allow or refuse"),
    ("rules:\n", "rules:\n  - 7\n", "rules[0]", 7, "a map"),
    ("rules:", "ruels:", "ruels", 6, "one of version"),
];

#[test]
fn each_mistake_is_named_with_line_path_and_remedy() {
    mistakes::each_is_named(GOOD, CASES);
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_lines() {
    let text = GOOD
        .replace("version: 1", "version: one")
        .replace("[und0]", "[]")
        .replace("[443]", "[70000]")
        .replace("action: accept", "action: maybe, loud: true");
    let errors = parse(&text, "gw.yaml").unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "version",
            "zones.wan.interfaces",
            "rules[0].destination_ports[0]",
            "rules[0].action",
            "rules[0].loud"
        ]
    );
}

#[test]
fn repeated_ids_name_the_first() {
    let text = GOOD.to_owned() + "  - { id: web, from: wan, to: local, action: drop }\n";
    let error = only(parse(&text, "gw.yaml").unwrap_err());
    assert_eq!((error.path.as_str(), error.line), ("rules[1].id", 8));
    assert!(error.found.contains("line 7"), "{}", error.found);
}

#[test]
fn repeated_keys_and_broken_syntax_are_errors_with_a_line() {
    for (text, line) in [
        (GOOD.to_owned() + "version: 1\n", 8),
        (GOOD.replace("[und0]", "[und0"), 5),
        (GOOD.replace("zones:", "zones"), 3),
    ] {
        let error = only(parse(&text, "gw.yaml").unwrap_err());
        assert_eq!(error.path, "file");
        assert!(error.line >= line && error.line <= line + 2, "{error}");
    }
}

#[test]
fn gateway_keys_need_zones() {
    let text = "version: 1\nrouter: { identity: a }\ndns: { listen: 10.0.0.1:53 }\n";
    let error = only(parse(text, "r.yaml").unwrap_err());
    assert_eq!((error.path.as_str(), error.line), ("dns", 3));
}

#[test]
fn mirror_sessions_need_a_sensor_and_a_24_bit_number() {
    let text = GOOD.to_owned()
        + "mirror:\n  sensors: { ids: { address: 10.9.0.2, interface: mon0 } }\n  sessions:\n"
        + "    - { id: a, services: [web], sensor: idz, vni: 16777216 }\n";
    let errors = parse(&text, "gw.yaml").unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["mirror.sessions[0].sensor", "mirror.sessions[0].vni"]);
}

#[test]
fn what_an_encapsulation_does_not_have_is_refused() {
    let text = GOOD.to_owned()
        + "mirror:\n  sensors:\n    a: { interface: mon0 }\n"
        + "    b: { address: 10.9.0.2, interface: mon0, encapsulation: local }\n"
        + "    c: { address: 10.9.0.2, interface: mon0, encapsulation: gre, udp_port: 4789 }\n"
        + "    d: { address: 10.9.0.2, interface: mon0, encapsulation: vlan }\n  sessions: []\n";
    let errors = parse(&text, "gw.yaml").unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    let expected = ["a.address", "b.address", "c.udp_port", "d.encapsulation"];
    assert_eq!(paths, expected.map(|path| format!("mirror.sensors.{path}")));
}

#[test]
fn checks_of_sensors_have_to_be_possible() {
    let text = GOOD.to_owned()
        + "mirror:\n  sensors:\n"
        + "    a: { address: 10.9.0.2, interface: mon0, check: { every: 5s, failures: 2, tcp: 22 } }\n"
        + "    b: { address: 10.9.0.2, interface: mon0, check: { every: 0s, failures: 0 } }\n"
        + "    c: { interface: mon0, encapsulation: local, check: { tcp: 22 } }\n"
        + "    d: { interface: mon0, encapsulation: local, check: { ping: true } }\n  sessions: []\n";
    let errors = parse(&text, "gw.yaml").unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    let expected = ["b.check.every", "b.check.failures", "c.check", "d.check"];
    assert_eq!(paths, expected.map(|path| format!("mirror.sensors.{path}")));
}

#[test]
fn identifiers_and_vlans_have_to_fit() {
    let text = GOOD.to_owned()
        + "mirror:\n  sensors:\n"
        + "    old: { address: 10.9.0.2, interface: mon0, encapsulation: erspan }\n"
        + "    wire: { interface: mon0, encapsulation: local }\n  sessions:\n"
        + "    - { id: a, services: [a], sensor: old, vni: 1023, vlan: service }\n"
        + "    - { id: b, services: [b], sensor: old, vni: 1024, vlan: 4095 }\n"
        + "    - { id: c, services: [c], sensor: wire, vni: 1, vlan: 4094 }\n"
        + "    - { id: d, services: [d], sensor: wire, vlan: servise }\n";
    let errors = parse(&text, "gw.yaml").unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    let expected = ["[1].vlan", "[1].vni", "[2].vni", "[3].vlan"];
    assert_eq!(paths, expected.map(|path| format!("mirror.sessions{path}")));
}

#[test]
fn a_mirror_session_copies_something_between_known_zones() {
    let text = GOOD.to_owned()
        + "mirror:\n  sensors: { tap: { interface: mon0, encapsulation: local } }\n  never:\n"
        + "    filter: { from: lan, to: moon }\n  sessions:\n    - { id: a, sensor: tap }\n"
        + "    - { id: b, sensor: tap, filter: [{ from: lan, to: overlay, source_ports: [1] }] }\n"
        + "    - { id: c, sensor: tap, filter: { from: lan, to: overlay, skip: true } }\n"
        + "    - { id: d, sensor: tap, identities: [laptop], interfaces: [lan0, wan0] }\n"
        + "    - { id: e, sensor: tap, services: [web], interfaces: [a, b, c, d, e] }\n";
    let errors = parse(&text, "gw.yaml").unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    let expected = [
        "mirror.never.filter.to",
        "mirror.sessions[0]",
        "mirror.sessions[1].filter[0].source_ports",
        "mirror.sessions[2]",
        "mirror.sessions[4].interfaces",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn filters_ask_for_what_packets_have() {
    let many: Vec<_> = (0..1_025).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
    let text = GOOD.to_owned()
        + &format!(
            "sets:\n  few: {{ addresses: [10.1.0.0/16, 10.3.0.0/16] }}\n  many: {{ addresses: [{}] }}\n",
            many.join(", ")
        )
        + "mirror:\n  sensors: { tap: { interface: mon0, encapsulation: local } }\n  sessions:\n"
        + "    - { id: a, sensor: tap, filter: { from: lan, to: overlay, source: [$few, 10.2.0.1] } }\n"
        + "    - { id: b, sensor: tap, filter: { from: lan, to: overlay, source: $many } }\n"
        + "    - { id: c, sensor: tap, filter: { from: lan, to: overlay, source: $none } }\n"
        + "    - { id: d, sensor: tap, filter: { from: lan, to: overlay, icmp_types: [8] } }\n"
        + "    - { id: e, sensor: tap, filter: { from: local, to: lan, source_mac: ['02:00:00:00:00:01'] } }\n"
        + "    - { id: f, sensor: tap, filter: { from: lan, to: overlay, protocol: icmp, icmp_types: [echo-request],\n"
        + "        source_mac: ['02:00:00:00:00:01'] } }\n";
    let errors = parse(&text, "gw.yaml").unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    let expected = [
        "[1].filter.source",
        "[2].filter.source",
        "[3].filter.icmp_types",
        "[4].filter.source_mac",
    ];
    assert_eq!(paths, expected.map(|path| format!("mirror.sessions{path}")), "{errors:#?}");
}

#[test]
fn a_tunneler_copies_services_and_no_zones() {
    let sensors = "sensors: { tap: { interface: mon0, encapsulation: local } }\n";
    let good = format!("{sensors}sessions: [{{ id: a, services: [web], sensor: tap }}]\n");
    assert_eq!(parse_tunnel_mirror(&good, "mirror.yaml").unwrap().mirror.sessions.len(), 1);
    let files = format!("{good}packets: {{ interface: cap0, path: /var/log/web.pcapng }}\n");
    let packets = parse_tunnel_mirror(&files, "mirror.yaml").unwrap().packets.unwrap();
    assert_eq!((packets.interface.as_str(), packets.files), ("cap0", 5));
    let error =
        only(parse_tunnel_mirror(&files.replace("interface: cap0, ", ""), "m.yaml").unwrap_err());
    assert!(error.to_string().contains("packets"), "{error}");
    for wrong in [
        "sessions: [{ id: a, filter: { from: local, to: overlay }, sensor: tap }]",
        "sessions: [{ id: a, filter: { from: lan, to: wan, source: $few }, sensor: tap }]",
        "sessions: [{ id: a, services: [web], interfaces: [eth0], sensor: tap }]",
        "sessions: []\nnever: { filter: [{ from: local, to: overlay }] }",
    ] {
        let error =
            only(parse_tunnel_mirror(&format!("{sensors}{wrong}\n"), "m.yaml").unwrap_err());
        assert!(error.to_string().contains("for a tunneler"), "{error}");
        assert!(error.remedy.contains("services or identities"), "{error}");
    }
}

#[test]
fn defaults_apply() {
    let text = GOOD.to_owned() + "dns: { listen: '[fd00::1]:53' }\n";
    let config = parse(&text, "gw.yaml").unwrap();
    assert_eq!(config.admin_socket.to_str(), Some("/run/nightgate/gateway.sock"));
    let dns = config.gateway.unwrap().dns.unwrap();
    assert_eq!(dns.range_v4.to_string(), "100.64.0.0/10");
    assert_eq!(dns.range_v6.to_string(), "fd64:6e67::/64");
}

proptest! {
    /// Whatever the text is, the answer is a model or errors that say where.
    #[test]
    fn damaged_files_give_errors_with_lines(
        damage in prop::collection::vec((any::<prop::sample::Index>(), "[ -~\n]"), 1..4),
    ) {
        let mut text = GOOD.to_owned();
        for (index, character) in damage {
            let at = index.index(text.len());
            text.replace_range(at..=at, &character);
        }
        if let Err(errors) = parse(&text, "gw.yaml") {
            prop_assert!(!errors.is_empty());
            prop_assert!(errors.iter().all(|error| error.line >= 1 && !error.remedy.is_empty()));
        }
    }
}

fn only(errors: Vec<ConfigError>) -> ConfigError {
    let [error] = errors.as_slice() else { panic!("{errors:#?}") };
    error.clone()
}
