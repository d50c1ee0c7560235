//! Floods: packets that nobody answers push out no flow in use.

use nightgate_abi::{Reason::Forwarded, flow::Phase, limits};
use nightgate_datapath::{Hook, IfIndex, Probe};
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, with_world};
use tcp_flags::{ACK, SYN};

const ALL: &str = "- { id: all, from: lan, to: wan, action: accept }";

#[test]
fn a_flood_leaves_established_flows_alone() {
    with_world(ALL, |world| {
        let (host, far) = ("10.1.0.2:4000", "192.0.2.1:80");
        let (resolver, server) = ("10.1.0.2:5000", "192.0.2.1:53");
        for frame in [tcp(host, far, SYN), udp(resolver, server)] {
            world.receive(LAN, &frame);
        }
        for frame in [tcp(far, host, SYN | ACK), udp(server, resolver)] {
            world.receive(WAN, &frame);
        }
        for frame in [tcp(host, far, ACK), udp(resolver, server)] {
            world.receive(LAN, &frame);
        }

        flood(world, 3 * limits::OPENING);

        let phases = |phase| {
            let flows = world.datapath.flows().expect("flows");
            flows.iter().filter(|flow| flow.phase == phase).count()
        };
        assert_eq!(phases(Phase::Established), 2);
        assert!((1..=limits::OPENING).contains(&phases(Phase::Opening)));
        for frame in [tcp(far, host, ACK), udp(server, resolver)] {
            assert_eq!(world.receive(WAN, &frame).reason, Forwarded);
        }
    });
}

#[test]
fn an_answered_flood_that_hears_no_answer_establishes_nothing() {
    with_world(ALL, |world| {
        let (forged, far) = ("10.1.0.9:4000", "192.0.2.1:80");
        world.receive(LAN, &tcp(forged, far, SYN));
        world.receive(WAN, &tcp(far, forged, SYN | ACK));
        world.receive(LAN, &tcp(forged, far, SYN));
        let flows = world.datapath.flows().expect("flows");
        assert_eq!(flows.iter().map(|flow| flow.phase).collect::<Vec<_>>(), [Phase::Opening]);
    });
}

/// Sends SYNs of as many connections.
fn flood(world: &mut World<'_>, connections: usize) {
    let interface = IfIndex::of(LAN).expect("an interface of the world");
    for number in 0..connections {
        let (third, fourth) = (number / 200 % 200, 10 + number % 200);
        let source = format!("10.1.{third}.{fourth}:{}", 1_000 + number / 40_000);
        let frame = tcp(&source, "192.0.2.1:80", SYN);
        let probe =
            Probe { hook: Hook::Ingress, interface, received_by: None, frame: &frame, repeat: 1 };
        let result = world.datapath.probe(&probe).expect("run");
        assert_eq!(result.reason, Forwarded);
    }
}
