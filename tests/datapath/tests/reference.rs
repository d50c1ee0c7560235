//! The kernel's classifier against the reference: random rules with all that rules can ask for, random packets, the
//! same verdicts by the same rules.

use nightgate_datapath_tests::{
    frame::*,
    gateway,
    oracle::{Journey, Oracle},
    with_uncommitted_world,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tcp_flags::{ACK, FIN, RST, SYN};

/// Flag of explicit congestion notification (RFC 3168).
const ECE: u8 = 0x40;

/// Rule sets and packets for each; together the number of pairs, less packets that say something else of a flow that
/// another has begun.
const RULE_SETS: u32 = 125;
const PACKETS: usize = 200;

/// What rules name. The first set is searched without a tree, the second by one of several levels.
fn sets() -> String {
    let odd: Vec<String> = (0..60)
        .flat_map(|host| {
            let host = 2 * host + 1;
            [1, 2].map(|net| format!("10.{net}.0.{host}, '2001:db8:{net}::{host:x}'"))
        })
        .collect();
    format!(
        "sets:\n  few: {{ addresses: [10.1.0.0/29, 10.2.0.32/28, '2001:db8:1::8/125', '2001:db8:2::/123'] }}\n  \
         odd: {{ addresses: [{}] }}\n  low: {{ ports: [1, '3-4'] }}\n  \
         many: {{ ports: ['2-3', '5-6', '8-9', '11-12', '14-15', '17-18', '20-21', '23-24', '26-27'] }}\n",
        odd.join(", ")
    )
}

#[test]
fn kernel_and_reference_agree() {
    let sets = sets();
    let mut number = 0;
    with_uncommitted_world(|world| {
        let state = std::cell::RefCell::new((world, Oracle::default(), &mut number));
        let mut runner = TestRunner::new(Config {
            cases: RULE_SETS,
            failure_persistence: None,
            ..Config::default()
        });
        let strategy = (rules(), prop::collection::vec(journey(), PACKETS));
        runner
            .run(&strategy, |(rules, journeys)| {
                let (world, oracle, number) = &mut *state.borrow_mut();
                **number += 1;
                // A new epoch: no packet profits from a flow of other rules. Nor is one the answer to another,
                // since hosts that send are not those that are sent to.
                let lines = rules.iter().enumerate();
                let lines: String =
                    lines.map(|(n, rule)| format!("- {{ id: s{number}-{n}, {rule} }}\n")).collect();
                world.commit(&format!("{lines}{sets}"));
                for journey in journeys {
                    oracle.compare(world, &journey).map_err(TestCaseError::fail)?;
                }
                oracle.compare_counts(world).map_err(TestCaseError::fail)
            })
            .unwrap_or_else(|error| panic!("{error}"));
        let (_, oracle, _) = state.into_inner();
        let pairs = oracle.packets([20, 400]);
        assert!(pairs >= 20_000, "{oracle}");
        println!("{oracle}");
    });
}

/// Rules from a small world, so that they overlap and packets meet them.
fn rules() -> impl Strategy<Value = Vec<String>> {
    let from = prop::sample::select(vec!["lan", "local", "[lan, wan]", "[lan, wan, local]"]);
    let to = prop::sample::select(vec!["wan", "[wan, local]", "[lan, wan, local]"]);
    let source = one_of_or_nothing(&[
        "source: 10.1.0.0/27, ",
        "source: [10.1.0.4, 10.2.0.0/16], ",
        "source: '2001:db8:1::/64', ",
        "source: [0.0.0.0/0, '2001:db8:2::/123'], ",
        "source: '::/0', ",
        "source: $few, ",
        "source: [$odd, 10.2.0.0/28], ",
        "source: { not: $few }, ",
        "source: { not: [$odd, '2001:db8:1::/124'] }, ",
        "source: { not: '::/0' }, ",
    ]);
    let destination = one_of_or_nothing(&[
        "destination: [10.2.0.32/27, 10.1.0.1, '2001:db8::/32'], ",
        "destination: [0.0.0.0/0, '2001:db8:2::20/123'], ",
        "destination: '::/0', ",
        "destination: $odd, ",
        "destination: { not: $few }, ",
        "destination: { not: [0.0.0.0/0, '2001:db8:1::/64'] }, ",
    ]);
    let matches = prop::sample::select(vec![
        "",
        "",
        "protocol: tcp, ",
        "protocol: udp, destination_ports: [1, '3-14'], ",
        "protocol: tcp, source_ports: ['1-12', 15], destination_ports: ['2-65535'], ",
        "protocol: udp, source_ports: { not: [$low, 9] }, destination_ports: $many, ",
        "protocol: tcp, destination_ports: { not: $many }, ",
        "protocol: udp, destination_ports: [$low, 7], ",
        "protocol: 47, ",
        "protocol: tcp, tcp_flags: 'syn,!ack', ",
        "protocol: tcp, tcp_flags: [ack, '!fin', '!ece'], ",
        "protocol: icmp, ",
        "protocol: icmp, icmp_types: [echo-request, 13/1, 10], ",
        "protocol: icmpv6, icmp_types: [echo-request, 160/1, 200], ",
    ]);
    let facts = one_of_or_nothing(&[
        "dscp: [ef, 0], ",
        "dscp: cs1, ",
        "source_mac: '02:00:00:00:00:02', ",
        "source_mac: ['02:00:00:00:00:02', '02:00:00:00:00:03'], dscp: [cs0, cs1], ",
    ]);
    let action = prop::sample::select(vec!["accept", "accept", "drop", "reject", "count"]);
    let rule = (from, to, source, destination, matches, facts, action).prop_filter_map(
        "a rule that can match",
        |(from, to, source, destination, matches, facts, action)| {
            let rule = format!(
                "from: {from}, to: {to}, {source}{destination}{matches}{facts}action: {action}"
            );
            let text = format!("- {{ id: r, {rule} }}\n{}", sets());
            gateway(&text).is_ok().then_some(rule)
        },
    );
    prop::collection::vec(rule, 3..20)
}

fn one_of_or_nothing(list: &[&'static str]) -> impl Strategy<Value = &'static str> + use<> {
    prop_oneof![Just(""), prop::sample::select(list.to_vec())]
}

fn journey() -> impl Strategy<Value = Journey> {
    let way = prop::sample::select(vec![
        ("lan", "wan"),
        ("wan", "lan"),
        ("lan", "local"),
        ("wan", "local"),
        ("local", "wan"),
    ]);
    let protocol = prop::sample::select(vec![6_u8, 6, 17, 17, 1, 47]);
    let ends = (any::<bool>(), 2_u8..32, 32_u8..64, 1_u16..30, 1_u16..30);
    let flags =
        prop::sample::select(vec![SYN, SYN, SYN | ECE, SYN | ACK, ACK, FIN | ACK, RST | ACK]);
    let facts = (
        flags,
        prop::sample::select(vec![[[8, 0], [128, 0]], [[13, 1], [160, 1]], [[10, 0], [200, 3]]]),
        prop::sample::select(vec![0_u8, 0, 8, 46, 63]),
        2_u8..5,
    );
    (way, protocol, ends, facts).prop_map(
        |((from, to), protocol, (is_v4, source, destination, source_port, port), facts)| {
            let address = |zone: &str, host: u8| match (zone, is_v4) {
                ("lan", true) => format!("10.1.0.{host}"),
                ("lan", false) => format!("2001:db8:1::{host:x}"),
                ("wan", true) => format!("10.2.0.{host}"),
                ("wan", false) => format!("2001:db8:2::{host:x}"),
                (_, true) => "10.1.0.1".to_owned(),
                (_, false) => "2001:db8:1::1".to_owned(),
            };
            let (source, destination) = (address(from, source), address(to, destination));
            let with_port = |address: &str, port| {
                if is_v4 { format!("{address}:{port}") } else { format!("[{address}]:{port}") }
            };
            let source_end = with_port(&source, source_port);
            let destination_end = with_port(&destination, port);
            let (flags, messages, dscp, mac) = facts;
            let frame = match protocol {
                6 => tcp(&source_end, &destination_end, flags),
                17 => udp(&source_end, &destination_end),
                1 => message(&source, &destination, messages[usize::from(!is_v4)], source_port),
                number => other(&source, &destination, number),
            };
            Journey { from, to, frame: from_host(marked(frame, dscp), mac) }
        },
    )
}
