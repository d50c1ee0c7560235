//! What routers say about translated flows reaches real sockets: path MTU discovery and traceroute through address
//! translation.

use std::{
    io::IoSliceMut,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    time::Duration,
};

use nightgate_datapath_tests::{
    LAN,
    hosts::{GATEWAY, Hosts, ROUTER, SERVER},
    with_world,
};
use nightgate_lab::{Namespace, until};
use nix::{
    cmsg_space, libc,
    sys::socket::{
        ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
        sockopt::{Ipv4RecvErr, Ipv4Ttl, Ipv6RecvErr, Ipv6Ttl},
    },
};

/// The client appears as the gateway, and is reached from outside by [`PUBLIC`].
const RULES: &str = "
  - { id: all, from: [lan, wan], to: [lan, wan], action: accept }
nat:
  destination:
    - { id: client, from: wan, destination: 198.51.100.7, becomes: 10.1.0.9 }
    - { id: client6, from: wan, destination: '2001:db8:51::7', becomes: '2001:db8:1::9' }
  source:
    - { id: hide, from: lan, to: wan, becomes: masquerade }
";
const PUBLIC: [&str; 2] = ["198.51.100.7", "2001:db8:51::7"];
/// Whom the server takes the client for.
const OUTSIDE: [&str; 2] = ["10.2.0.1", "2001:db8:2::1"];
const SMALL_MTU: usize = 1300;
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_hidden_sender_learns_of_a_smaller_mtu_by_tcp_and_by_udp() {
    with_hosts(|_, hosts| {
        // The server's own link is as wide as ever, so that its first segment says nothing.
        hosts.router.ip(&format!("link set down0 mtu {SMALL_MTU}")).expect("set");
        for (server, outside) in SERVER.into_iter().zip(OUTSIDE) {
            let seen = hosts.transfer(SocketAddr::new(ip(server), 7100));
            assert_eq!(seen, ip(outside), "hidden");
            wait_for_mtu(&hosts.client, server, || {});
        }
        for family in ["-4", "-6"] {
            hosts.client.ip(&format!("{family} route flush cache")).expect("forgotten");
        }
        for server in SERVER {
            assert!(!knows_mtu(&hosts.client, server), "forgotten");
            let socket = datagrams(&hosts.client, server);
            wait_for_mtu(&hosts.client, server, || _ = socket.send(&[7; 1400]));
        }
    });
}

#[test]
fn a_sender_outside_learns_of_a_smaller_mtu_behind_a_translated_address() {
    with_hosts(|gateway, hosts| {
        gateway.ip(&format!("link set {LAN} mtu {SMALL_MTU}")).expect("set");
        for public in PUBLIC {
            let socket = datagrams(&hosts.server, public);
            wait_for_mtu(&hosts.server, public, || _ = socket.send(&[7; 1400]));
        }
    });
}

#[test]
fn routers_on_the_way_are_seen_through_translation() {
    with_hosts(|_, hosts| {
        for family in 0..2 {
            let hops = [GATEWAY[family], ROUTER[family], SERVER[family]].map(ip);
            assert_eq!(trace(&hosts.client, SERVER[family]), hops, "from inside");
            let first = ["10.3.0.1", "2001:db8:3::1"];
            let hops = [first[family], OUTSIDE[family], PUBLIC[family]].map(ip);
            assert_eq!(trace(&hosts.server, PUBLIC[family]), hops, "from outside");
        }
    });
}

/// Sends a datagram for each distance, and returns who says that it has come no further.
fn trace(from: &Namespace, to: &str) -> [IpAddr; 3] {
    let socket = datagrams(from, to);
    [1, 2, 3].map(|distance| {
        if ip(to).is_ipv4() {
            setsockopt(&socket, Ipv4Ttl, &distance).expect("set");
            setsockopt(&socket, Ipv4RecvErr, &true).expect("set");
        } else {
            setsockopt(&socket, Ipv6Ttl, &distance).expect("set");
            setsockopt(&socket, Ipv6RecvErr, &true).expect("set");
        }
        socket.send(b"how far?").expect("sent");
        until("an error from the way", PATIENCE, || Ok(reporter(&socket))).expect("told")
    })
}

/// Who has sent an ICMP error about one of a socket's datagrams, which the kernel has found to be one.
fn reporter(socket: &UdpSocket) -> Option<IpAddr> {
    let mut payload = [0; 64];
    let mut buffers = [IoSliceMut::new(&mut payload)];
    let mut space = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut buffers, Some(&mut space), flags);
    message.ok()?.cmsgs().ok()?.find_map(|message| {
        if let ControlMessageOwned::Ipv4RecvErr(_, from) = message {
            from.map(|from| IpAddr::from(from.sin_addr.s_addr.to_ne_bytes()))
        } else if let ControlMessageOwned::Ipv6RecvErr(_, from) = message {
            from.map(|from| IpAddr::from(from.sin6_addr.s6_addr))
        } else {
            None
        }
    })
}

/// Repeats something until a host knows that packets to another may have [`SMALL_MTU`] bytes at most.
fn wait_for_mtu(host: &Namespace, to: &str, mut repeat: impl FnMut()) {
    until("the route's MTU", PATIENCE, || {
        repeat();
        Ok(knows_mtu(host, to).then_some(()))
    })
    .expect("learnt");
}

fn knows_mtu(host: &Namespace, to: &str) -> bool {
    let route = host.ip(&format!("route get {to}")).expect("a route");
    route.contains(&format!("mtu {SMALL_MTU}"))
}

/// A socket of a host for datagrams to a closed port of another. They are not fragmented on their way.
fn datagrams(from: &Namespace, to: &str) -> UdpSocket {
    let connect = || {
        let any = if ip(to).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).expect("bound");
        socket.connect(SocketAddr::new(ip(to), 33_434)).expect("connected");
        socket
    };
    from.enter(connect).expect("entered")
}

/// Calls a function with a gateway between hosts, which the programs know the addresses of.
fn with_hosts(test: impl FnOnce(&Namespace, &Hosts) + Send) {
    with_world(RULES, |world| {
        world.tell_addresses();
        let hosts = Hosts::new(world);
        test(world.namespace, &hosts);
    });
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
