//! Destinations: port forwards, hairpin and 1:1.

use nightgate_abi::Reason::{NatConflict, NoRule};
use nightgate_datapath_tests::{LAN, WAN, frame::*};
use tcp_flags::{ACK, FIN, SYN};

use crate::support::{FORWARD, flows, only_flow, packets, shown, through, with_addresses};

#[test]
fn forwarded_ports_keep_their_place_in_the_range() {
    with_addresses(FORWARD, |world| {
        let client = "192.0.2.9:5000";
        for offset in [0, 9] {
            let (public, server) =
                (format!("198.51.100.7:{}", 8000 + offset), format!("10.1.0.10:{}", 80 + offset));
            for flags in [SYN, ACK] {
                through(
                    world,
                    (WAN, LAN),
                    &tcp(client, &public, flags),
                    &tcp(client, &server, flags),
                );
                through(world, (LAN, WAN), &tcp(&server, client, ACK), &tcp(&public, client, ACK));
            }
        }
        let (client, public, server) =
            ("[2001:db8:9::1]:5000", "[2001:db8:51::7]:443", "[2001:db8:1::10]:443");
        through(world, (WAN, LAN), &tcp(client, public, SYN), &tcp(client, server, SYN));
        through(
            world,
            (LAN, WAN),
            &tcp(server, client, SYN | ACK),
            &tcp(public, client, SYN | ACK),
        );
        assert_eq!((packets(world, "web"), packets(world, "web6")), (8, 2));
        assert_eq!(
            world.receive(WAN, &tcp("192.0.2.9:5000", "198.51.100.7:8010", SYN)).reason,
            NoRule
        );
        let flow =
            flows(world).into_iter().find(|flow| flow.origin.address.is_ipv6()).expect("a flow");
        assert_eq!(flow.responder.address.to_string(), server);
        assert_eq!(shown(&flow), [None, Some(public.to_owned())]);
    });
}

#[test]
fn a_client_beside_the_server_reaches_it_by_its_public_address() {
    for (client, public, server, outside) in [
        ("10.1.0.2:5000", "198.51.100.7:8000", "10.1.0.10:80", "10.1.0.1:5000"),
        (
            "[2001:db8:1::2]:5000",
            "[2001:db8:51::7]:80",
            "[2001:db8:1::10]:80",
            "[2001:db8:1::1]:5000",
        ),
    ] {
        with_addresses(FORWARD, |world| {
            for flags in [SYN, ACK, ACK | FIN] {
                through(
                    world,
                    (LAN, LAN),
                    &tcp(client, public, flags),
                    &tcp(outside, server, flags),
                );
                through(world, (LAN, LAN), &tcp(server, outside, ACK), &tcp(public, client, ACK));
            }
            assert_eq!(
                shown(&only_flow(world)),
                [Some(outside.to_owned()), Some(public.to_owned())]
            );
        });
    }
}

#[test]
fn filter_rules_see_the_new_destination_and_the_old_source() {
    let rules = FORWARD.replace(
        "from: [wan, lan], to: lan, action",
        "from: wan, to: lan, source: 192.0.2.0/24, destination: 10.1.0.10, action",
    );
    with_addresses(&rules, |world| {
        through(
            world,
            (WAN, LAN),
            &tcp("192.0.2.9:5", "198.51.100.7:8000", SYN),
            &tcp("192.0.2.9:5", "10.1.0.10:80", SYN),
        );
        assert_eq!(
            world.receive(WAN, &tcp("203.0.113.9:5", "198.51.100.7:8000", SYN)).reason,
            NoRule
        );
        // Nothing is left of what was refused.
        assert_eq!(flows(world).len(), 1);
    });
}

#[test]
fn one_to_one_hosts_are_reached_and_appear_by_their_outside_address() {
    let rules = "
  - { id: all, from: [lan, wan], to: [lan, wan], action: accept }
nat:
  one_to_one:
    - { id: dmz, zone: wan, outside: 203.0.113.16/28, inside: 10.1.0.16/28 }
    - { id: dmz6, zone: wan, outside: '2001:db8:71::/64', inside: '2001:db8:1::/64' }
";
    with_addresses(rules, |world| {
        for (inside, outside, far) in [
            ("10.1.0.21:22", "203.0.113.21:22", "192.0.2.1:900"),
            ("[2001:db8:1::5]:22", "[2001:db8:71::5]:22", "[2001:db8:9::1]:900"),
        ] {
            through(world, (WAN, LAN), &tcp(far, outside, SYN), &tcp(far, inside, SYN));
            through(world, (LAN, WAN), &tcp(inside, far, ACK), &tcp(outside, far, ACK));
            let (inside, outside) = (inside.replace(":22", ":77"), outside.replace(":22", ":77"));
            through(world, (LAN, WAN), &udp(&inside, far), &udp(&outside, far));
            through(world, (WAN, LAN), &udp(far, &outside), &udp(far, &inside));
        }
        assert_eq!((packets(world, "dmz"), packets(world, "dmz6")), (4, 4));
    });
}

#[test]
fn two_ways_to_one_server_are_not_mistaken_for_each_other() {
    let rules = FORWARD.replace("destination_ports: 8000-8009, becomes: 10.1.0.10, becomes_ports: 80-89", "destination_ports: [8000, 9000], becomes: 10.1.0.10")
        .replace("    - { id: web6", "    - { id: other, from: wan, destination: 198.51.100.8, becomes: 10.1.0.10 }\n    - { id: web6");
    with_addresses(&rules, |world| {
        let client = "192.0.2.9:5000";
        through(
            world,
            (WAN, LAN),
            &tcp(client, "198.51.100.7:8000", SYN),
            &tcp(client, "10.1.0.10:8000", SYN),
        );
        assert_eq!(world.receive(WAN, &tcp(client, "198.51.100.8:8000", SYN)).reason, NatConflict);
    });
}
