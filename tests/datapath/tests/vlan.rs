//! VLANs on interfaces of zones, on a wire with real tags.
//!
//! Tests with VLAN devices need a kernel that has them: `cargo test -p nightgate-datapath-tests --test vlan -- --ignored`.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    time::Duration,
};

use nightgate_abi::Reason::{self, NoRule, UnknownVlan, Vlan};
use nightgate_datapath::IfIndex;
use nightgate_datapath_tests::{
    LAN, PLAIN, World,
    frame::{tagged, udp},
    with_world,
};
use nightgate_lab::{Namespace, until};
use nightgate_ruleset::ZoneName;
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{MsgFlags, sendto},
};
use socket2::{Domain, Socket, Type};

/// Only what comes by an interface of zone `wan` may connect.
const RULES: &str =
    "- { id: open, from: wan, to: local, protocol: tcp, destination_ports: [82], action: accept }";
/// A connection that is refused silently is waited for this long.
const SILENCE: Duration = Duration::from_millis(300);
/// One that is accepted may take this long.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs a kernel with CONFIG_VLAN_8021Q"]
fn a_vlan_is_judged_once_by_the_zone_of_its_device() {
    with_client(|world, client| {
        tag(world, client, LAN, "v10", "802.1Q", 10);
        attach(world, "v10");
        assert!(reaches(client, "10.10.0.1", PATIENCE));
        assert!(reaches(client, "[2001:db8:10::1]", PATIENCE));
        assert!(!reaches(client, "10.1.0.1", SILENCE), "untagged frames are in zone lan");
        assert!(count(world, Vlan) >= 6, "the carrier lets both directions pass");
        assert_eq!(count(world, UnknownVlan), 0);
        // What comes in is judged in zone wan, and only there.
        let hits = world.datapath.rule_hits().expect("hits");
        assert!(hits[0].1.counter.packets >= 6, "{hits:?}");
    });
}

#[test]
#[ignore = "needs a kernel with CONFIG_VLAN_8021Q"]
fn a_vlan_without_a_device_in_a_zone_is_refused() {
    with_client(|world, client| {
        tag(world, client, LAN, "v20", "802.1Q", 20);
        assert!(!reaches(client, "10.20.0.1", SILENCE));
        assert!(count(world, UnknownVlan) > 0);

        attach(world, "v20");
        assert!(reaches(client, "10.20.0.1", PATIENCE));
        let index = IfIndex::of("v20").expect("the device");
        world.datapath.detach(index).expect("detached");
        assert!(
            !reaches(client, "10.20.0.1", SILENCE),
            "open without a firewall, were it not refused"
        );
    });
}

#[test]
#[ignore = "needs a kernel with CONFIG_VLAN_8021Q"]
fn tags_in_tags_are_judged_by_the_innermost_device() {
    with_client(|world, client| {
        tag(world, client, LAN, "v30", "802.1ad", 30);
        tag(world, client, "v30", "v40", "802.1Q", 40);
        attach(world, "v40");
        assert!(!reaches(client, "10.40.0.1", SILENCE), "the outer device is in no zone");
        attach(world, "v30");
        assert!(reaches(client, "10.40.0.1", PATIENCE));
        assert!(reaches(client, "[2001:db8:40::1]", PATIENCE));
        assert!(reaches(client, "10.30.0.1", PATIENCE), "one tag");
    });
}

#[test]
fn tagged_frames_pass_to_a_device_in_a_zone_and_nowhere_else() {
    with_client(|world, client| {
        let carrier = IfIndex::of(LAN).expect("the carrier");
        let device = IfIndex::of(PLAIN).expect("an interface in the place of the VLAN's device");
        let packet = udp("10.1.0.2:5000", "10.1.0.1:9");
        let frames = [
            ("a VLAN", tagged(0x8100, 10, &packet)),
            ("with a priority", tagged(0x8100, 0xe00a, &packet)),
            ("tags in tags", tagged(0x88a8, 10, &tagged(0x8100, 20, &packet))),
        ];
        for (name, frame) in &frames {
            send(world, client, frame, UnknownVlan, name);
        }
        world.datapath.carry_vlan(carrier, 10, device).expect("carried");
        for (name, frame) in &frames {
            send(world, client, frame, Vlan, name);
        }
        send(world, client, &tagged(0x8100, 11, &packet), UnknownVlan, "another VLAN");
        send(world, client, &tagged(0x8100, 0xe000, &packet), NoRule, "a priority alone");
    });
}

/// Sends a frame on the client's wire, and waits until it is counted.
fn send(world: &World<'_>, client: &Namespace, frame: &[u8], reason: Reason, name: &str) {
    let before = count(world, reason);
    let sent = client.enter(|| {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).expect("a socket");
        let address = getifaddrs().expect("addresses").find_map(|interface| {
            let is_wanted = interface.interface_name == LAN;
            interface.address.filter(|_| is_wanted)?.as_link_addr().copied()
        });
        let address = address.expect("the interface's link address");
        sendto(socket.as_raw_fd(), frame, &address, MsgFlags::empty()).expect("sent")
    });
    assert_eq!(sent.expect("entered"), frame.len());
    until(name, PATIENCE, || Ok((count(world, reason) > before).then_some(()))).expect(name);
}

/// Makes a gateway and a client behind its `lan`.
fn with_client(test: impl FnOnce(&mut World<'_>, &Namespace) + Send) {
    let client = Namespace::new("client").expect("a namespace");
    with_world(RULES, |world| {
        let far = format!("{LAN}-far");
        world.namespace.ip(&format!("link set {far} netns {}", client.name())).expect("moved");
        client.ip(&format!("link set {far} name {LAN} up")).expect("up");
        client.add_address(LAN, "10.1.0.2/24").expect("an address");
        test(world, &client);
    });
}

/// Makes a VLAN's device at both ends, with addresses that hold its number.
fn tag(world: &World<'_>, client: &Namespace, carrier: &str, name: &str, protocol: &str, id: u16) {
    for (namespace, host) in [(world.namespace, 1), (client, 2)] {
        let device =
            format!("link add link {carrier} name {name} type vlan proto {protocol} id {id}");
        namespace.ip(&device).expect("a VLAN device");
        namespace.ip(&format!("link set {name} up")).expect("up");
        namespace.add_address(name, &format!("10.{id}.0.{host}/24")).expect("an address");
        namespace.add_address(name, &format!("2001:db8:{id}::{host}/64")).expect("an address");
    }
}

fn attach(world: &mut World<'_>, interface: &str) {
    let zone = ZoneName::new("wan").expect("a zone's name");
    world.datapath.attach(interface, &zone).expect("attached");
    world.commit(RULES);
}

fn reaches(client: &Namespace, host: &str, patience: Duration) -> bool {
    let server: SocketAddr = format!("{host}:82").parse().expect("an address");
    let _listener = TcpListener::bind(server).expect("bound");
    client.enter(|| TcpStream::connect_timeout(&server, patience).is_ok()).expect("entered")
}

fn count(world: &World<'_>, reason: Reason) -> u64 {
    world.datapath.statistics().expect("statistics").get(reason).packets
}
