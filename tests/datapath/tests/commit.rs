//! Commits: all or nothing, for every packet.

use std::{
    io::ErrorKind,
    net::{TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nightgate_abi::Reason::{self, Forwarded, Local, NoRule, UnknownInterface, UnknownZone};
use nightgate_config::parse;
use nightgate_datapath::DatapathError;
use nightgate_datapath_tests::{LAN, PLAIN, WAN, World, frame::*, with_world};
use nightgate_lab::Namespace;
use nightgate_ruleset::{MapImage, ZoneName, compile};
use tcp_flags::SYN;

/// How often the rules are replaced under traffic.
const COMMITS: usize = 100;

/// Two rule sets that say the same of `lan` and `wan`, but number them differently: a packet that is judged by
/// the interfaces of one and the rules of the other finds `wan` accepted or `lan` in no rule.
#[test]
fn no_packet_is_judged_by_half_of_a_rule_set() {
    with_world(" []", |world| {
        let few = image("");
        let many = image("  first: { interfaces: [none0] }\n");
        assert_ne!(few.zones()[&zone("lan")], many.zones()[&zone("lan")]);
        assert_eq!(few.zones()[&zone("wan")], many.zones()[&zone("lan")]);
        world.datapath.commit(&few).expect("commit");

        let (lan, wan) = (far_side(world, LAN, 1), far_side(world, WAN, 2));
        let accepted = UdpSocket::bind("0.0.0.0:7001").expect("bound");
        let refused = UdpSocket::bind("0.0.0.0:7002").expect("bound");
        refused.set_nonblocking(true).expect("set");
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let lan = scope.spawn(|| flood(&lan, "10.1.0.1:7001", &is_over));
            let wan = scope.spawn(|| flood(&wan, "10.2.0.1:7002", &is_over));
            wait_for_traffic(world);
            for round in 0..COMMITS {
                let image = if round % 2 == 0 { &many } else { &few };
                world.datapath.commit(image).expect("commit");
            }
            is_over.store(true, Ordering::Relaxed);
            for sent in [lan, wan].map(|sender| sender.join().expect("no panic")) {
                assert!(sent > COMMITS, "{sent} packets");
            }
        });

        for reason in [NoRule, UnknownZone, UnknownInterface] {
            assert_eq!(count(world, reason), 0, "{reason}");
        }
        assert!(count(world, Local) > COMMITS as u64);
        assert!(count(world, Reason::Rule) > COMMITS as u64);
        accepted.recv(&mut [0; 16]).expect("a datagram from the LAN");
        let error = refused.recv(&mut [0; 16]).expect_err("nothing from the WAN");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_commit_that_fails_leaves_the_old_rules_in_force() {
    with_world("- { id: all, from: lan, to: wan, action: accept }", |world| {
        world.datapath.attach(PLAIN, &zone("guest")).expect("attach");
        assert_eq!(world.receive(PLAIN, &arp()).reason, UnknownInterface, "not in the rule set");
        let error = world.datapath.commit(&image("")).expect_err("zone guest is missing");
        assert!(matches!(error, DatapathError::UnknownZone { .. }), "{error}");
        assert!(error.to_string().contains("guest"), "{error}");
        let syn = tcp("10.1.0.2:1", "192.0.2.1:80", SYN);
        assert_eq!(world.receive(LAN, &syn).reason, Forwarded);
    });
}

#[test]
fn an_interface_is_attached_once_and_carries_everything_when_detached() {
    with_world(" []", |world| {
        let error = world.datapath.attach(LAN, &zone("lan")).expect_err("attached");
        assert!(matches!(error, DatapathError::Attached { .. }), "{error}");
        let error = world.datapath.attach("none0", &zone("lan")).expect_err("no such interface");
        assert!(error.to_string().contains("none0"), "{error}");

        let client = far_side(world, LAN, 1);
        let listener = TcpListener::bind("10.1.0.1:7003").expect("bound");
        let address = listener.local_addr().expect("bound");
        let reaches = || {
            let patience = Duration::from_millis(500);
            client
                .enter(|| TcpStream::connect_timeout(&address, patience).is_ok())
                .expect("entered")
        };
        assert!(!reaches(), "refused");
        let index = nightgate_datapath::IfIndex::of(LAN).expect("an interface");
        world.datapath.detach(index).expect("detach");
        assert!(reaches(), "carried");
        world.datapath.attach(LAN, &zone("lan")).expect("attach");
        assert!(!reaches(), "refused again");
    });
}

/// The zones of the world and some more, and rules that accept from the LAN and refuse from the WAN.
fn image(more_zones: &str) -> MapImage {
    let text = format!(
        "version: 1\nrouter: {{ identity: gw.json }}\nzones:\n{more_zones}  lan: {{ interfaces: [{LAN}] }}\n  \
         wan: {{ interfaces: [{WAN}] }}\nrules:\n\
         - {{ id: noise, from: [lan, wan, local], to: [lan, wan, local], protocol: icmpv6, action: drop }}\n\
         - {{ id: lan, from: lan, to: local, protocol: udp, action: accept }}\n\
         - {{ id: wan, from: wan, to: local, protocol: udp, action: drop }}\n"
    );
    let config = parse(&text, "rules.yaml").expect("good rules");
    compile(&config.gateway.expect("a gateway")).expect("within the limits").image()
}

/// Moves the far end of an interface into a namespace of its own, with host 9 of its network.
fn far_side(world: &World<'_>, interface: &str, network: u8) -> Namespace {
    let namespace = Namespace::new(interface).expect("a namespace");
    let far = format!("{interface}-far");
    world.namespace.ip(&format!("link set {far} netns {}", namespace.name())).expect("moved");
    namespace.ip(&format!("link set {far} up")).expect("up");
    namespace.add_address(&far, &format!("10.{network}.0.9/24")).expect("an address");
    namespace
}

/// Sends datagrams, each from a port of its own, until told to stop; returns how many.
fn flood(namespace: &Namespace, to: &str, is_over: &AtomicBool) -> usize {
    let send = || {
        let mut sent = 0;
        while !is_over.load(Ordering::Relaxed) {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
            sent += usize::from(socket.send_to(b"x", to).is_ok());
        }
        sent
    };
    namespace.enter(send).expect("entered")
}

fn wait_for_traffic(world: &World<'_>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while count(world, Local) == 0 || count(world, Reason::Rule) == 0 {
        assert!(Instant::now() < deadline, "no traffic");
        thread::sleep(Duration::from_millis(10));
    }
}

fn zone(name: &str) -> ZoneName {
    ZoneName::new(name).expect("a zone's name")
}

fn count(world: &World<'_>, reason: Reason) -> u64 {
    world.datapath.statistics().expect("statistics").get(reason).packets
}
