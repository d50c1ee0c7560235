//! Intercepted destinations: refused without a listener, delivered with one, over both families.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use nightgate_abi::{
    Family, Intercept,
    Reason::{
        self, EchoAnswered, EchoUnreachable, Forwarded, InterceptProtocol, Intercepted,
        ListenerGone, MirrorNoDevice, Mirrored, NoListener, NoRule, Sent,
    },
    flow::Phase,
    intercept::flags,
    listener::Transport,
    mirror::{MirrorSession, MirrorSessionId},
};
use nightgate_datapath::{Hook, IfIndex, Verdict};
use nightgate_datapath_tests::{
    LAN, WAN, World,
    frame::*,
    intercepted,
    listener::{
        close_listener, connection_listener, datagram_listener, deliver_intercepted, receive,
    },
    with_world,
};
use nightgate_lab::Namespace;
use nightgate_ruleset::{Destination, Network};
use tcp_flags::{ACK, RST, SYN};

const RULES: &str = "- { id: overlay, from: lan, to: overlay, action: accept }";

/// Client, service address, loopback address by family.
const FAMILIES: [(&str, &str, IpAddr); 2] = [
    ("10.1.0.2:4000", "100.64.0.1:80", IpAddr::V4(Ipv4Addr::LOCALHOST)),
    ("[2001:db8:1::2]:4000", "[fd64:6e67::1]:80", IpAddr::V6(Ipv6Addr::LOCALHOST)),
];

const TCP: u8 = 6;
const UDP: u8 = 17;

#[test]
fn without_a_listener_an_intercepted_packet_is_refused() {
    with_world(RULES, |world| {
        for (client, service, loopback) in FAMILIES {
            let family = if loopback.is_ipv4() { Family::V4 } else { Family::V6 };
            let syn = tcp(client, service, SYN);
            assert_eq!(world.receive(LAN, &syn).reason, NoRule, "not intercepted yet");
            intercept(world, TCP, service, 0);
            assert_eq!(world.receive(LAN, &syn).reason, NoListener);
            assert_eq!(world.receive(LAN, &tcp(client, service, ACK)).reason, NoListener, "again");
            close_listener(world, Transport::Tcp, loopback);
            assert_eq!(world.receive(LAN, &syn).reason, ListenerGone);
            world.datapath.clear_listener(Transport::Tcp, family).expect("clear");
            assert_eq!(world.receive(LAN, &syn).reason, NoListener);

            intercept(world, UDP, service, 0);
            let datagram = udp(client, service);
            assert_eq!(world.receive(LAN, &datagram).reason, NoListener);
            close_listener(world, Transport::Udp, loopback);
            assert_eq!(world.receive(LAN, &datagram).reason, ListenerGone);
            world.datapath.clear_listener(Transport::Udp, family).expect("clear");
            assert_eq!(world.receive(LAN, &datagram).reason, NoListener);
            assert_eq!(world.receive(LAN, &syn).reason, NoRule, "no longer intercepted");
        }
    });
}

#[test]
fn what_can_not_be_intercepted_is_refused() {
    const SCTP: u8 = 132;
    with_world(RULES, |world| {
        let service: SocketAddr = "100.64.0.1:0".parse().expect("an address");
        world.intercept(&[intercepted(SCTP, service, Intercept::new(7, 0))]);
        let frame = other("10.1.0.2", "100.64.0.1", SCTP);
        assert_eq!(world.receive(LAN, &frame).reason, InterceptProtocol);
    });
}

#[test]
fn echo_requests_are_answered_while_the_service_can_be_reached() {
    with_world(RULES, |world| {
        // The frame has a checksum of zero, to which the change of the type is added.
        for (client, service, protocol, [request, reply], checksum) in [
            ("10.1.0.2", "100.64.0.1", 1, [8, 0], [8, 0]),
            ("2001:db8:1::2", "fd64:6e67::1", 58, [128, 129], [0xfe, 0xff]),
        ] {
            let mut value = Intercept::new(7, 0);
            let mut set = |world: &mut World<'_>, flags| {
                value.flags = flags;
                let message = u16::from(request) << 8;
                let address = service.parse().expect("an address");
                let destination = intercepted(protocol, SocketAddr::new(address, message), value);
                world.intercept(&[destination]);
            };
            set(world, 0);
            let question = icmp(client, service, request, 99);
            assert_eq!(world.receive(LAN, &question).reason, EchoUnreachable);
            set(world, flags::REACHABLE);
            for _ in 0..2 {
                let answered = world.probe(Hook::Ingress, LAN, None, &question);
                assert_eq!((answered.reason, answered.verdict), (EchoAnswered, Verdict::Redirect));
                let macs = [&question[6..12], &question[..6]].concat();
                let mut expected = icmp(service, client, reply, 99);
                expected[..12].copy_from_slice(&macs);
                let message = expected.len() - 8;
                expected[message + 2..message + 4].copy_from_slice(&checksum);
                assert_eq!(answered.frame, expected);
            }
        }
    });
}

