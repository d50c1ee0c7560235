//! What goes wrong with zfw 0.9.21, each tried there, and does not here. docs/from-zfw.md names these tests.

use std::fmt::Write as _;

use nightgate_abi::{
    Reason::{Forwarded, Local, NoRule, Rule, Sent},
    flow::Phase,
};
use nightgate_config::parse;
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, with_uncommitted_world, with_world};
use tcp_flags::{ACK, RST, SYN};

const WEB: &str =
    "- { id: web, from: lan, to: local, protocol: tcp, destination_ports: [80], action: accept }";

/// There, three matching prefixes of IPv4 are remembered and one of IPv6: a fourth, wider one is never reached.
#[test]
fn rules_on_wider_prefixes_are_reached_behind_any_number_of_longer_ones() {
    let mut rules = String::new();
    for length in (9..=32).rev() {
        let network = u32::from_be_bytes([192, 0, 2, 1]) & (u32::MAX << (32 - length));
        let network = std::net::Ipv4Addr::from(network);
        _ = writeln!(
            rules,
            "- {{ id: v4-{length}, from: lan, to: wan, destination: {network}/{length}, protocol: tcp, \
             destination_ports: [{}], action: accept }}",
            2000 + length
        );
    }
    for length in [128, 127, 120, 112, 96, 80, 64, 56, 48, 40, 32] {
        let network =
            u128::from("2001:db8:9::1".parse::<std::net::Ipv6Addr>().expect("an address"));
        let network = std::net::Ipv6Addr::from(network & (u128::MAX << (128 - length)));
        _ = writeln!(
            rules,
            "- {{ id: v6-{length}, from: lan, to: wan, destination: '{network}/{length}', protocol: tcp, \
             destination_ports: [{}], action: accept }}",
            2000 + length
        );
    }
    with_world(&rules, |world| {
        for length in 9..=32 {
            let port = 2000 + length;
            assert_eq!(through(world, "10.1.0.2:1", &format!("192.0.2.1:{port}")), Forwarded);
        }
        for length in [32, 40, 48, 56, 64, 80, 96, 112, 120, 127, 128] {
            let port = 2000 + length;
            let to = format!("[2001:db8:9::1]:{port}");
            assert_eq!(through(world, "[2001:db8:1::2]:1", &to), Forwarded, "/{length}");
        }
        assert_eq!(through(world, "10.1.0.2:1", "192.0.2.1:2001"), NoRule);
    });
}

/// There, a rule of the same prefix, protocol and lowest port takes the other's place.
#[test]
fn ranges_that_begin_with_the_same_port_stay_apart() {
    const RULES: &str = "\
- { id: refused, from: lan, to: wan, destination: 192.0.2.0/24, protocol: tcp, destination_ports: ['1000-1010'], action: drop }
- { id: wide, from: lan, to: wan, destination: 192.0.2.0/24, protocol: tcp, destination_ports: ['1000-2000'], action: accept }
- { id: wider, from: lan, to: wan, destination: 192.0.2.0/24, protocol: tcp, destination_ports: ['1000-3000'], action: accept }
";
    with_world(RULES, |world| {
        for (port, expected) in [(1000, Rule), (1010, Rule), (1011, Forwarded), (2500, Forwarded)] {
            assert_eq!(through(world, "10.1.0.2:1", &format!("192.0.2.1:{port}")), expected);
        }
        assert_eq!(counts(world), [("refused", 2), ("wide", 1), ("wider", 1)].map(owned));
    });
}

/// There, the name of a rule belongs to a port and protocol: rules that share them share the name.
#[test]
fn rules_of_one_port_and_protocol_keep_their_own_names_and_counts() {
    const RULES: &str = "\
- { id: first, from: lan, to: wan, destination: 192.0.2.1, protocol: tcp, destination_ports: [80], action: accept }
- { id: second, from: lan, to: wan, destination: 192.0.2.2, protocol: tcp, destination_ports: [80], action: accept }
";
    with_world(RULES, |world| {
        for source in 1..=3 {
            through(world, &format!("10.1.0.2:{source}"), "192.0.2.2:80");
        }
        through(world, "10.1.0.2:9", "192.0.2.1:80");
        assert_eq!(counts(world), [("first", 1), ("second", 3)].map(owned));
    });
}

/// There, such a rule is taken and matches nothing.
#[test]
fn a_prefix_with_host_bits_is_refused_with_what_was_meant() {
    for (prefix, meant) in [("192.0.2.7/24", "192.0.2.0/24"), ("2001:db8::7/64", "2001:db8::/64")] {
        let errors = errors_of(&format!(
            "- {{ id: a, from: lan, to: wan, source: '{prefix}', action: accept }}"
        ));
        assert!(errors.contains("rules[0].source") && errors.contains(meant), "{errors}");
    }
}

