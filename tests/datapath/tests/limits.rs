//! Rate and connection limits of rules.

use nightgate_abi::Reason::{self, *};
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, with_world};
use nix::time::{ClockId, clock_gettime};
use tcp_flags::{ACK, FIN, RST, SYN};

/// Hours pass between two tokens, so that a slow machine makes no difference.
const RULES: &str = "\
- { id: rule, from: lan, to: wan, protocol: tcp, destination_ports: [1], action: accept, limit: { rate: 1/h, burst: 3 } }
- { id: source, from: lan, to: wan, protocol: udp, destination_ports: [2], action: accept, limit: { rate: 1/h, burst: 2, per: source } }
- { id: few, from: lan, to: wan, protocol: tcp, destination_ports: [3], action: accept, connections: { max: 2 } }
- { id: each, from: lan, to: wan, protocol: tcp, destination_ports: [4], action: accept, connections: { max: 1, per: source } }
- { id: fast, from: lan, to: wan, protocol: tcp, destination_ports: [5], action: accept, limit: { rate: 1000000/s, burst: 1 } }
- { id: both, from: lan, to: wan, protocol: tcp, destination_ports: [6], action: accept, connections: { max: 5 }, limit: { rate: 1/h, burst: 1 } }
- { id: rest, from: lan, to: wan, action: accept }
";

#[test]
fn flows_beyond_a_rate_are_refused_and_others_go_on() {
    with_world(RULES, |world| {
        for port in 1..=3 {
            assert_eq!(open(world, port, 1), Forwarded);
        }
        assert_eq!(open(world, 4, 1), RateLimited);
        assert_eq!(open(world, 5, 1), RateLimited, "no later rule decides");
        for _ in 0..10 {
            assert_eq!(open(world, 1, 1), Forwarded, "a flow that has begun");
        }
        assert_eq!(open(world, 4, 80), Forwarded, "another rule");
        for port in 0..100 {
            // At least a microsecond passes from one packet to the next.
            assert_eq!(open(world, 5_000 + port, 5), Forwarded);
        }
    });
}

#[test]
fn each_source_has_a_bucket_and_each_ipv6_network() {
    with_world(RULES, |world| {
        let mut send =
            |source: &str, destination: &str| world.receive(LAN, &udp(source, destination)).reason;
        let v4 = "192.0.2.1:2";
        for (host, port, expected) in [
            (2, 1, Forwarded),
            (2, 2, Forwarded),
            (2, 3, RateLimited),
            (3, 1, Forwarded),
            (3, 2, Forwarded),
            (3, 3, RateLimited),
            (2, 1, Forwarded),
        ] {
            assert_eq!(send(&format!("10.1.0.{host}:{port}"), v4), expected, "{host} {port}");
        }
        let v6 = "[2001:db8:9::1]:2";
        assert_eq!(send("[2001:db8:1::2]:1", v6), Forwarded);
        assert_eq!(send("[2001:db8:1::3]:1", v6), Forwarded);
        assert_eq!(send("[2001:db8:1::4]:1", v6), RateLimited, "the third of one /64");
        assert_eq!(send("[2001:db8:1:1::4]:1", v6), Forwarded, "another network");
    });
}

#[test]
fn buckets_stay_empty_when_rules_are_committed_anew() {
    with_world(RULES, |world| {
        for port in 1..=3 {
            assert_eq!(open(world, port, 1), Forwarded);
        }
        world.commit(&format!("- {{ id: new, from: wan, to: lan, action: drop }}\n{RULES}"));
        assert_eq!(open(world, 1, 1), Forwarded, "a flow that has begun is judged again");
        assert_eq!(open(world, 4, 1), RateLimited);
        world.commit(&RULES.replace("id: rule", "id: other"));
        assert_eq!(open(world, 4, 1), Forwarded, "another rule has another bucket");
    });
}

#[test]
fn connections_beyond_a_limit_are_refused_until_one_closes() {
    with_world(RULES, |world| {
        assert_eq!(open(world, 1, 3), Forwarded);
        assert_eq!(open(world, 2, 3), Forwarded);
        assert_eq!(open(world, 3, 3), ConnectionLimit);
        for port in [1, 2] {
            assert_eq!(answer(world, port, SYN | ACK, [5_000, 2]), Forwarded);
            assert_eq!(go_on(world, port, ACK, [2, 5_001]), Forwarded);
        }
        assert_eq!(go_on(world, 1, RST, [2, 0]), Forwarded);
        assert_eq!(open(world, 3, 3), Forwarded, "one was reset");
        assert_eq!(open(world, 4, 3), ConnectionLimit);
        assert_eq!(go_on(world, 2, FIN | ACK, [2, 5_001]), Forwarded);
        assert_eq!(open(world, 4, 3), ConnectionLimit, "half closed");
        assert_eq!(answer(world, 2, FIN | ACK, [5_001, 3]), Forwarded);
        assert_eq!(open(world, 4, 3), Forwarded, "closed by both ends");
        assert_eq!(open(world, 5, 3), ConnectionLimit);

        assert_eq!(open(world, 1, 4), Forwarded);
        assert_eq!(open(world, 2, 4), ConnectionLimit);
        assert_eq!(send(world, "10.1.0.3", 1, 4, SYN), Forwarded, "another source");
    });
}

#[test]
fn a_flow_beyond_one_limit_takes_nothing_from_the_other() {
    with_world(RULES, |world| {
        assert_eq!(open(world, 1, 6), Forwarded);
        for port in 2..20 {
            assert_eq!(open(world, port, 6), RateLimited, "never beyond the connections");
        }
    });
}

#[test]
fn a_recount_finds_what_went_unnoticed() {
    with_world(RULES, |world| {
        let now = || {
            let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
            u64::try_from(std::time::Duration::from(now).as_nanos()).expect("a short uptime")
        };
        assert_eq!(open(world, 1, 3), Forwarded);
        assert_eq!(open(world, 2, 3), Forwarded);
        world.datapath.recount_connections(now()).expect("counted");
        assert_eq!(open(world, 3, 3), ConnectionLimit, "both are there");
        let day = 86_400_000_000_000;
        world.datapath.recount_connections(now() + day).expect("counted");
        assert_eq!(open(world, 3, 3), Forwarded, "both have been idle for too long");
        world.datapath.recount_connections(now()).expect("counted");
        assert_eq!(open(world, 4, 3), ConnectionLimit, "three are there");
    });
}

/// Begins, or goes on with, a TCP flow from a port to a port.
fn open(world: &mut World<'_>, from: u16, to: u16) -> Reason {
    send(world, "10.1.0.2", from, to, SYN)
}

fn send(world: &mut World<'_>, host: &str, from: u16, to: u16, flags: u8) -> Reason {
    world.receive(LAN, &tcp(&format!("{host}:{from}"), &format!("192.0.2.1:{to}"), flags)).reason
}

/// Goes on with a connection to port 3.
fn go_on(world: &mut World<'_>, from: u16, flags: u8, numbers: [u32; 2]) -> Reason {
    let frame = segment(&format!("10.1.0.2:{from}"), "192.0.2.1:3", flags, numbers, 0);
    world.receive(LAN, &frame).reason
}

/// Answers it.
fn answer(world: &mut World<'_>, to: u16, flags: u8, numbers: [u32; 2]) -> Reason {
    let frame = segment("192.0.2.1:3", &format!("10.1.0.2:{to}"), flags, numbers, 0);
    world.receive(WAN, &frame).reason
}
