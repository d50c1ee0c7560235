//! Datagrams to intercepted destinations that come in fragments: the listener has them whole, and nobody else.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::AsFd as _,
    thread,
};

use nightgate_abi::{
    Intercept,
    Reason::{
        self, FragmentOverlap, FragmentUnknown, Intercepted, ListenerGone, NoListener, NoRule,
    },
    intercept::{HOSTED_MARK, hosted_mark},
    listener::Transport,
};
use nightgate_datapath_tests::{
    LAN, World,
    fragment::{
        Follows::{More, Nothing},
        fragment, fragment_at, fragments,
    },
    frame::datagram,
    hosts::{CLIENT, Hosts, SERVER},
    intercepted,
    listener::{close_listener, datagram_listener, deliver_intercepted, receive, transparent},
    with_world,
};
use socket2::{Domain, Protocol, Socket, Type};

const UDP: u8 = 17;
const RULES: &str = "- { id: overlay, from: lan, to: overlay, action: accept }";
const SERVICE: [&str; 2] = ["100.64.0.1:5353", "[fd64:6e67::1]:5353"];
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

#[test]
fn a_datagram_in_fragments_reaches_the_listener_and_no_socket_of_the_host() {
    with_listeners(|world, hosts, listeners| {
        for ((client, service), listener) in CLIENT.into_iter().zip(SERVICE).zip(listeners) {
            let service = socket(service);
            let own = of_the_host(service);
            let from = SocketAddr::new(ip(client), 0);
            let sender =
                hosts.client.enter(|| UdpSocket::bind(from)).expect("entered").expect("bound");
            for size in [1_400, 2_000, 4_000, 60_000, 65_507, 9] {
                let data: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
                sender.send_to(&data, service).expect("sent");
                let (received, source, destination) = receive(listener);
                assert!(received == data, "{size}: {} bytes", received.len());
                let source_expected = sender.local_addr().expect("bound");
                assert_eq!((source, destination), (source_expected, service), "{size}");
            }
            nobody_has_anything(&own);
        }
        assert_eq!(count(world, FragmentUnknown), 0);
        assert!(count(world, Intercepted) > 150, "they came in fragments");
    });
}

#[test]
fn fragments_are_refused_as_the_datagram_would_be() {
    with_listeners(|world, _, _| {
        for (client, service) in CLIENT.into_iter().zip(SERVICE) {
            let [first, later] = halves(client, service);
            let elsewhere = service.replace("5353", "5354");
            let [other, rest] = halves(client, &elsewhere);
            assert_eq!(world.receive(LAN, &other).reason, NoRule);
            assert_eq!(world.receive(LAN, &rest).reason, NoRule);
            assert_eq!(world.receive(LAN, &first).reason, Intercepted);
            assert_eq!(world.receive(LAN, &later).reason, Intercepted);
            let family = socket(service);
            let loopback = LOOPBACK[usize::from(family.is_ipv6())];
            close_listener(world, Transport::Udp, loopback);
            assert_eq!(world.receive(LAN, &first).reason, ListenerGone);
            assert_eq!(world.receive(LAN, &later).reason, ListenerGone);
            let family = nightgate_abi::Address::from(family.ip()).family();
            world.datapath.clear_listener(Transport::Udp, family).expect("cleared");
            assert_eq!(world.receive(LAN, &first).reason, NoListener);
        }
    });
}

#[test]
fn what_is_complete_after_the_listener_has_gone_is_refused() {
    with_listeners(|world, hosts, [listener, _]| {
        let own = of_the_host(socket(SERVICE[0]));
        let [first, later] = halves("10.1.0.9", SERVICE[0]);
        let sender = FrameSender::new(hosts);
        sender.send(&first);
        until(world, Intercepted, 1);
        drop(std::mem::replace(listener, datagram_listener(LOOPBACK[0])));
        assert_eq!(count(world, ListenerGone), 0);
        sender.send(&later);
        until(world, ListenerGone, 1);
        nobody_has_anything(&own);
    });
}

#[test]
fn hostile_fragments_make_no_datagram_and_hold_no_other_one_up() {
    with_listeners(|world, hosts, [listener, _]| {
        let sender = FrameSender::new(hosts);
        let whole = datagram("10.1.0.9:4000", SERVICE[0], &[7; 3_000]);
        // One that overlaps the first, then the rest.
        for part in [
            fragment(&whole, 1, 0..1_400, More),
            fragment_at(&whole, 1, 1_392, &[9; 1_000], More),
            fragment(&whole, 1, 1_400..2_200, More),
            fragment(&whole, 1, 2_200..3_008, Nothing),
        ] {
            sender.send(&part);
        }
        until(world, FragmentOverlap, 3);
        // Later ones that overlap each other.
        for part in [
            fragment(&whole, 2, 0..800, More),
            fragment_at(&whole, 2, 800, &[9; 808], More),
            fragment_at(&whole, 2, 1_600, &[8; 800], More),
            fragment(&whole, 2, 2_400..3_008, Nothing),
        ] {
            sender.send(&part);
        }
        // Packets of which there is only the beginning, many.
        for number in 0..8_000_u16 {
            sender.send(&fragment(&whole, 1_000 + number, 0..1_400, More));
        }
        // What is kept of them is bounded, and the stack gives it up for others when it is full.
        let memory = world.namespace.shell("cat /proc/net/sockstat").expect("statistics");
        let line = memory.lines().find(|line| line.starts_with("FRAG:")).expect("a line");
        let bytes: u64 = line.split(' ').next_back().expect("bytes").parse().expect("a number");
        let most = world.namespace.shell("cat /proc/sys/net/ipv4/ipfrag_high_thresh");
        let most: u64 = most.expect("a bound").trim().parse().expect("a number");
        assert!(bytes <= most + (64 << 10), "{line}");
        let small = datagram("10.1.0.9:4000", SERVICE[0], b"whole");
        sender.send(&small);
        assert_eq!(receive(listener).0, b"whole");
    });
}

