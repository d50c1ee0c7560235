//! Addresses that are cut off for a while.

use nightgate_abi::{
    Rate,
    Reason::{self, *},
    Throttle,
};
use nightgate_datapath::Throttled as What;
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, with_world};
use nix::time::{ClockId, clock_gettime};

const RULES: &str = "\
- { id: out, from: lan, to: wan, action: accept }
- { id: in, from: wan, to: lan, protocol: udp, destination_ports: [7], action: accept }
";

#[test]
fn an_address_in_quarantine_neither_goes_on_nor_begins_anew_in_either_direction() {
    with_world(RULES, |world| {
        for (bad, good, far) in [
            ("10.1.0.2", "10.1.0.3", "192.0.2.1"),
            ("[2001:db8:1::2]", "[2001:db8:1::3]", "[2001:db8:9::1]"),
        ] {
            assert_eq!(send(world, bad, far, 1), Forwarded, "before");
            assert_eq!(send(world, good, far, 1), Forwarded, "another, before");
            world.datapath.quarantine(address(bad), now() + HOUR).expect("a quarantine");

            assert_eq!(send(world, bad, far, 1), Quarantined, "a flow that has begun");
            assert_eq!(answer(world, far, bad, 1), Quarantined, "its answers");
            assert_eq!(send(world, bad, far, 2), Quarantined, "a new flow");
            let opened = world.receive(WAN, &udp(&format!("{far}:9"), &format!("{bad}:7")));
            assert_eq!(opened.reason, Quarantined, "a flow towards it");
            assert_eq!(send(world, good, far, 1), Forwarded, "a flow of another");
            assert_eq!(send(world, good, far, 2), Forwarded, "a new flow of another");

            world.commit(&format!("- {{ id: new, from: wan, to: lan, action: drop }}\n{RULES}"));
            assert_eq!(send(world, bad, far, 3), Quarantined, "whatever the rules");

            assert!(world.datapath.release_address(address(bad)).expect("a release"));
            assert!(!world.datapath.release_address(address(bad)).expect("no release"));
            assert_eq!(send(world, bad, far, 1), Forwarded, "after");
            world.commit(RULES);
        }
    });
}

#[test]
fn a_quarantine_ends_by_itself() {
    with_world(RULES, |world| {
        world.datapath.quarantine(address("10.1.0.2"), now() - SECOND).expect("a quarantine");
        world.datapath.quarantine(address("10.1.0.3"), now() + HOUR).expect("a quarantine");
        assert_eq!(send(world, "10.1.0.2", "192.0.2.1", 1), Forwarded);
        assert_eq!(send(world, "10.1.0.3", "192.0.2.1", 1), Quarantined);
        let known = world.datapath.quarantined().expect("the addresses");
        assert_eq!(known.len(), 2, "until they are released");
    });
}

#[test]
fn a_limited_address_gets_its_packets_through_at_its_rate_and_no_faster() {
    with_world(RULES, |world| {
        for (tag, (bad, good, far)) in (1..).zip([
            ("10.1.0.2", "10.1.0.3", "192.0.2.1"),
            ("[2001:db8:1::2]", "[2001:db8:1::3]", "[2001:db8:9::1]"),
        ]) {
            assert_eq!(send(world, bad, far, 1), Forwarded, "before");
            let slow = throttle(3, tag, now() + HOUR);
            world.datapath.throttle(What::Address(address(bad)), slow).expect("a limit");
            assert_eq!(send(world, bad, far, 1), Forwarded, "the first of three");
            assert_eq!(answer(world, far, bad, 1), Forwarded, "the second, of the other direction");
            assert_eq!(send(world, bad, far, 2), Forwarded, "the third, of another flow");
            assert_eq!(send(world, bad, far, 1), Throttled, "the fourth");
            assert_eq!(answer(world, far, bad, 1), Throttled, "its answers");
            assert_eq!(send(world, good, far, 1), Forwarded, "another's");

            world.commit(&format!(
                "- {{ id: new, from: wan, to: lan, action: drop }}
{RULES}"
            ));
            assert_eq!(send(world, bad, far, 1), Throttled, "whatever the rules");

            let what = What::Address(address(bad));
            assert_eq!(world.datapath.throttled().expect("the limits"), [(what, slow)]);
            assert!(world.datapath.release_throttle(what).expect("a release"));
            assert!(!world.datapath.release_throttle(what).expect("no release"));
            assert_eq!(send(world, bad, far, 1), Forwarded, "after");
            world.commit(RULES);
        }
    });
}

#[test]
fn limited_flows_share_a_rate_and_others_between_the_same_hosts_do_not() {
    with_world(RULES, |world| {
        let ends = |port: u16| {
            let end = |text: String| text.parse().expect("an end");
            [end("192.0.2.1:53".into()), end(format!("10.1.0.2:{port}"))]
        };
        for port in [1, 2] {
            let limited =
                world.datapath.throttle(What::Flow(17, ends(port)), throttle(2, 1, now() + HOUR));
            limited.expect("a limit");
        }
        let (bad, far) = ("10.1.0.2", "192.0.2.1");
        assert_eq!(send(world, bad, far, 1), Forwarded);
        assert_eq!(send(world, bad, far, 2), Forwarded);
        assert_eq!(send(world, bad, far, 1), Throttled, "the third of both");
        assert_eq!(send(world, bad, far, 2), Throttled);
        assert_eq!(send(world, bad, far, 3), Forwarded, "another flow");

        let over = throttle(2, 1, now() - SECOND);
        world.datapath.throttle(What::Flow(17, ends(1)), over).expect("a limit that is over");
        assert_eq!(send(world, bad, far, 1), Forwarded, "a limit whose time is over");
    });
}

/// So many packets at once of those with the same tag, and then as good as none.
fn throttle(packets: u32, tag: u64, until: u64) -> Throttle {
    Throttle { rate: Rate::new(1, HOUR, packets), until, tag }
}

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;

fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    u64::try_from(std::time::Duration::from(now).as_nanos()).expect("a short uptime")
}

fn address(text: &str) -> std::net::IpAddr {
    text.trim_matches(['[', ']']).parse().expect("an address")
}

fn send(world: &mut World<'_>, from: &str, to: &str, port: u16) -> Reason {
    world.receive(LAN, &udp(&format!("{from}:{port}"), &format!("{to}:53"))).reason
}

fn answer(world: &mut World<'_>, from: &str, to: &str, port: u16) -> Reason {
    world.receive(WAN, &udp(&format!("{from}:53"), &format!("{to}:{port}"))).reason
}
