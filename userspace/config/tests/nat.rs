//! Translation rules: what they say, and what is wrong with others.

use nightgate_config::{NewDestination, NewSource, parse};

mod mistakes;

use mistakes::Mistake;

const GOOD: &str = "\
version: 1
router: { identity: gw.json }
zones: { lan: { interfaces: [lan0] }, wan: { interfaces: [und0] } }
rules:
  - { id: web, from: lan, to: wan, protocol: tcp, destination_ports: [443], action: accept }
nat:
  one_to_one:
    - { id: dmz, zone: wan, outside: 203.0.113.16/28, inside: 10.3.0.0/28 }
  destination:
    - { id: forward, from: [wan, lan], destination: 198.51.100.7, protocol: tcp, destination_ports: 8000-8009, becomes: 10.1.0.10, becomes_ports: 80-89 }
    - { id: six, from: wan, destination: 2001:db8::7, becomes: 'fd00::10' }
  source:
    - { id: keep, from: lan, to: wan, destination: 192.0.2.0/24, becomes: unchanged }
    - { id: out, from: [lan, local], to: wan, becomes: masquerade }
    - { id: pool, from: lan, to: wan, protocol: udp, becomes: 198.51.100.8-198.51.100.9, becomes_ports: 1024-2047 }
    - { id: block, from: lan, to: wan, becomes: '2001:db8:5::/64' }
";

const CASES: &[Mistake] = &[
    ("zone: wan", "zone: won", "nat.one_to_one[0].zone", 8, "unknown zone won"),
    ("zone: wan", "zone: local", "nat.one_to_one[0].zone", 8, "zones with interfaces"),
    ("10.3.0.0/28", "10.3.0.0/27", "nat.one_to_one[0]", 8, "one length"),
    ("10.3.0.0/28", "'fd00::/28'", "nat.one_to_one[0]", 8, "one family"),
    ("10.3.0.0/28", "10.3.0.1/28", "nat.one_to_one[0].inside", 8, "10.3.0.0/28"),
    ("[wan, lan]", "[wan, local]", "nat.destination[0].from", 10, "the zone local"),
    ("[wan, lan]", "overlay", "nat.destination[0].from", 10, "the zone overlay"),
    ("id: forward", "id: web", "nat.destination[0].id", 10, "first on line 5"),
    ("id: forward", "to: lan, id: forward", "nat.destination[0].to", 10, "unknown key"),
    ("becomes: 10.1.0.10", "becomes: 10.1.0.0/24", "nat.destination[0].becomes", 10, "a host"),
    ("becomes: 10.1.0.10", "becomes: 127.0.0.1", "nat.destination[0].becomes", 10, "a host"),
    ("becomes: 10.1.0.10", "becomes: 'fd00::1'", "nat.destination[0]", 10, "each family"),
    (
        "becomes: 10.1.0.10",
        "becomes: unchanged",
        "nat.destination[0].becomes_ports",
        10,
        "no ports",
    ),
    ("80-89", "80-90", "nat.destination[0].becomes_ports", 10, "11 ports for the 10"),
    ("8000-8009", "[80, 443]", "nat.destination[0].becomes_ports", 10, "a rule for each range"),
    ("destination_ports: 8000-8009, ", "", "nat.destination[0].becomes_ports", 10, "all ports"),
    (
        "becomes: 'fd00::10'",
        "becomes: 'fd00::10', becomes_ports: 7",
        "nat.destination[1].becomes_ports",
        11,
        "tcp or udp",
    ),
    ("2001:db8::7", "2001:db8::7/64", "nat.destination[1].destination", 11, "2001:db8::/64"),
    (
        "from: lan, to: wan, destination",
        "from: lan, to: local, destination",
        "nat.source[0].to",
        13,
        "the zone local",
    ),
    ("becomes: masquerade", "becomes: masquerad", "nat.source[1].becomes", 14, "198.51.100.8/29"),
    (
        "becomes: masquerade",
        "becomes: masquerade, becomes_ports: 5-6",
        "nat.source[1].becomes_ports",
        14,
        "tcp or udp",
    ),
    (
        "becomes: masquerade",
        "beomes: masquerade, becomes: unchanged",
        "nat.source[1].beomes",
        14,
        "unknown key",
    ),
    (
        "198.51.100.8-198.51.100.9",
        "198.51.100.9-198.51.100.8",
        "nat.source[2].becomes",
        15,
        "behind its start",
    ),
    (
        "198.51.100.8-198.51.100.9",
        "198.51.100.8-fd00::1",
        "nat.source[2].becomes",
        15,
        "one family",
    ),
    ("1024-2047", "1024-70000", "nat.source[2].becomes_ports", 15, "65535"),
    ("2001:db8:5::/64", "2001:db8:5::/63", "nat.source[3].becomes", 16, "within one /64"),
    ("2001:db8:5::/64", "2001:db8:4::1/64", "nat.source[3].becomes", 16, "host bits"),
    (
        "id: block, from",
        "id: block, source: 10.0.0.0/8, from",
        "nat.source[3]",
        16,
        "one address family",
    ),
    (
        "  source:\n",
        "  sources: []\n  source:\n",
        "nat.sources",
        12,
        "one_to_one, destination, source",
    ),
];

#[test]
fn rules_say_who_appears_as_whom() {
    let nat = parse(GOOD, "gw.yaml").unwrap().gateway.unwrap().nat;
    let ports = |low, high| nightgate_config::PortRange::new(low, high);
    assert_eq!(nat.one_to_one[0].outside.to_string(), "203.0.113.16/28");
    let address = "10.1.0.10".parse().unwrap();
    assert_eq!(nat.destination[0].becomes, NewDestination::Host { address, ports: ports(80, 89) });
    assert_eq!(nat.source[0].becomes, NewSource::Unchanged);
    assert_eq!(nat.source[1].becomes, NewSource::Masquerade { ports: None });
    let [low, high] = ["198.51.100.8", "198.51.100.9"].map(|address| address.parse().unwrap());
    assert_eq!(nat.source[2].becomes, NewSource::Addresses { low, high, ports: ports(1024, 2047) });
    let [low, high] =
        ["2001:db8:5::", "2001:db8:5::ffff:ffff:ffff:ffff"].map(|a| a.parse().unwrap());
    assert_eq!(nat.source[3].becomes, NewSource::Addresses { low, high, ports: None });
}

#[test]
fn each_mistake_is_named_with_line_path_and_remedy() {
    mistakes::each_is_named(GOOD, CASES);
}

#[test]
fn translation_needs_zones() {
    let text = "version: 1\nrouter: { identity: gw.json }\nnat: { source: [] }\n";
    let errors = parse(text, "gw.yaml").unwrap_err();
    assert_eq!(errors.iter().map(|e| (e.path.as_str(), e.line)).collect::<Vec<_>>(), [("nat", 3)]);
}
