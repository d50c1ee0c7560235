//! What becomes of translated flows when something else changes.

use nightgate_abi::{
    Reason::{Forwarded, NatConflict, NatNoAddress, NatRerouted, NatRestored, NoRule, Rule, Sent},
    limits,
};
use nightgate_datapath::{Hook, IfIndex, Probe};
use nightgate_datapath_tests::{LAN, WAN, World, checksum::summed, frame::*};
use tcp_flags::{ACK, SYN};

use crate::support::{MASQUERADE, PORT_FORWARD, flows, packets, through, with_addresses};

#[test]
fn a_change_of_the_rules_keeps_translations_of_flows_that_go_on() {
    let (client, server, outside) = ("10.1.0.2:4000", "192.0.2.1:80", "10.2.0.1:4000");
    let (far, public, inside) = ("192.0.2.9:5", "198.51.100.7:8000", "10.1.0.10:80");
    let both = format!("{MASQUERADE}{PORT_FORWARD}")
        .replace("from: lan, to: wan, action", "from: [lan, wan], to: [lan, wan], action");
    // The rule that translates is another one by its number, but goes on counting.
    let behind = both.replace(
        "  source:\n",
        "  source:\n    - { id: other, from: lan, to: wan, protocol: 99, becomes: masquerade }\n",
    );
    with_addresses(&both, |world| {
        through(world, (LAN, WAN), &tcp(client, server, SYN), &tcp(outside, server, SYN));
        through(world, (WAN, LAN), &tcp(far, public, SYN), &tcp(far, inside, SYN));
        let without = "  - { id: out, from: [lan, wan], to: [lan, wan], action: accept }\n";
        for rules in [both.as_str(), without, behind.as_str(), both.as_str()] {
            world.commit(rules);
            through(world, (WAN, LAN), &tcp(server, outside, ACK), &tcp(server, client, ACK));
            through(world, (LAN, WAN), &tcp(client, server, ACK), &tcp(outside, server, ACK));
            through(world, (WAN, LAN), &tcp(far, public, ACK), &tcp(far, inside, ACK));
            through(world, (LAN, WAN), &tcp(inside, far, ACK), &tcp(public, far, ACK));
        }
        // Of the last two commits: a rule that goes takes its count along.
        assert_eq!((packets(world, "hide"), packets(world, "web")), (4, 4));
        world.commit("  - { id: out, from: [lan, wan], to: [lan, wan], action: drop }\n");
        assert_eq!(world.receive(WAN, &summed(tcp(server, outside, ACK))).reason, Rule);
        assert_eq!(world.receive(WAN, &summed(tcp(far, public, ACK))).reason, Rule);
        assert_eq!(flows(world), []);
    });
}

#[test]
fn flows_of_an_address_that_is_gone_end_and_begin_anew_with_another() {
    let (client, server) = ("10.1.0.2:4000", "192.0.2.1:80");
    with_addresses(MASQUERADE, |world| {
        through(world, (LAN, WAN), &udp(client, server), &udp("10.2.0.1:4000", server));
        let wan = IfIndex::of(WAN).expect("wan");
        let (old, new) =
            ("10.2.0.1".parse().expect("an address"), "10.2.0.77".parse().expect("an address"));
        world.datapath.set_addresses(wan, &[new]).expect("set");
        through(world, (LAN, WAN), &udp(client, server), &udp("10.2.0.1:4000", server));
        assert_eq!(
            world
                .datapath
                .end_masqueraded(|_, address| [old, new].contains(&address))
                .expect("ended"),
            0
        );
        assert_eq!(
            world
                .datapath
                .end_masqueraded(|interface, address| (interface, address) == (wan, new))
                .expect("ended"),
            1
        );
        assert_eq!(world.receive(WAN, &udp(server, "10.2.0.1:4000")).reason, NoRule);
        through(world, (LAN, WAN), &udp(client, server), &udp("10.2.0.77:4000", server));
        world.datapath.set_addresses(wan, &[]).expect("set");
        world.receive(LAN, &udp("10.1.0.3:1", server));
        assert_eq!(world.forward(LAN, WAN, &udp("10.1.0.3:1", server)).reason, NatNoAddress);
    });
}

