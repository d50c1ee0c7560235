//! What the programs tell of single packets: traces, and the log of rules.

use nightgate_abi::{
    Address, Rate,
    Reason::{self, EtherType, Forwarded, NoRule, Rule},
    event::{LOG_RATE, Network, Trace, verdict},
};
use nightgate_datapath::{Events, Hook, PacketEvent};
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, with_world};
use nix::time::{ClockId, clock_gettime};
use tcp_flags::{ACK, SYN};

const RULES: &str = "- { id: web, from: lan, to: wan, protocol: tcp, destination_ports: [80], action: accept }\n\
     - { id: mail, from: lan, to: wan, protocol: tcp, destination_ports: [25], action: drop }";
const LOGGED: &str = "- { id: web, from: lan, to: wan, protocol: tcp, destination_ports: [80], action: accept, log: true }\n\
     - { id: mail, from: lan, to: wan, protocol: tcp, destination_ports: [25], action: drop, log: true }\n\
     - { id: quiet, from: lan, to: wan, protocol: tcp, destination_ports: [22], action: drop }";

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;

#[test]
fn a_trace_tells_what_became_of_the_packets_it_wants() {
    for (client, server) in
        [("10.1.0.2:4000", "192.0.2.1:80"), ("[2001:db8:1::2]:4000", "[2001:db8:9::1]:80")]
    {
        with_world(RULES, |world| {
            let mut traces = world.datapath.traces().expect("a ring");
            let syn = tcp(client, server, SYN);
            world.receive(LAN, &syn);
            assert_eq!(told(world, &mut traces), [], "nobody asked");

            let host = network(client);
            start(world, &Trace { host, protocol: 7, ..any() });
            assert_eq!(world.forward(LAN, WAN, &syn).reason, Reason::Sent);
            world.receive(WAN, &tcp(server, client, SYN | ACK));
            world.receive(WAN, &udp(server, client));
            let [sent, answer] = told(world, &mut traces).try_into().expect("two packets");
            assert_eq!(
                (sent.reason, sent.hook, &*sent.interface),
                (Reason::Sent, Hook::Egress, WAN)
            );
            assert_eq!(names(&sent), ["web", "lan", "wan"]);
            assert_eq!(usize::try_from(sent.length), Ok(syn.len()));
            let ends = sent.ip.expect("an IP packet");
            assert_eq!((ends.protocol, ends.tcp_flags), (6, SYN));
            assert_eq!([ends.source.to_string(), ends.destination.to_string()], [client, server]);
            assert_eq!(sent.source_mac, [2, 0, 0, 0, 0, 2]);
            assert_eq!((answer.reason, answer.hook), (Forwarded, Hook::Ingress));
            assert!(sent.at <= answer.at && answer.at <= now());

            world.datapath.stop_trace().expect("stopped");
            world.receive(LAN, &syn);
            assert_eq!(told(world, &mut traces), [], "it is over");
        });
    }
}

#[test]
fn a_trace_tells_of_refusals_with_their_rule_and_of_what_is_no_packet() {
    with_world(RULES, |world| {
        let mut traces = world.datapath.traces().expect("a ring");
        start(world, &Trace { verdict: verdict::DROP, ifindex: index(LAN), ..any() });
        world.receive(LAN, &tcp("10.1.0.2:1", "192.0.2.1:80", SYN));
        world.receive(LAN, &tcp("10.1.0.2:1", "192.0.2.1:25", SYN));
        // The rules stay the same, and so does the trace.
        world.commit(RULES);
        world.receive(LAN, &tcp("10.1.0.2:1", "192.0.2.1:22", SYN));
        world.receive(LAN, &ethernet(0x1234, &[0; 20]));
        let packets = told(world, &mut traces);
        let reasons = packets.iter().map(|packet| packet.reason).collect::<Vec<_>>();
        assert_eq!(reasons, [Rule, NoRule, EtherType]);
        // The first was judged by rules that are no longer in force.
        assert_eq!(names(&packets[0]), ["-", "-", "-"]);
        assert_eq!(names(&packets[1]), ["-", "lan", "wan"]);
        assert_eq!((packets[2].ip, packets[2].ether_type), (None, 0x1234));
    });
}

#[test]
fn a_trace_ends_by_itself_and_tells_no_more_than_its_rate() {
    with_world(RULES, |world| {
        let mut traces = world.datapath.traces().expect("a ring");
        let mail = tcp("10.1.0.2:1", "192.0.2.1:25", SYN);
        start(world, &Trace { deadline: now(), port: 25, ..any() });
        world.receive(LAN, &mail);
        assert_eq!(told(world, &mut traces), [], "its time is over");

        // A token in a minute, and two at once.
        let rate = Rate::new(1, MINUTE, 2);
        let before = packets(world, Reason::TraceSuppressed);
        start(world, &Trace { rate, port: 25, ..any() });
        for _ in 0..10 {
            world.receive(LAN, &mail);
        }
        let count = told(world, &mut traces).len() as u64;
        let suppressed = packets(world, Reason::TraceSuppressed) - before;
        // Each CPU has a bucket of its own, and the test may move between them.
        assert!(count >= 2 && suppressed > 0, "{count}");
        assert_eq!(count + suppressed, 10);
        start(world, &Trace { sample: 0, port: 25, ..any() });
        for _ in 0..10 {
            world.receive(LAN, &mail);
        }
        assert_eq!(told(world, &mut traces), [], "one of 2^32");
    });
}