#[test]
fn networks_and_ranges_of_ports_are_intercepted_and_the_rest_is_not() {
    let rules = "- { id: both, from: lan, to: [wan, overlay], action: accept }";
    with_world(rules, |world| {
        let network = |address: &str, length, protocol, ports| Destination {
            network: Network::new(address.parse().expect("an address"), length),
            protocol,
            ports,
            value: Intercept::new(7, 0),
        };
        world.intercept(&[
            network("172.16.0.0", 12, TCP, (80, 89)),
            network("172.20.0.1", 32, UDP, (53, 53)),
            network("2001:db8:77::", 48, TCP, (1, 65_535)),
        ]);
        for (client, service, reason) in [
            ("10.1.0.2:1", "172.16.0.0:80", NoListener),
            ("10.1.0.2:1", "172.31.255.255:89", NoListener),
            ("10.1.0.2:1", "172.20.0.1:85", NoListener),
            ("10.1.0.2:1", "172.20.0.1:53", Forwarded),
            ("10.1.0.2:1", "172.31.255.255:90", Forwarded),
            ("10.1.0.2:1", "172.32.0.0:80", Forwarded),
            ("10.1.0.2:1", "172.15.255.255:80", Forwarded),
            ("[2001:db8:1::2]:1", "[2001:db8:77:ffff::9]:65535", NoListener),
            ("[2001:db8:1::2]:1", "[2001:db8:78::]:1", Forwarded),
        ] {
            assert_eq!(world.receive(LAN, &tcp(client, service, SYN)).reason, reason, "{service}");
        }
        assert_eq!(world.receive(LAN, &udp("10.1.0.2:1", "172.20.0.1:53")).reason, NoListener);
        assert_eq!(world.receive(LAN, &udp("10.1.0.2:1", "172.20.0.2:53")).reason, Forwarded);
    });
}

#[test]
fn a_table_of_thousands_of_services_is_the_one_that_was_set() {
    const SERVICES: u16 = 2_000;
    const RANGES: u16 = 10;
    with_world(RULES, |world| {
        let destination = |service: u16, range: u16| {
            let [high, low] = service.to_be_bytes();
            let first = 1_000 * range + 1;
            Destination {
                network: Network::host([100, 64, high, low].into()),
                protocol: TCP,
                ports: (first, first + 99),
                value: Intercept::new(u32::from(service) + 1, 0),
            }
        };
        let all: Vec<Destination> = (0..SERVICES)
            .flat_map(|service| (0..RANGES).map(move |range| destination(service, range)))
            .collect();
        let started = Instant::now();
        world.intercept(&all);
        println!("{} destinations: {:?}", all.len(), started.elapsed());
        for service in (0..SERVICES).step_by(97) {
            let [high, low] = service.to_be_bytes();
            for (port, reason) in
                [(1, NoListener), (9_100, NoListener), (9_101, NoRule), (101, NoRule)]
            {
                let syn = tcp("10.1.0.2:4000", &format!("100.64.{high}.{low}:{port}"), SYN);
                assert_eq!(world.receive(LAN, &syn).reason, reason, "{service} {port}");
            }
        }
        let started = Instant::now();
        world.intercept(&[]);
        println!("none: {:?}", started.elapsed());
        assert_eq!(world.receive(LAN, &tcp("10.1.0.2:4000", "100.64.0.7:1", SYN)).reason, NoRule);
    });
}

#[test]
fn only_zones_with_a_rule_reach_the_overlay() {
    with_world("- { id: all, from: lan, to: wan, action: accept }", |world| {
        for (client, service, _) in FAMILIES {
            let other_port = service.replace(":80", ":81");
            intercept(world, TCP, service, 0);
            assert_eq!(world.receive(LAN, &tcp(client, service, SYN)).reason, NoRule);
            assert_eq!(world.receive(LAN, &tcp(client, &other_port, SYN)).reason, Forwarded);
            assert_eq!(world.receive(WAN, &tcp("10.2.0.9:1", "100.64.0.1:80", SYN)).reason, NoRule);
        }
    });
}

