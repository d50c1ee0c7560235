//! Bounds of the segments that forwarded TCP connections agree on.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use nightgate_abi::Reason::{Forwarded, Sent};
use nightgate_config::ClampMss::{self, Auto, Bytes};
use nightgate_datapath_tests::{
    LAN, WAN, World,
    checksum::summed,
    frame::*,
    gateway,
    hosts::{Hosts, SERVER},
    with_uncommitted_world,
};
use nightgate_ruleset::compile;
use socket2::SockRef;
use tcp_flags::{ACK, SYN};

const PLAIN: &str = "
  - { id: out, from: [lan, local], to: [wan, lan], action: accept }
";
const MASQUERADED: &str = "
  - { id: out, from: [lan, local], to: wan, action: accept }
nat:
  source:
    - { id: hide, from: lan, to: wan, becomes: masquerade }
";
/// A client, a server, and the gateway outside.
const FAMILIES: [[&str; 3]; 2] = [
    ["10.1.0.2:4000", "192.0.2.1:80", "10.2.0.1:4000"],
    ["[2001:db8:1::2]:4000", "[2001:db8:9::1]:80", "[2001:db8:2::1]:4000"],
];
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn segments_are_bound_in_both_directions_by_either_zone() {
    with_uncommitted_world(|world| {
        for bounds in [[None, Some(Bytes(1_000))], [Some(Bytes(1_000)), Some(Bytes(1_200))]] {
            commit(world, PLAIN, bounds);
            for [client, server, _] in FAMILIES {
                for (announced, expected) in
                    [(1_460, 1_000), (1_001, 1_000), (1_000, 1_000), (536, 536)]
                {
                    let there = |size| syn(client, server, SYN, &option(size));
                    assert_eq!(through(world, (LAN, WAN), &there(announced)), there(expected));
                    let back = |size| syn(server, client, SYN | ACK, &option(size));
                    assert_eq!(through(world, (WAN, LAN), &back(announced)), back(expected));
                }
            }
        }
    });
}

#[test]
fn the_option_is_found_wherever_it_is_and_checksums_stay_true() {
    with_uncommitted_world(|world| {
        commit(world, PLAIN, [None, Some(Bytes(0x0123))]);
        for [client, server, _] in FAMILIES {
            for before in 0..5 {
                let options = |size| [vec![1; before], option(size), vec![1; 8 - before]].concat();
                let there = |size| syn(client, server, SYN, &options(size));
                assert_eq!(through(world, (LAN, WAN), &there(0xfedc)), there(0x0123), "{before}");
            }
        }
    });
}

#[test]
fn what_announces_nothing_or_is_not_forwarded_stays_as_it_is() {
    with_uncommitted_world(|world| {
        commit(world, PLAIN, [None, Some(Bytes(1_000))]);
        for [client, server, own] in FAMILIES {
            let large = option(1_460);
            for frame in [
                syn(client, server, SYN, &[]),
                syn(client, server, SYN, &[1, 1, 1, 0]),
                syn(client, server, SYN, &[2, 3, 255, 1]),
                syn(client, server, ACK, &large),
            ] {
                assert_eq!(through(world, (LAN, WAN), &frame), summed(frame.clone()));
            }
            let own = summed(syn(own, server, SYN, &large));
            assert_eq!(world.send(WAN, &own).frame, own, "the stack knows its routes");
            let beside =
                summed(syn(client, &client.replace("2]", "3]").replace("0.2", "0.3"), SYN, &large));
            assert_eq!(through(world, (LAN, LAN), &beside), beside, "not by that zone");
        }
    });
}

#[test]
fn routes_of_both_directions_bind_segments() {
    with_uncommitted_world(|world| {
        commit(world, PLAIN, [None, Some(Auto)]);
        let bound = |world: &mut World<'_>, expected: [u16; 2]| {
            for ([client, server, _], expected) in FAMILIES.into_iter().zip(expected) {
                let there = |size| syn(client, server, SYN, &option(size));
                assert_eq!(through(world, (LAN, WAN), &there(9_000)), summed(there(expected)));
                let back = |size| syn(server, client, SYN | ACK, &option(size));
                assert_eq!(through(world, (WAN, LAN), &back(9_000)), summed(back(expected)));
            }
        };
        bound(world, [1_460, 1_440]);
        world.namespace.ip(&format!("link set {WAN} mtu 1400")).expect("set");
        bound(world, [1_360, 1_340]);
        // Of a route, the MTU holds for forwarded packets if it is locked.
        for line in [
            "route add 192.0.2.0/24 via 10.2.0.254 mtu lock 1300",
            "-6 route add 2001:db8:9::/64 via 2001:db8:2::fe mtu lock 1290",
        ] {
            world.namespace.ip(line).expect("a route");
        }
        bound(world, [1_260, 1_230]);
        for line in [
            "route add 10.1.0.2/32 dev lan0 mtu lock 1200",
            "-6 route add 2001:db8:1::2/128 dev lan0 mtu lock 1280",
        ] {
            world.namespace.ip(line).expect("a route");
        }
        bound(world, [1_160, 1_220]);
        // The lower one of routes and a number.
        commit(world, PLAIN, [Some(Bytes(1_200)), Some(Auto)]);
        bound(world, [1_160, 1_200]);
    });
}

