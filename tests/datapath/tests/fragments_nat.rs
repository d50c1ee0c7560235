//! Fragments of translated flows: the first one is changed like a whole packet, the others get its address.

use nightgate_abi::Reason::{Forwarded, FragmentUnknown, Local, Rejected, Sent};
use nightgate_datapath_tests::{
    LAN, WAN, World, checksum::summed, fragment::fragments, frame::*, with_world,
};

const RULES: &str = "
  - { id: closed, from: wan, to: lan, destination: 10.1.0.11, action: reject }
  - { id: out, from: [lan, wan], to: [lan, wan, local], action: accept }
nat:
  one_to_one:
    - { id: host, zone: wan, outside: 198.51.100.33, inside: 10.1.0.33 }
    - { id: host6, zone: wan, outside: '2001:db8:51::33', inside: '2001:db8:1::33' }
  destination:
    - { id: web, from: [wan, lan], destination: 198.51.100.7, becomes: 10.1.0.10 }
    - { id: shut, from: wan, destination: 198.51.100.8, becomes: 10.1.0.11 }
    - { id: web6, from: [wan, lan], destination: '2001:db8:51::7', becomes: '2001:db8:1::10' }
  source:
    - { id: hairpin, from: lan, to: lan, becomes: masquerade }
    - { id: hide, from: lan, to: wan, becomes: masquerade }
";

/// Data that takes three fragments of [`SIZE`] bytes.
const LONG: [u8; 3_001] = [7; 3_001];
const SIZE: usize = 1_400;

/// A way through the gateway, what is sent, and what is to arrive.
type Passage<'a> = ((&'a str, &'a str), &'a [u8], &'a [u8]);

#[test]
fn masqueraded_packets_come_and_go_in_fragments() {
    with_addresses(|world| {
        for (client, server, outside) in [
            ("10.1.0.2:4000", "192.0.2.1:80", "10.2.0.1:4000"),
            ("[2001:db8:1::2]:4000", "[2001:db8:9::1]:80", "[2001:db8:2::1]:4000"),
        ] {
            for number in [1, 2] {
                let way = ((LAN, WAN), &*long(client, server), &*long(outside, server));
                through(world, way, number);
                let way = ((WAN, LAN), &*long(server, outside), &*long(server, client));
                through(world, way, number);
            }
        }
        for (client, server, outside, echo) in [
            ("10.1.0.2", "192.0.2.1", "10.2.0.1", [8, 0]),
            ("2001:db8:1::2", "2001:db8:9::1", "2001:db8:2::1", [128, 129]),
        ] {
            let message = |from: &str, to: &str, kind| icmp_data(from, to, kind, 7, &LONG);
            let (sent, arrived) =
                (message(client, server, echo[0]), message(outside, server, echo[0]));
            through(world, ((LAN, WAN), &sent, &arrived), 3);
            let (sent, arrived) =
                (message(server, outside, echo[1]), message(server, client, echo[1]));
            through(world, ((WAN, LAN), &sent, &arrived), 3);
        }
        assert_eq!(packets(world, "hide"), 2 * 6 * 3);
    });
}

#[test]
fn a_taken_port_is_replaced_in_the_first_fragment_only() {
    with_addresses(|world| {
        let server = "192.0.2.1:53";
        through(
            world,
            ((LAN, WAN), &long("10.1.0.2:4000", server), &long("10.2.0.1:4000", server)),
            1,
        );
        let parts = fragments(&summed(long("10.1.0.3:4000", server)), 1, SIZE);
        let sent: Vec<_> = parts.iter().map(|part| carry(world, (LAN, WAN), part)).collect();
        let port = u16::from_be_bytes([sent[0][34], sent[0][35]]);
        assert_ne!(port, 4000);
        let expected = long(&format!("10.2.0.1:{port}"), server);
        // Two hosts behind one address may use one number: the receiver tells them apart no more than in RFC 4963.
        assert_eq!(sent, fragments(&summed(expected), 1, SIZE));
    });
}