#[test]
fn what_has_begun_otherwise_goes_on_when_its_destination_is_intercepted() {
    let rules = "- { id: both, from: lan, to: [wan, overlay], action: accept }";
    with_world(rules, |world| {
        for (client, service, _) in FAMILIES {
            let segment = tcp(client, service, ACK);
            assert_eq!(world.receive(LAN, &segment).reason, Forwarded);
            intercept(world, TCP, service, 0);
            assert_eq!(world.receive(LAN, &segment).reason, Forwarded);
            let another = tcp(&client.replace(":4000", ":4001"), service, ACK);
            assert_eq!(world.receive(LAN, &another).reason, NoListener);
            // Other services come and go.
            world.intercept(&[
                intercepted(TCP, service.parse().expect("an address"), Intercept::new(7, 0)),
                intercepted(TCP, ([192, 0, 2, 1], 1).into(), Intercept::new(8, 0)),
            ]);
            assert_eq!(world.receive(LAN, &segment).reason, Forwarded);
            assert_eq!(world.receive(LAN, &another).reason, NoListener);
            world.intercept(&[]);
            assert_eq!(world.receive(LAN, &segment).reason, Forwarded);
        }
    });
}

#[test]
fn the_gateway_may_reset_a_connection_of_a_withdrawn_service() {
    with_world(RULES, |world| {
        for (client, service, _) in FAMILIES {
            intercept(world, TCP, service, 0);
            // There is no listener here, but the flow is known.
            assert_eq!(world.receive(LAN, &tcp(client, service, ACK)).reason, NoListener);
            world.intercept(&[]);

            assert_eq!(world.send(LAN, &tcp(service, client, RST)).reason, Sent);
            assert_eq!(world.send(LAN, &tcp(service, client, ACK)).reason, NoRule);
            assert_eq!(world.send(LAN, &tcp(service, client, RST)).reason, NoRule, "forgotten");
        }
    });
}

#[test]
fn a_connection_reaches_the_listener_and_is_mirrored_once() {
    with_world(RULES, |world| {
        let client_side = Namespace::new("client").expect("a namespace");
        connect_lan(world, &client_side).expect("a client on the LAN");
        let mirror = Namespace::new("mirror").expect("a namespace");
        world.namespace.ip("link add mir0 type veth peer name mir1").expect("a veth");
        world.namespace.ip(&format!("link set mir1 netns {}", mirror.name())).expect("moved");
        // No router solicitations beside the copies.
        world.namespace.set("net/ipv6/conf/mir0/disable_ipv6", "1").expect("set");
        world.namespace.ip("link set mir0 up").expect("up");
        mirror.ip("link set mir1 up").expect("up");

        for (number, (client, service, loopback)) in (1..).zip(FAMILIES) {
            let listener = connection_listener(loopback);
            let address = listener.local_addr().expect("bound");
            world
                .datapath
                .set_listening_socket(Transport::Tcp, address, listener.as_fd())
                .expect("set");
            intercept(world, TCP, service, number);
            let session = MirrorSessionId::new(number).expect("a number");
            world.datapath.mirror().set_session(session, MirrorSession::default()).expect("set");
            if number == 1 {
                // Without a device the original is not affected.
                exchange(&client_side, &listener, client, service);
                assert_ne!(count(world, MirrorNoDevice), 0);
                assert_eq!(count(world, Mirrored), 0);
                world
                    .datapath
                    .set_mirror_device(Some(IfIndex::of("mir0").expect("mir0")))
                    .expect("set");
            }
            let before = [Intercepted, Sent, Mirrored].map(|reason| count(world, reason));
            let received = mirror_packets(&mirror);
            exchange(&client_side, &listener, client, service);
            let after = [Intercepted, Sent, Mirrored].map(|reason| count(world, reason));
            let [intercepted, sent, mirrored] = [0, 1, 2].map(|index| after[index] - before[index]);
            assert!(intercepted >= 4, "{intercepted} packets intercepted");
            assert_eq!(mirrored, intercepted + sent, "each packet once, in both directions");
            assert_eq!(mirror_packets(&mirror) - received, mirrored, "all of them arrive");

            let flows = world.datapath.flows().expect("flows");
            let address: SocketAddr = service.parse().expect("an address");
            let flow = flows.iter().find(|flow| flow.responder.address == address).expect("a flow");
            assert_eq!(flow.service, Some(7));
            assert_eq!(flow.mirror_session, Some(number));
            assert_eq!(flow.responder.zone.as_ref().map(|zone| zone.as_str()), Some("overlay"));
            assert_eq!(flow.phase, Phase::Closed);
        }
    });
}

