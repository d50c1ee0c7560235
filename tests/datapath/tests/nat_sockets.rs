//! Address translation under real sockets: a client, the gateway and a server in namespaces of their own, joined by
//! interfaces that leave checksums and segmentation to each other.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use nightgate_datapath::{Datapath, IfIndex};
use nightgate_datapath_tests::{LAN, WAN, rule_set};
use nightgate_lab::{Capture, Namespace, temporary_folder, veth};
use nightgate_ruleset::ZoneName;
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes sent each way: many segments of more than a frame.
const LOAD: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(10);
/// What must not be seen outside.
const INSIDE: &str = "ip.addr == 10.1.0.0/24 || ipv6.addr == 2001:db8:1::/64";

const RULES: &str = "
  - { id: all, from: [lan, wan], to: [lan, wan], action: accept }
nat:
  one_to_one:
    - { id: host, zone: wan, outside: 198.51.100.33, inside: 10.1.0.33 }
    - { id: host6, zone: wan, outside: '2001:db8:51::33', inside: '2001:db8:1::33' }
  destination:
    - { id: web, from: [wan, lan], destination: 198.51.100.7, protocol: tcp, destination_ports: 8000-8009, becomes: 10.1.0.10, becomes_ports: 80-89 }
    - { id: web6, from: [wan, lan], destination: '2001:db8:51::7', protocol: tcp, destination_ports: 8000, becomes: '2001:db8:1::10', becomes_ports: 80 }
  source:
    - { id: hairpin, from: lan, to: lan, becomes: masquerade }
    - { id: out, from: lan, to: wan, becomes: masquerade }
";

#[test]
fn connections_datagrams_and_echoes_of_the_inside_come_from_the_gateway() {
    let network = Network::new();
    let folder = temporary_folder().expect("a folder");
    let mut capture =
        Capture::start("outside", &network.server, "eth0", folder.path()).expect("a capture");
    for (server, gateway) in [("10.2.0.9", "10.2.0.1"), ("2001:db8:2::9", "2001:db8:2::1")] {
        let (server, gateway) = (ip(server), ip(gateway));
        assert_eq!(
            network.exchange(&network.client, None, server, (&network.server, server, 7000)),
            gateway
        );
        assert_eq!(network.datagram(server), gateway);
        network.echo(if server.is_ipv4() { ip("10.1.0.2") } else { ip("2001:db8:1::2") }, server);
    }
    capture.wait_for("icmpv6.type == 129").expect("seen");
    capture.stop().expect("stopped");
    assert!(capture.count("tcp").expect("counted") > 20);
    assert_eq!(capture.count(INSIDE).expect("counted"), 0);
}

#[test]
fn forwards_are_reached_from_outside_and_from_beside_the_server() {
    let network = Network::new();
    for (public, inside, outside, beside) in [
        ("198.51.100.7", "10.1.0.10", "10.2.0.9", "10.1.0.1"),
        ("2001:db8:51::7", "2001:db8:1::10", "2001:db8:2::9", "2001:db8:1::1"),
    ] {
        let (public, inside) = (SocketAddr::new(ip(public), 8000), ip(inside));
        let served = (&network.client, inside, 80);
        assert_eq!(
            network.exchange(&network.server, Some(public), public.ip(), served),
            ip(outside)
        );
        let served = (&network.client, inside, 80);
        assert_eq!(
            network.exchange(&network.client, Some(public), public.ip(), served),
            ip(beside)
        );
    }
}

#[test]
fn a_host_with_an_outside_address_is_reached_and_seen_by_it() {
    let network = Network::new();
    for (public, inside, server) in [
        ("198.51.100.33", "10.1.0.33", "10.2.0.9"),
        ("2001:db8:51::33", "2001:db8:1::33", "2001:db8:2::9"),
    ] {
        let (public, inside, server) = (ip(public), ip(inside), ip(server));
        assert_eq!(
            network.exchange(&network.server, None, public, (&network.client, inside, 8443)),
            server
        );
        network.echo(inside, server);
    }
}

/// A client in zone lan, the gateway, and a server in zone wan that knows no way to the client.
struct Network {
    client: Namespace,
    server: Namespace,
    /// The programs leave with it; the namespace after it.
    _datapath: Datapath,
    _gateway: Namespace,
}