#[test]
fn translated_connections_are_bound_as_well() {
    with_uncommitted_world(|world| {
        commit(world, MASQUERADED, [None, Some(Auto)]);
        world.tell_addresses();
        world.namespace.ip(&format!("link set {WAN} mtu 1400")).expect("set");
        for ([client, server, outside], expected) in FAMILIES.into_iter().zip([1_360, 1_340]) {
            let sent = syn(client, server, SYN, &option(1_460));
            let arrived = summed(syn(outside, server, SYN, &option(expected)));
            assert_eq!(through(world, (LAN, WAN), &sent), arrived);
            let sent = syn(server, outside, SYN | ACK, &option(1_460));
            let arrived = summed(syn(server, client, SYN | ACK, &option(expected)));
            assert_eq!(through(world, (WAN, LAN), &sent), arrived);
        }
    });
}

#[test]
fn connections_work_where_no_error_tells_of_the_way() {
    with_uncommitted_world(|world| {
        commit(world, PLAIN, [None, Some(Auto)]);
        let hosts = Hosts::new(world);
        world.namespace.ip(&format!("link set {WAN} mtu 1300")).expect("set");
        hosts.router.ip(&format!("link set {WAN}-far mtu 1300")).expect("set");
        for host in [&hosts.client, &hosts.server] {
            for line in [
                "add table inet deaf",
                "add chain inet deaf input { type filter hook input priority 0; }",
                "add rule inet deaf input icmp type destination-unreachable drop",
                "add rule inet deaf input icmpv6 type packet-too-big drop",
            ] {
                host.shell(&format!("nft {line}")).expect("a rule");
            }
        }
        for (server, most) in SERVER.into_iter().zip([1_260, 1_240]) {
            let server = SocketAddr::new(server.parse().expect("an address"), 7_000);
            transfer(&hosts, &server, most);
        }
    });
}

/// Sends a load each way over a connection whose segments have at most so many bytes.
fn transfer(hosts: &Hosts, server: &SocketAddr, most: u32) {
    const LOAD: usize = 100_000;
    let bind = || TcpListener::bind(server).expect("bound");
    let listener = hosts.server.enter(bind).expect("entered");
    let exchange = |mut stream: &TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        assert!(SockRef::from(stream).tcp_mss().expect("a size") <= most);
        stream.write_all(&vec![7; LOAD]).expect("sent");
        let mut load = vec![0; LOAD];
        stream.read_exact(&mut load).expect("received");
    };
    thread::scope(|scope| {
        scope.spawn(|| exchange(&listener.accept().expect("accepted").0));
        let connect = || TcpStream::connect_timeout(server, PATIENCE).expect("connected");
        exchange(&hosts.client.enter(connect).expect("entered"));
    });
}

/// Puts rules in force, with bounds of `lan` and `wan`.
fn commit(world: &mut World<'_>, rules: &str, bounds: [Option<ClampMss>; 2]) {
    let mut gateway = gateway(rules).expect("a configuration");
    for (zone, bound) in gateway.zones.values_mut().zip(bounds) {
        zone.clamp_mss = bound;
    }
    world.rules = compile(&gateway).expect("within the limits");
    world.datapath.commit(&world.rules.image()).expect("commit");
}

/// Forwards a packet: what leaves.
#[track_caller]
fn through(world: &mut World<'_>, (from, to): (&str, &str), frame: &[u8]) -> Vec<u8> {
    let inside = world.receive(from, &summed(frame.to_vec()));
    assert_eq!(inside.reason, Forwarded);
    let outside = world.forward(from, to, &inside.frame);
    assert_eq!(outside.reason, Sent);
    outside.frame
}

/// The option that announces a maximum segment size.
fn option(size: u16) -> Vec<u8> {
    let [high, low] = size.to_be_bytes();
    vec![2, 4, high, low]
}

/// A segment with options, with its checksums.
fn syn(source: &str, destination: &str, flags: u8, options: &[u8]) -> Vec<u8> {
    let bare =
        segment(source, destination, flags, [1, u32::from(flags & ACK != 0) * 2], options.len());
    let transport = bare.len() - 20 - options.len();
    let words = u8::try_from(5 + options.len() / 4).expect("few options");
    let whole = patched(bare, transport + 12, &[words << 4]);
    summed(patched(whole, transport + 20, options))
}