#[test]
fn datagrams_reach_the_listener_with_the_destination_they_were_sent_to() {
    with_world(RULES, |world| {
        let client_side = Namespace::new("client").expect("a namespace");
        connect_lan(world, &client_side).expect("a client on the LAN");
        for (client, service, loopback) in FAMILIES {
            let listener = datagram_listener(loopback);
            let address = listener.local_addr().expect("bound");
            world
                .datapath
                .set_listening_socket(Transport::Udp, address, listener.as_fd())
                .expect("set");
            intercept(world, UDP, service, 0);
            let service: SocketAddr = service.parse().expect("an address");
            let client: SocketAddr = client.parse().expect("an address");
            let from = SocketAddr::new(client.ip(), 0);
            let socket =
                client_side.enter(|| UdpSocket::bind(from)).expect("entered").expect("bound");
            for message in [&b"question"[..], b"and another"] {
                socket.send_to(message, service).expect("sent");
                let (received, sender, destination) = receive(&listener);
                assert_eq!((received.as_slice(), destination), (message, service));
                assert_eq!(sender, socket.local_addr().expect("bound"));
            }
        }
    });
}

/// Opens a connection from the client side and sends a word both ways.
fn exchange(client_side: &Namespace, listener: &TcpListener, client: &str, service: &str) {
    let service: SocketAddr = service.parse().expect("an address");
    let host = client.parse::<SocketAddr>().expect("an address").ip();
    thread::scope(|scope| {
        let dialer = scope.spawn(|| {
            client_side.enter(|| {
                let mut stream = TcpStream::connect_timeout(&service, Duration::from_secs(5))?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                stream.write_all(b"question")?;
                let mut answer = [0; 6];
                stream.read_exact(&mut answer)?;
                Ok::<_, std::io::Error>((stream.local_addr()?, answer))
            })
        });
        let (mut stream, peer) = accept(listener);
        assert_eq!(stream.local_addr().expect("an address"), service, "original destination");
        assert_eq!(peer.ip(), host);
        let mut question = [0; 8];
        stream.read_exact(&mut question).expect("a question");
        assert_eq!(&question, b"question");
        stream.write_all(b"answer").expect("written");
        let (local, answer) =
            dialer.join().expect("no panic").expect("entered").expect("connected");
        assert_eq!((local, &answer), (peer, b"answer"));
        // The client has closed; the end of the stream comes before ours.
        assert_eq!(stream.read(&mut question).expect("the end"), 0);
    });
    // Let the last acknowledgement arrive, so that all packets are counted.
    thread::sleep(Duration::from_millis(100));
}

fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    listener.set_nonblocking(true).expect("set");
    let accepted =
        nightgate_lab::until("a connection", Duration::from_secs(5), || Ok(listener.accept().ok()))
            .expect("a connection within five seconds");
    accepted.0.set_nonblocking(false).expect("set");
    accepted.0.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    accepted
}

/// Puts the far end of the LAN into a namespace of its own, and has marked packets delivered locally.
fn connect_lan(
    world: &World<'_>,
    client_side: &Namespace,
) -> Result<(), Box<dyn std::error::Error>> {
    let far = format!("{LAN}-far");
    world.namespace.ip(&format!("link set {far} netns {}", client_side.name()))?;
    client_side.ip(&format!("link set {far} up"))?;
    client_side.add_address(&far, "10.1.0.2/24")?;
    client_side.add_address(&far, "2001:db8:1::2/64")?;
    client_side.add_route("default", "10.1.0.1")?;
    client_side.add_route("default", "2001:db8:1::1")?;
    deliver_intercepted(world.namespace);
    Ok(())
}

fn mirror_packets(mirror: &Namespace) -> u64 {
    let text = mirror.ip("-j -s link show mir1").expect("statistics");
    let statistics: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    statistics[0]["stats64"]["rx"]["packets"].as_u64().expect("a number")
}

fn intercept(world: &mut World<'_>, protocol: u8, service: &str, mirror_session: u16) {
    let service = service.parse().expect("an address");
    world.intercept(&[intercepted(protocol, service, Intercept::new(7, mirror_session))]);
}

fn count(world: &World<'_>, reason: Reason) -> u64 {
    world.datapath.statistics().expect("statistics").get(reason).packets
}