#[test]
fn answers_to_a_source_that_is_not_the_hosts_reach_the_connection_for_a_hosted_service() {
    const SOURCE: [&str; 2] = ["203.0.113.7", "2001:db8:77::7"];
    const OUTSIDE: [&str; 2] = ["10.2.0.1", "2001:db8:2::1"];
    with_world("- { id: own, from: local, to: wan, action: accept }", |world| {
        let hosts = Hosts::new(world);
        deliver_intercepted(world.namespace);
        for ((source, server), outside) in SOURCE.into_iter().zip(SERVER).zip(OUTSIDE) {
            hosts.router.add_route(source, outside).expect("a route");
            let at = |port| SocketAddr::new(ip(server), port);
            let echo =
                hosts.server.enter(|| UdpSocket::bind(at(5_000))).expect("entered").expect("bound");
            let own = transparent(SocketAddr::new(ip(source), 0), Type::DGRAM);
            own.set_mark(hosted_mark(HOSTED_MARK, 7)).expect("marked");
            let own: UdpSocket = own.into();
            own.connect(at(5_000)).expect("connected");
            let mut buffer = vec![0; 1 << 16];
            for size in [5, 4_000, 60_000] {
                own.send(&vec![1; size]).expect("sent");
                let (length, peer) = echo.recv_from(&mut buffer).expect("a datagram");
                assert_eq!((length, peer.ip()), (size, ip(source)));
                echo.send_to(&buffer[..length], peer).expect("answered");
                assert_eq!(own.recv(&mut buffer).expect("an answer"), size);
            }
            let listen = || TcpListener::bind(at(5_001));
            let listener = hosts.server.enter(listen).expect("entered").expect("bound");
            let serving = thread::spawn(move || {
                let (mut stream, peer) = listener.accept().expect("accepted");
                stream.write_all(b"welcome").expect("written");
                peer.ip()
            });
            let stream = transparent(SocketAddr::new(ip(source), 0), Type::STREAM);
            stream.set_mark(hosted_mark(HOSTED_MARK, 7)).expect("marked");
            stream.connect(&at(5_001).into()).expect("connected");
            let mut said = String::new();
            (&stream).read_to_string(&mut said).expect("an answer");
            assert_eq!((said.as_str(), serving.join().expect("served")), ("welcome", ip(source)));
            // That nobody listens is heard as well.
            let own = transparent(SocketAddr::new(ip(source), 0), Type::DGRAM);
            own.set_mark(hosted_mark(HOSTED_MARK, 7)).expect("marked");
            let own: UdpSocket = own.into();
            own.connect(at(5_002)).expect("connected");
            own.send(b"anybody").expect("sent");
            let refused = own.recv(&mut buffer).expect_err("nobody");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
    });
}

/// A gateway between hosts that intercepts datagrams of both families.
fn with_listeners(test: impl FnOnce(&mut World<'_>, &Hosts, &mut [UdpSocket; 2]) + Send) {
    with_world(RULES, |world| {
        let hosts = Hosts::new(world);
        deliver_intercepted(world.namespace);
        let mut listeners = LOOPBACK.map(datagram_listener);
        for listener in &listeners {
            let address = listener.local_addr().expect("bound");
            world
                .datapath
                .set_listening_socket(Transport::Udp, address, listener.as_fd())
                .expect("set");
        }
        world.intercept(
            &SERVICE.map(|service| intercepted(UDP, socket(service), Intercept::new(7, 0))),
        );
        test(world, &hosts, &mut listeners);
    });
}

/// A socket of the gateway's own that listens on a service's port at any address.
fn of_the_host(service: SocketAddr) -> UdpSocket {
    let any = match service {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = Socket::new(Domain::for_address(service), Type::DGRAM, None).expect("a socket");
    // Beside one of IPv4, which a program that another test starts may hold for a moment.
    if service.is_ipv6() {
        socket.set_only_v6(true).expect("set");
    }
    socket.bind(&SocketAddr::new(any, service.port()).into()).expect("bound");
    socket.set_nonblocking(true).expect("set");
    socket.into()
}

fn nobody_has_anything(own: &UdpSocket) {
    let nothing = own.recv(&mut [0]).expect_err("nothing");
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
}

/// The two fragments of a datagram.
fn halves(client: &str, service: &str) -> [Vec<u8>; 2] {
    let client = SocketAddr::new(ip(client), 4_000).to_string();
    let whole = datagram(&client, service, &[7; 2_000]);
    fragments(&whole, 77, 1_008).try_into().expect("two")
}

/// Sends IPv4 frames of the client as they are, without their Ethernet header.
struct FrameSender(Socket);

impl FrameSender {
    fn new(hosts: &Hosts) -> Self {
        /// Protocol of sockets that are given whole packets (raw(7)).
        const RAW: i32 = 255;
        let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)));
        Self(hosts.client.enter(open).expect("entered").expect("a socket"))
    }

    fn send(&self, frame: &[u8]) {
        let to = socket(SERVICE[0]);
        self.0.send_to(&frame[ETHERNET..], &SocketAddr::new(to.ip(), 0).into()).expect("sent");
    }
}

/// Waits until so many packets more have met their end for a reason.
fn until(world: &World<'_>, reason: Reason, packets: u64) {
    nightgate_lab::until(reason.as_str(), std::time::Duration::from_secs(5), || {
        Ok((count(world, reason) >= packets).then_some(()))
    })
    .expect("counted");
}

fn count(world: &World<'_>, reason: Reason) -> u64 {
    world.datapath.statistics().expect("statistics").get(reason).packets
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