#[test]
fn rules_with_log_tell_of_first_packets_and_refusals() {
    with_world(LOGGED, |world| {
        let mut log = world.datapath.log().expect("a ring");
        let syn = tcp("10.1.0.2:1", "192.0.2.1:80", SYN);
        world.receive(LAN, &syn);
        world.forward(LAN, WAN, &syn);
        world.receive(LAN, &tcp("10.1.0.2:1", "192.0.2.1:80", ACK));
        world.receive(LAN, &tcp("10.1.0.2:1", "192.0.2.1:22", SYN));
        world.receive(LAN, &tcp("10.1.0.2:1", "192.0.2.1:23", SYN));
        world.receive(LAN, &tcp("10.1.0.2:1", "192.0.2.1:25", SYN));
        let packets = told(world, &mut log);
        let lines = packets.iter().map(|packet| (packet.reason, names(packet)[0].clone()));
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [(Forwarded, "web".to_owned()), (Rule, "mail".to_owned())]
        );

        world.commit(&format!("{RULES}\nlog_unmatched: true"));
        world.receive(LAN, &tcp("10.1.0.2:2", "192.0.2.1:25", SYN));
        world.receive(LAN, &tcp("10.1.0.2:2", "192.0.2.1:23", SYN));
        let packets = told(world, &mut log);
        let unmatched = packets.iter().filter(|packet| packet.interface == LAN);
        let reasons = unmatched.map(|packet| packet.reason).collect::<Vec<_>>();
        assert_eq!(reasons, [NoRule]);
    });
}

#[test]
fn a_rule_that_logs_too_much_is_limited_and_says_how_much_it_left_out() {
    with_world(LOGGED, |world| {
        let mut log = world.datapath.log().expect("a ring");
        let flood = tcp("10.1.0.2:1", "192.0.2.1:25", SYN);
        let suppressed = packets(world, Reason::LogSuppressed);
        for _ in 0..200 {
            world.receive(LAN, &flood);
        }
        let logged = told(world, &mut log).len();
        let burst = usize::try_from(LOG_RATE.depth / LOG_RATE.interval).expect("small");
        assert!((burst..150).contains(&logged), "{logged}");
        let suppressed = packets(world, Reason::LogSuppressed) - suppressed;
        assert_eq!(suppressed + logged as u64, 200);

        // Other rules have not used theirs; this one says what it left out when it may again.
        world.receive(LAN, &tcp("10.1.0.2:1", "192.0.2.1:80", SYN));
        assert_eq!(names(&told(world, &mut log)[0])[0], "web");
        let late = loop {
            world.receive(LAN, &flood);
            if let Some(packet) = told(world, &mut log).pop() {
                break packet;
            }
        };
        assert!(late.suppressed >= 1, "{late:?}");
    });
}

/// Everything, for a minute, as fast as it comes.
fn any() -> Trace {
    Trace {
        deadline: now() + MINUTE,
        rate: Rate::new(1_000_000, SECOND, 1_000_000),
        sample: u32::MAX,
        ..Trace::default()
    }
}

fn start(world: &mut World<'_>, trace: &Trace) {
    world.datapath.start_trace(trace).expect("started");
}

fn told(world: &World<'_>, ring: &mut Events) -> Vec<PacketEvent> {
    std::iter::from_fn(|| ring.read())
        .map(|event| world.datapath.describe_event(&event).expect("well formed"))
        .collect()
}

fn names(packet: &PacketEvent) -> [String; 3] {
    let rule = packet.rule.as_ref().map(ToString::to_string);
    let zones = [&packet.from, &packet.to].map(|zone| zone.as_ref().map(ToString::to_string));
    let [from, to] = zones;
    [rule, from, to].map(|name| name.unwrap_or_else(|| "-".into()))
}

fn network(end: &str) -> Network {
    let end: std::net::SocketAddr = end.parse().expect("an address");
    let mask = Address::from_v6([0xff; 16]).halves();
    Network { address: Address::from(end.ip()).halves(), mask }
}

fn index(interface: &str) -> u32 {
    nightgate_datapath::IfIndex::of(interface).expect("an interface").get()
}

fn packets(world: &World<'_>, reason: Reason) -> u64 {
    world.datapath.statistics().expect("statistics").get(reason).packets
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    u64::try_from(std::time::Duration::from(time).as_nanos()).expect("not that long")
}
