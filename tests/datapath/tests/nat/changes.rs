//! What becomes of translated flows when something else changes.

use nightgate_abi::Reason::{NatConflict, NatNoAddress, NatRerouted, NoRule, Rule, Sent};
use nightgate_datapath::IfIndex;
use nightgate_datapath_tests::{LAN, WAN, checksum::summed, frame::*};
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