/// There, the 101st range of a prefix is reported as done and does nothing.
#[test]
fn a_prefix_has_as_many_ranges_as_are_written() {
    let ports: Vec<u16> = (0..400).map(|number| 1000 + 10 * number).collect();
    let list: Vec<_> = ports.iter().map(|port| format!("'{port}-{}'", port + 4)).collect();
    let rule = format!(
        "- {{ id: many, from: lan, to: wan, destination: 192.0.2.0/24, protocol: tcp, destination_ports: [{}], \
         action: accept }}",
        list.join(", ")
    );
    with_world(&rule, |world| {
        for port in ports.iter().step_by(7).chain(ports.last()) {
            assert_eq!(through(world, "10.1.0.2:1", &format!("192.0.2.1:{port}")), Forwarded);
            let beside = format!("192.0.2.1:{}", port + 5);
            assert_eq!(through(world, "10.1.0.2:1", &beside), NoRule);
        }
    });
}

/// There, a rule has three interfaces at most, and naming another replaces those before.
#[test]
fn a_rule_holds_on_every_interface_of_its_zones() {
    const MORE: [&str; 5] = ["more0", "more1", "more2", "more3", "more4"];
    with_uncommitted_world(|world| {
        for name in MORE {
            world
                .namespace
                .ip(&format!("link add {name} type veth peer name far-{name}"))
                .expect("made");
            world.namespace.ip(&format!("link set {name} up")).expect("up");
            let zone = nightgate_ruleset::ZoneName::new("lan").expect("a zone's name");
            world.datapath.attach(name, &zone).expect("attach");
        }
        world.commit(WEB);
        let syn = tcp("10.1.0.2:1", "10.1.0.1:80", SYN);
        for name in MORE.into_iter().chain([LAN]) {
            assert_eq!(world.receive(name, &syn).reason, Local, "{name}");
        }
        assert_eq!(world.receive(WAN, &tcp("10.2.0.2:1", "10.2.0.1:80", SYN)).reason, NoRule);
    });
}

/// There, an attachment that fails is reported as done.
#[test]
fn an_interface_that_is_not_there_is_an_error_that_names_it() {
    with_world(" []", |world| {
        let zone = nightgate_ruleset::ZoneName::new("lan").expect("a zone's name");
        let error = world.datapath.attach("tun99", &zone).expect_err("no such interface");
        assert!(error.to_string().contains("tun99"), "{error}");
    });
}

/// There, what no rule accepts disappears without a trace.
#[test]
fn what_no_rule_accepts_is_counted_in_packets_and_bytes() {
    with_world(" []", |world| {
        let frame = tcp("10.1.0.2:1", "192.0.2.1:80", SYN);
        let before = world.datapath.statistics().expect("statistics").get(NoRule);
        for _ in 0..3 {
            assert_eq!(world.receive(LAN, &frame).reason, NoRule);
        }
        let after = world.datapath.statistics().expect("statistics").get(NoRule);
        assert!(after.packets >= before.packets + 3);
        assert!(after.bytes >= before.bytes + 3 * frame.len() as u64);
    });
}

/// There, answers of DHCP servers, and over IPv6 more, pass by no rule to anybody.
#[test]
fn nothing_but_neighbour_discovery_and_arp_passes_without_a_rule() {
    with_world(" []", |world| {
        for frame in [
            udp("10.1.0.2:67", "10.1.0.1:68"),
            udp("10.1.0.2:67", "192.0.2.1:68"),
            udp("10.1.0.2:67", "255.255.255.255:68"),
            udp("[fe80::2]:547", "[fe80::1]:546"),
            udp("10.1.0.2:9", "10.1.0.1:53"),
            tcp("10.1.0.2:9", "10.1.0.1:22", SYN),
            icmp("10.1.0.2", "10.1.0.1", 8, 1),
            icmp("2001:db8:1::2", "2001:db8:1::1", 128, 1),
        ] {
            assert_eq!(world.receive(LAN, &frame).reason, NoRule);
        }
    });
}

/// There, ssh to any address passes while the interface's own address is not known.
#[test]
fn an_interface_without_an_address_lets_no_ssh_in() {
    with_uncommitted_world(|world| {
        world.namespace.ip("link add bare0 type veth peer name far-bare0").expect("made");
        world.namespace.ip("link set bare0 up").expect("up");
        let zone = nightgate_ruleset::ZoneName::new("lan").expect("a zone's name");
        world.datapath.attach("bare0", &zone).expect("attach");
        world.commit(" []");
        for server in ["10.1.0.1:22", "192.0.2.1:22", "10.2.0.1:22"] {
            let syn = tcp("10.1.0.2:1", server, SYN);
            assert_eq!(world.receive("bare0", &syn).reason, NoRule, "{server}");
        }
    });
}

/// There, what looks like GENEVE from anybody is unpacked before any rule.
#[test]
fn tunnels_are_judged_as_what_they_are_and_never_unpacked() {
    let inner = tcp("10.1.0.2:1", "10.1.0.1:80", SYN);
    let header = [&[8, 0, 0x65, 0x58, 0, 0, 0, 0][..], &[0; 32], &inner].concat();
    let length = u16::try_from(8 + header.len()).expect("short").to_be_bytes();
    let datagram = [&[0x27, 0x10, 0x17, 0xc1, length[0], length[1], 0, 0][..], &header].concat();
    let [from, to] = ["10.1.0.2", "10.1.0.1"].map(|text| text.parse().expect("an address"));
    with_world(WEB, |world| {
        assert_eq!(world.receive(LAN, &inner).reason, Local);
        assert_eq!(world.receive(LAN, &ip(from, to, 17, &datagram)).reason, NoRule);
    });
}

