//! Addresses that are cut off for a while.

use nightgate_abi::Reason::{self, *};
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
