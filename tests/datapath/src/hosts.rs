//! Hosts on both sides of the gateway.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use nightgate_lab::{Namespace, veth};

use crate::{LAN, WAN, World};

/// How long a socket waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a transfer.
const BULK: usize = 4 << 20;

/// A client, and a router behind which a server is.
///
/// ```text
/// client (10.1.0.9) -- lan0 gateway wan0 -- (10.2.0.254) router -- server (10.3.0.9)
/// ```
/// IPv6 is alike: 2001:db8:1::9, 2001:db8:2::fe, 2001:db8:3::9.
#[derive(Debug)]
pub struct Hosts {
    /// Interface `lan0-far`.
    pub client: Namespace,
    /// Interfaces `wan0-far` and `down0`.
    pub router: Namespace,
    /// Interface `up0`.
    pub server: Namespace,
}

/// The client.
pub const CLIENT: [&str; 2] = ["10.1.0.9", "2001:db8:1::9"];
/// The server.
pub const SERVER: [&str; 2] = ["10.3.0.9", "2001:db8:3::9"];
/// The gateway, towards the client.
pub const GATEWAY: [&str; 2] = ["10.1.0.1", "2001:db8:1::1"];
/// The router, towards the gateway.
pub const ROUTER: [&str; 2] = ["10.2.0.254", "2001:db8:2::fe"];

impl Hosts {
    /// Moves the far ends of the world's interfaces into namespaces of hosts.
    pub fn new(world: &World<'_>) -> Self {
        let [client, router, server] =
            ["client", "router", "server"].map(|role| Namespace::new(role).expect("a namespace"));
        for interface in ["all", LAN, WAN] {
            let parameter = format!("net/ipv4/conf/{interface}/rp_filter");
            world.namespace.set(&parameter, "0").expect("set");
        }
        for (interface, host) in [(LAN, &client), (WAN, &router)] {
            let line = format!("link set {interface}-far netns {}", host.name());
            world.namespace.ip(&line).expect("moved");
            host.ip(&format!("link set {interface}-far up")).expect("up");
        }
        veth((&router, "down0"), (&server, "up0")).expect("a link");
        let own = Self { client, router, server };
        own.addresses();
        for network in ["10.3.0.0/24", "2001:db8:3::/64"] {
            let router = ROUTER[usize::from(network.contains(':'))];
            world.namespace.add_route(network, router).expect("a route");
        }
        own
    }

    /// Sends a lot from the client to the server by TCP, and returns whom the server has seen.
    pub fn transfer(&self, server: SocketAddr) -> IpAddr {
        let bind = || TcpListener::bind(server).expect("bound");
        let listener = self.server.enter(bind).expect("entered");
        let receive = move || {
            let (mut stream, peer) = listener.accept().expect("accepted");
            stream.set_read_timeout(Some(PATIENCE)).expect("set");
            let mut received = Vec::new();
            stream.read_to_end(&mut received).expect("received");
            (received.len(), peer.ip())
        };
        let connect = || TcpStream::connect_timeout(&server, PATIENCE).expect("connected");
        thread::scope(|scope| {
            let received = scope.spawn(receive);
            let mut stream = self.client.enter(connect).expect("entered");
            stream.set_write_timeout(Some(PATIENCE)).expect("set");
            stream.write_all(&vec![7; BULK]).expect("sent");
            drop(stream);
            let (received, peer) = received.join().expect("received");
            assert_eq!(received, BULK, "{server}");
            peer
        })
    }

    fn addresses(&self) {
        let places = [
            (&self.client, "lan0-far", CLIENT),
            (&self.router, "wan0-far", ROUTER),
            (&self.router, "down0", ["10.3.0.1", "2001:db8:3::1"]),
            (&self.server, "up0", SERVER),
        ];
        for (namespace, interface, [v4, v6]) in places {
            namespace.add_address(interface, &format!("{v4}/24")).expect("an address");
            namespace.add_address(interface, &format!("{v6}/64")).expect("an address");
        }
        let routes = [
            (&self.client, GATEWAY),
            (&self.router, ["10.2.0.1", "2001:db8:2::1"]),
            (&self.server, ["10.3.0.1", "2001:db8:3::1"]),
        ];
        for (namespace, gateways) in routes {
            for gateway in gateways {
                namespace.add_route("default", gateway).expect("a route");
            }
        }
        self.router.set("net/ipv4/ip_forward", "1").expect("set");
        self.router.set("net/ipv6/conf/all/forwarding", "1").expect("set");
    }
}