/// There, allowed sources are kept in a table that forgets some when it is full.
#[test]
fn an_allowed_source_stays_allowed_whatever_comes() {
    let hosts =
        || (0..2_000).map(|number| format!("10.1.{}.{}", 4 + number / 250, 1 + number % 250));
    let rule = format!(
        "- {{ id: allowed, from: lan, to: wan, source: [{}], protocol: tcp, action: accept }}",
        hosts().collect::<Vec<_>>().join(", ")
    );
    with_world(&rule, |world| {
        for number in 0..10_000 {
            let other = format!("10.1.{}.{}:9", 128 + number / 250, 1 + number % 250);
            assert_eq!(world.receive(LAN, &tcp(&other, "192.0.2.1:80", SYN)).reason, NoRule);
        }
        for host in hosts() {
            assert_eq!(through(world, &format!("{host}:9"), "192.0.2.1:80"), Forwarded, "{host}");
        }
    });
}

/// There, a reset of the gateway's own end is looked for in the wrong table, and the flow lives on.
#[test]
fn a_reset_of_either_end_ends_the_flow() {
    with_connection(|world| {
        let reset = segment(SERVER, CLIENT, RST | ACK, [5_001, 1_001], 0);
        assert_eq!(world.send(LAN, &reset).reason, Sent);
        assert_eq!(phase(world), Phase::Closed);
    });
    with_connection(|world| {
        let reset = segment(CLIENT, SERVER, RST, [1_001, 0], 0);
        assert_eq!(world.receive(LAN, &reset).reason, Local);
        assert_eq!(phase(world), Phase::Closed);
    });
}

/// There, any reset with the connection's addresses and ports ends it.
#[test]
fn a_reset_that_guesses_the_sequence_number_ends_nothing() {
    with_connection(|world| {
        for guess in [0, 1_000, 1_002, 900_000, u32::MAX] {
            world.receive(LAN, &segment(CLIENT, SERVER, RST, [guess, 0], 0));
            assert_eq!(phase(world), Phase::Established, "{guess}");
        }
    });
}

/// The guide for those who come from zfw promises tests by their names.
#[test]
fn every_test_that_the_guide_names_is_here() {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(tests.join(path)).expect(path);
    let guide = read("../docs/from-zfw.md");
    let (_, table) = guide.split_once("and the tests here").expect("the table of tests");
    let mut own = 0;
    for cell in table.lines().filter_map(|line| line.strip_prefix("| ")?.split('`').nth(1)) {
        if let Some(file) = cell.strip_prefix("tests/") {
            read(file);
        } else {
            let name = format!("fn {cell}()");
            assert!(read("datapath/tests/zfw_defects.rs").contains(&name), "{name}");
            own += 1;
        }
    }
    assert!(own >= 13, "{own} tests");
}

const CLIENT: &str = "10.1.0.2:4000";
const SERVER: &str = "10.1.0.1:80";

/// Calls a function with an open connection to the gateway; both ends have sent one byte of sequence.
fn with_connection(test: impl FnOnce(&mut World<'_>) + Send) {
    with_world(WEB, |world| {
        assert_eq!(world.receive(LAN, &segment(CLIENT, SERVER, SYN, [1_000, 0], 0)).reason, Local);
        let answer = segment(SERVER, CLIENT, SYN | ACK, [5_000, 1_001], 0);
        assert_eq!(world.send(LAN, &answer).reason, Sent);
        let confirmation = segment(CLIENT, SERVER, ACK, [1_001, 5_001], 0);
        assert_eq!(world.receive(LAN, &confirmation).reason, Local);
        assert_eq!(phase(world), Phase::Established);
        test(world);
    });
}

fn phase(world: &World<'_>) -> Phase {
    let flows = world.datapath.flows().expect("flows");
    let [flow] = flows.as_slice() else { panic!("one flow: {flows:#?}") };
    flow.phase
}

fn through(world: &mut World<'_>, from: &str, to: &str) -> nightgate_abi::Reason {
    world.receive(LAN, &tcp(from, to, SYN)).reason
}

fn counts(world: &World<'_>) -> Vec<(String, u64)> {
    let hits = world.datapath.rule_hits().expect("hits");
    hits.into_iter().map(|(rule, hits)| (rule.to_string(), hits.counter.packets)).collect()
}

fn owned((name, count): (&str, u64)) -> (String, u64) {
    (name.to_owned(), count)
}

/// What is wrong with rules.
fn errors_of(rules: &str) -> String {
    let text = format!(
        "version: 1\nrouter: {{ identity: gw.json }}\nzones:\n  lan: {{ interfaces: [lan0] }}\n  wan: {{ \
         interfaces: [wan0] }}\nrules:\n{rules}\n"
    );
    let errors = parse(&text, "rules.yaml").expect_err("refused");
    errors.iter().map(|error| format!("{error}\n")).collect()
}