#[test]
fn forwards_outside_addresses_and_hairpins_take_fragments() {
    with_addresses(|world| {
        for (client, public, server) in [
            ("192.0.2.9:5000", "198.51.100.7:80", "10.1.0.10:80"),
            ("[2001:db8:9::9]:5000", "[2001:db8:51::7]:80", "[2001:db8:1::10]:80"),
            ("192.0.2.9:5000", "198.51.100.33:80", "10.1.0.33:80"),
            ("[2001:db8:9::9]:5000", "[2001:db8:51::33]:80", "[2001:db8:1::33]:80"),
        ] {
            for number in [1, 2] {
                through(world, ((WAN, LAN), &long(client, public), &long(client, server)), number);
                through(world, ((LAN, WAN), &long(server, client), &long(public, client)), number);
            }
        }
        for (client, public, server, beside) in [
            ("10.1.0.2:5000", "198.51.100.7:81", "10.1.0.10:81", "10.1.0.1:5000"),
            (
                "[2001:db8:1::2]:5000",
                "[2001:db8:51::7]:81",
                "[2001:db8:1::10]:81",
                "[2001:db8:1::1]:5000",
            ),
        ] {
            through(world, ((LAN, LAN), &long(client, public), &long(beside, server)), 3);
            through(world, ((LAN, LAN), &long(server, beside), &long(public, client)), 3);
        }
    });
}

#[test]
fn a_protocol_without_ports_changes_every_fragment_alike() {
    const GRE: u8 = 47;
    with_addresses(|world| {
        for (client, server, outside) in [
            ("10.1.0.2", "192.0.2.1", "10.2.0.1"),
            ("2001:db8:1::2", "2001:db8:9::1", "2001:db8:2::1"),
        ] {
            let whole = |from: &str, to: &str| {
                let [from, to] = [from, to].map(|text| text.parse().expect("an address"));
                ip(from, to, GRE, &LONG)
            };
            through(world, ((LAN, WAN), &whole(client, server), &whole(outside, server)), 1);
            through(world, ((WAN, LAN), &whole(server, outside), &whole(server, client)), 1);
        }
    });
}

#[test]
fn a_rejected_first_fragment_is_answered_and_the_later_ones_are_not_changed() {
    with_addresses(|world| {
        let parts = fragments(&summed(long("192.0.2.9:5", "198.51.100.8:80")), 1, SIZE);
        assert_eq!(world.receive(WAN, &parts[0]).reason, Rejected);
        for part in &parts[1..] {
            let outcome = world.receive(WAN, part);
            assert_eq!((outcome.reason, &outcome.frame), (Rejected, part));
        }
    });
}

#[test]
fn what_is_for_the_gateway_itself_is_not_taken_for_a_translated_packet() {
    with_addresses(|world| {
        let (server, gateway) = ("192.0.2.1:80", "10.2.0.1:4000");
        through(world, ((LAN, WAN), &long("10.1.0.2:4000", server), &long(gateway, server)), 1);
        let parts = fragments(&summed(long(server, "10.2.0.1:4001")), 1, SIZE);
        for part in &parts {
            let outcome = world.receive(WAN, part);
            assert_eq!((outcome.reason, &outcome.frame), (Local, part));
        }
        let unknown = &fragments(&long(server, gateway), 2, SIZE)[1];
        assert_eq!(world.receive(WAN, unknown).reason, FragmentUnknown);
    });
}

fn long(source: &str, destination: &str) -> Vec<u8> {
    datagram(source, destination, &LONG)
}

/// Takes a packet in fragments through the gateway: what leaves is what the packet that is to arrive is in fragments,
/// with every checksum right.
#[track_caller]
fn through(world: &mut World<'_>, (way, sent, arrived): Passage<'_>, number: u16) {
    let parts = fragments(&summed(sent.to_vec()), number, SIZE);
    let expected = fragments(&summed(arrived.to_vec()), number, SIZE);
    assert_eq!(parts.len(), 3);
    for (part, expected) in parts.iter().zip(expected) {
        assert_eq!(carry(world, way, part), expected);
    }
}

/// Takes one frame through.
#[track_caller]
fn carry(world: &mut World<'_>, (from, to): (&str, &str), frame: &[u8]) -> Vec<u8> {
    let inside = world.receive(from, frame);
    assert_eq!(inside.reason, Forwarded);
    let outside = world.forward(from, to, &inside.frame);
    assert_eq!(outside.reason, Sent);
    outside.frame
}

/// A world whose interfaces' addresses the programs know.
fn with_addresses(test: impl FnOnce(&mut World<'_>) + Send) {
    with_world(RULES, |world| {
        world.tell_addresses();
        test(world);
    });
}

fn packets(world: &World<'_>, rule: &str) -> u64 {
    let hits = world.datapath.rule_hits().expect("counters");
    let (_, hits) = hits.into_iter().find(|(id, _)| id.as_str() == rule).expect("a rule");
    hits.counter.packets
}