#[test]
fn a_flow_that_is_killed_gives_its_ports_back() {
    let (client, server, outside) = ("10.1.0.2:4000", "192.0.2.1:80", "10.2.0.1:4000");
    let (far, public, inside) = ("192.0.2.9:5", "198.51.100.7:8000", "10.1.0.10:80");
    let rules = format!(
        "  - {{ id: own, from: local, to: wan, action: accept }}{MASQUERADE}{PORT_FORWARD}"
    )
    .replace("from: lan, to: wan, action", "from: [lan, wan], to: [lan, wan], action");
    with_addresses(&rules, |world| {
        through(world, (LAN, WAN), &udp(client, server), &udp(outside, server));
        through(world, (WAN, LAN), &tcp(far, public, SYN), &tcp(far, inside, SYN));
        assert_eq!(world.send(WAN, &udp(outside, server)).reason, NatConflict, "reserved");
        assert_eq!(world.send(WAN, &tcp(public, far, SYN)).reason, NatConflict, "reserved");
        assert_eq!(world.datapath.kill_flows(|_| true).expect("killed"), 2);
        assert_eq!(world.send(WAN, &udp(outside, server)).reason, Sent);
        assert_eq!(world.send(WAN, &tcp(public, far, SYN)).reason, Sent);
    });
}

#[test]
fn a_masqueraded_flow_that_leaves_by_another_interface_ends() {
    let rules = MASQUERADE.replace("to: wan", "to: [wan, lan]");
    with_addresses(&rules, |world| {
        let (client, server) = ("10.1.0.2:4000", "192.0.2.1:80");
        through(world, (LAN, WAN), &udp(client, server), &udp("10.2.0.1:4000", server));
        assert_eq!(world.forward(LAN, LAN, &udp(client, server)).reason, NatRerouted);
        assert_eq!(world.receive(WAN, &udp(server, "10.2.0.1:4000")).reason, NoRule);
    });
}

#[test]
fn a_way_back_that_was_pushed_out_of_the_table_is_made_anew() {
    let rules = format!("{MASQUERADE}{PORT_FORWARD}")
        .replace("from: lan, to: wan, action", "from: [lan, wan], to: [lan, wan], action");
    with_addresses(&rules, |world| {
        let (far, public, inside) = ("192.0.2.9:5", "198.51.100.7:8000", "10.1.0.10:80");
        through(world, (WAN, LAN), &tcp(far, public, SYN), &tcp(far, inside, SYN));
        let answer = segment(inside, far, SYN | ACK, [5_000, 2], 0);
        // Answers keep the flow in the table; nobody asks for what it is reached by.
        for number in 0..3 * limits::OPENING {
            if number % 64 == 0 {
                receive(world, LAN, &answer);
            }
            let client = format!("10.1.{}.{}:4000", 1 + number / 200, 10 + number % 200);
            receive(world, LAN, &tcp(&client, "192.0.2.1:80", SYN));
        }
        let next = segment(far, public, ACK, [2, 5_001], 0);
        assert_eq!(world.receive(WAN, &next).reason, NatRestored);
        through(world, (WAN, LAN), &next, &segment(far, inside, ACK, [2, 5_001], 0));
    });
}

/// Lets a frame in by an interface, without a look at the counters.
fn receive(world: &mut World<'_>, interface: &str, frame: &[u8]) {
    let interface = IfIndex::of(interface).expect("an interface");
    let probe = Probe { hook: Hook::Ingress, interface, received_by: None, frame, repeat: 1 };
    assert_eq!(world.datapath.probe(&probe).expect("run").reason, Forwarded);
}