impl Network {
    fn new() -> Self {
        let [client, gateway, server] =
            ["client", "gateway", "server"].map(|role| Namespace::new(role).expect("root"));
        veth((&gateway, LAN), (&client, "eth0")).expect("a link");
        veth((&gateway, WAN), (&server, "eth0")).expect("a link");
        let add = |namespace: &Namespace, interface: &str, addresses: &[&str]| {
            for address in addresses {
                namespace.add_address(interface, address).expect("an address");
            }
        };
        add(&gateway, LAN, &["10.1.0.1/24", "2001:db8:1::1/64"]);
        add(&gateway, WAN, &["10.2.0.1/24", "2001:db8:2::1/64"]);
        add(&client, "eth0", &["10.1.0.2/24", "10.1.0.10/24", "10.1.0.33/24"]);
        add(&client, "eth0", &["2001:db8:1::10/64", "2001:db8:1::33/64", "2001:db8:1::2/64"]);
        add(&server, "eth0", &["10.2.0.9/24", "2001:db8:2::9/64"]);
        client
            .set("net/ipv4/ping_group_range", "0 2147483647")
            .expect("echoes without raw sockets");
        for parameter in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            gateway.set(parameter, "1").expect("forwarding");
        }
        for route in ["10.1.0.1", "2001:db8:1::1"] {
            client.add_route("default", route).expect("a route");
        }
        for (prefix, route) in
            [("198.51.100.0/24", "10.2.0.1"), ("2001:db8:51::/64", "2001:db8:2::1")]
        {
            server.add_route(prefix, route).expect("a route");
        }
        let datapath = gateway.enter(start).expect("the programs");
        Self { client, server, _datapath: datapath, _gateway: gateway }
    }

    /// Sends a load from one namespace to a listener in another, through what `to` or else the listener's address
    /// and port stand for, and back; returns whom the listener has seen.
    fn exchange(
        &self,
        from: &Namespace,
        to: Option<SocketAddr>,
        address: IpAddr,
        (at, listen, port): (&Namespace, IpAddr, u16),
    ) -> IpAddr {
        let bind = || TcpListener::bind((listen, port)).expect("bound");
        let listener = at.enter(bind).expect("entered");
        let to = to.unwrap_or_else(|| SocketAddr::new(address, port));
        let connect = || TcpStream::connect_timeout(&to, PATIENCE).expect("connected");
        let client = from.enter(connect).expect("entered");
        let (server, peer) = listener.accept().expect("accepted");
        for (from, to) in [(&client, &server), (&server, &client)] {
            std::thread::scope(|scope| {
                scope.spawn(|| send(from));
                receive(to);
            });
        }
        peer.ip()
    }

    /// Sends echoes from an address of the client, and waits for their answers.
    fn echo(&self, from: IpAddr, to: IpAddr) {
        let (domain, protocol, request, reply) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
        };
        let open = || Socket::new(domain, Type::DGRAM, Some(protocol)).expect("a socket");
        let socket = self.client.enter(open).expect("entered");
        socket.bind(&SocketAddr::new(from, 0).into()).expect("bound");
        socket.connect(&SocketAddr::new(to, 0).into()).expect("connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        for length in [8, 9, 1000] {
            // The kernel puts identifier and checksum in.
            let mut message = vec![0x33; length];
            message[..8].copy_from_slice(&[request, 0, 0, 0, 0, 0, 0, 1]);
            socket.send(&message).expect("sent");
            let mut answer = [0; 2000];
            let received = (&socket).read(&mut answer).expect("answered");
            assert_eq!((received, answer[0]), (length, reply));
            assert_eq!(answer[8..received], message[8..]);
        }
    }

    /// Sends datagrams to the server and back; returns whom it has seen.
    fn datagram(&self, address: IpAddr) -> IpAddr {
        let bind = |ip: IpAddr| UdpSocket::bind((ip, 0)).expect("bound");
        let server = self.server.enter(|| bind(address)).expect("entered");
        let any = if address.is_ipv4() { ip("0.0.0.0") } else { ip("::") };
        let client = self.client.enter(|| bind(any)).expect("entered");
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(PATIENCE)).expect("set");
        }
        client.connect(server.local_addr().expect("bound")).expect("connected");
        let mut buffer = [0; 2000];
        let mut seen = None;
        for length in [1, 1001, 1400] {
            client.send(&vec![7; length]).expect("sent");
            let (received, peer) = server.recv_from(&mut buffer).expect("received");
            assert_eq!(received, length);
            server.send_to(&buffer[..received], peer).expect("sent");
            assert_eq!(client.recv(&mut buffer).expect("answered"), length);
            seen = Some(peer.ip());
        }
        seen.expect("a peer")
    }
}

fn start() -> Datapath {
    let mut datapath = Datapath::load().expect("the kernel object: `cargo xtask build`");
    for (interface, zone, number) in [(LAN, "lan", 1), (WAN, "wan", 2)] {
        let zone = ZoneName::new(zone).expect("a name");
        let index: IfIndex = datapath.attach(interface, &zone).expect("attached");
        let addresses = [ip(&format!("10.{number}.0.1")), ip(&format!("2001:db8:{number}::1"))];
        datapath.set_addresses(index, &addresses).expect("addresses");
    }
    datapath.commit(&rule_set(RULES).image()).expect("committed");
    datapath
}

fn send(mut stream: &TcpStream) {
    stream.set_write_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(&vec![0x5a; LOAD]).expect("sent");
}

fn receive(mut stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut load = vec![0; LOAD];
    stream.read_exact(&mut load).expect("received");
    assert!(load.iter().all(|byte| *byte == 0x5a));
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
