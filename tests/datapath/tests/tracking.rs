//! How flows are kept: settings change with the rules, by the same word.

use std::time::Duration;

use nightgate_abi::{
    Reason::{Forwarded, NoRule, TcpPickup},
    flow::Phase,
};
use nightgate_config::{Pickup, Tracking};
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, tracked_rule_set, with_world};
use tcp_flags::{ACK, RST, SYN};

const WEB: &str = "- { id: web, from: lan, to: wan, action: accept }";
const ENDS: (&str, &str) = ("10.1.0.2:4000", "192.0.2.1:80");

/// Puts the rules in force with other settings.
fn commit(world: &mut World<'_>, change: impl FnOnce(&mut Tracking)) {
    let mut tracking = Tracking::default();
    change(&mut tracking);
    world.rules = tracked_rule_set(WEB, tracking);
    world.datapath.commit(&world.rules.image()).expect("commit");
}

#[test]
fn the_middle_of_an_unknown_connection_is_refused_if_that_is_wanted() {
    with_world(WEB, |world| {
        let (client, server) = ENDS;
        assert_eq!(world.receive(LAN, &tcp(client, server, ACK)).reason, Forwarded);
        commit(world, |tracking| tracking.pickup = Pickup::Refuse);
        assert_eq!(world.receive(LAN, &tcp(client, server, ACK)).reason, Forwarded, "is known");
        for flags in [ACK, SYN | ACK, RST] {
            let other = tcp("10.1.0.2:4001", server, flags);
            assert_eq!(world.receive(LAN, &other).reason, TcpPickup);
        }
        assert_eq!(world.receive(LAN, &tcp("10.1.0.2:4001", server, SYN)).reason, Forwarded);
        assert_eq!(world.receive(LAN, &udp("10.1.0.2:4001", server)).reason, Forwarded);
    });
}

#[test]
fn a_flow_is_over_after_its_time() {
    with_world(WEB, |world| {
        let (client, server) = ENDS;
        // A time that is over at once stands for one that has gone by.
        commit(world, |tracking| tracking.timeouts.udp_opening = Duration::ZERO);
        world.receive(LAN, &udp(client, server));
        assert_eq!(world.receive(WAN, &udp(server, client)).reason, NoRule);
        world.receive(LAN, &tcp(client, server, SYN));
        assert_eq!(world.receive(WAN, &tcp(server, client, SYN | ACK)).reason, Forwarded);

        commit(world, |tracking| tracking.timeouts.tcp_established = Duration::ZERO);
        world.receive(LAN, &udp(client, server));
        assert_eq!(world.receive(WAN, &udp(server, client)).reason, Forwarded);
        // The first one is judged by the new rules, the second establishes the connection.
        for _ in 0..2 {
            assert_eq!(world.receive(LAN, &tcp(client, server, ACK)).reason, Forwarded);
        }
        assert_eq!(world.receive(WAN, &tcp(server, client, ACK)).reason, NoRule);
    });
}

#[test]
fn a_flow_that_is_over_begins_again_among_those_that_open() {
    with_world(WEB, |world| {
        let (client, server) = ENDS;
        commit(world, |tracking| tracking.timeouts.udp = Duration::ZERO);
        world.receive(LAN, &udp(client, server));
        world.receive(WAN, &udp(server, client));
        let phases = |world: &World<'_>| {
            let flows = world.datapath.flows().expect("flows");
            flows.iter().map(|flow| flow.phase).collect::<Vec<_>>()
        };
        world.receive(LAN, &udp(client, server));
        assert_eq!(phases(world), [Phase::Established]);
        world.receive(LAN, &udp(client, server));
        assert_eq!(phases(world), [Phase::Opening]);
    });
}
