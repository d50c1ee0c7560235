//! Fragments between real sockets: what the stacks of hosts, of routers and of the gateway itself take apart arrives.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    thread,
    time::Duration,
};

use nightgate_abi::{
    Intercept,
    Reason::{FragmentUnknown, InterceptFragment, Intercepted},
    listener::Transport,
};
use nightgate_datapath_tests::{
    WAN, World,
    fragment::{Follows::More, fragment},
    frame::{segment, tcp_flags::SYN},
    hosts::{CLIENT, GATEWAY, Hosts, SERVER},
    intercepted,
    listener::{connection_listener, deliver_intercepted},
    with_world,
};
use nightgate_lab::Namespace;
use socket2::{Domain, Protocol, Socket, Type};

const PLAIN: &str = "
- { id: all, from: [lan, wan, local], to: [lan, wan, local], action: accept }
";
const MASQUERADED: &str = "
  - { id: all, from: [lan, wan, local], to: [lan, wan, local], action: accept }
nat:
  source:
    - { id: hide, from: lan, to: wan, becomes: masquerade }
";
/// The gateway's addresses towards the server.
const OUTSIDE: [&str; 2] = ["10.2.0.1", "2001:db8:2::1"];
const PATIENCE: Duration = Duration::from_secs(10);
/// Sizes of one, two and three fragments, and of as many as a packet can have.
const SIZES: [usize; 4] = [1_400, 2_000, 3_000, 65_000];

#[test]
fn long_datagrams_and_echoes_pass_in_both_directions() {
    with_hosts(PLAIN, |world, hosts| {
        for (client, server) in CLIENT.into_iter().zip(SERVER) {
            datagrams(&hosts.client, &hosts.server, server, client);
            datagrams(&hosts.server, &hosts.client, client, server);
            echoes(&hosts.client, server);
        }
        nothing_is_missing(world);
    });
}

#[test]
fn long_datagrams_and_echoes_pass_masquerade() {
    with_hosts(MASQUERADED, |world, hosts| {
        for (server, outside) in SERVER.into_iter().zip(OUTSIDE) {
            datagrams(&hosts.client, &hosts.server, server, outside);
            echoes(&hosts.client, server);
        }
        nothing_is_missing(world);
    });
}

#[test]
fn the_gateway_itself_sends_and_receives_long_datagrams() {
    with_hosts(PLAIN, |world, hosts| {
        for ((server, outside), gateway) in SERVER.into_iter().zip(OUTSIDE).zip(GATEWAY) {
            datagrams(world.namespace, &hosts.server, server, outside);
            let client = if server.contains(':') { CLIENT[1] } else { CLIENT[0] };
            datagrams(&hosts.client, world.namespace, gateway, client);
        }
        nothing_is_missing(world);
    });
}

#[test]
fn what_is_too_long_for_the_way_out_is_taken_apart_by_the_gateway() {
    for rules in [PLAIN, MASQUERADED] {
        with_hosts(rules, |world, hosts| {
            // Whole packets of the client, and fragments of it, become smaller ones.
            world.namespace.ip(&format!("link set {WAN} mtu 1000")).expect("set");
            hosts.router.ip(&format!("link set {WAN}-far mtu 1000")).expect("set");
            for host in [&hosts.client, &hosts.server] {
                host.set("net/ipv4/ip_no_pmtu_disc", "1").expect("fragments are allowed");
            }
            let from = if rules == PLAIN { CLIENT[0] } else { OUTSIDE[0] };
            datagrams(&hosts.client, &hosts.server, SERVER[0], from);
            nothing_is_missing(world);
        });
    }
}

#[test]
fn an_intercepted_connection_may_come_in_fragments() {
    let rules = "- { id: overlay, from: wan, to: overlay, action: accept }";
    with_hosts(rules, |world, hosts| {
        let service: SocketAddr = "100.64.0.1:80".parse().expect("an address");
        let listener = intercept(world, &service);
        let syn = segment("10.3.0.9:9", "100.64.0.1:80", SYN, [1, 0], 100);
        let first = fragment(&syn, 1, 0..64, More);
        assert_eq!(world.receive(WAN, &first).reason, InterceptFragment, "it opens none");
        let later = fragment(&syn, 1, 64..72, More);
        assert_eq!(world.receive(WAN, &later).reason, InterceptFragment);

        hosts.server.set("net/ipv4/ip_no_pmtu_disc", "1").expect("fragments are allowed");
        hosts.router.ip(&format!("link set {WAN}-far mtu 1000")).expect("set");
        let load = vec![7; 100_000];
        thread::scope(|scope| {
            let receive = scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("accepted");
                stream.set_read_timeout(Some(PATIENCE)).expect("set");
                let mut received = Vec::new();
                stream.read_to_end(&mut received).expect("received");
                received
            });
            let connect = || TcpStream::connect_timeout(&service, PATIENCE).expect("connected");
            let mut stream = hosts.server.enter(connect).expect("entered");
            stream.write_all(&load).expect("sent");
            drop(stream);
            assert_eq!(receive.join().expect("received"), load);
        });
        assert!(counter(world.namespace, "ReasmOKs") > 10, "it came in fragments");
        let statistics = world.datapath.statistics().expect("statistics");
        assert!(statistics.get(Intercepted).packets > 100);
        nothing_is_missing(world);
    });
}

/// Sends datagrams from one host to another, where they come from `seen`, and back.
fn datagrams(from: &Namespace, to: &Namespace, address: &str, seen: &str) {
    let bind = |ip: IpAddr| UdpSocket::bind((ip, 0)).expect("bound");
    let any = if address.contains(':') { "::" } else { "0.0.0.0" };
    let receiver = to.enter(|| bind(ip(address))).expect("entered");
    let sender = from.enter(|| bind(ip(any))).expect("entered");
    for socket in [&receiver, &sender] {
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket2::SockRef::from(socket).set_recv_buffer_size(1 << 20).expect("set");
    }
    sender.connect(receiver.local_addr().expect("bound")).expect("connected");
    let mut buffer = vec![0; 1 << 16];
    for size in SIZES {
        let data: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
        sender.send(&data).expect("sent");
        let (received, peer) = receiver.recv_from(&mut buffer).expect("received");
        assert_eq!((&buffer[..received], peer.ip()), (&*data, ip(seen)), "{size}");
        receiver.send_to(&data, peer).expect("answered");
        let received = sender.recv(&mut buffer).expect("received");
        assert_eq!(&buffer[..received], &*data, "{size}");
    }
}

/// Sends long echoes, and waits for their answers.
fn echoes(from: &Namespace, to: &str) {
    from.set("net/ipv4/ping_group_range", "0 2147483647").expect("echoes without raw sockets");
    let (domain, protocol, request) = match ip(to) {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
    };
    let open = || Socket::new(domain, Type::DGRAM, Some(protocol)).expect("a socket");
    let socket = from.enter(open).expect("entered");
    socket.connect(&SocketAddr::new(ip(to), 0).into()).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut answer = vec![0; 1 << 16];
    for size in [1_400, 3_000, 20_000] {
        let mut message = vec![0x33; size];
        message[..8].copy_from_slice(&[request, 0, 0, 0, 0, 0, 0, 1]);
        socket.send(&message).expect("sent");
        let received = (&socket).read(&mut answer).expect("answered");
        assert_eq!(answer[8..received], message[8..], "{size}");
    }
}

/// Has a service's connections given to a listener.
fn intercept(world: &mut World<'_>, service: &SocketAddr) -> TcpListener {
    const TCP: u8 = 6;
    deliver_intercepted(world.namespace);
    let listener = connection_listener(Ipv4Addr::LOCALHOST.into());
    world
        .datapath
        .set_listening_socket(
            Transport::Tcp,
            listener.local_addr().expect("bound"),
            listener.as_fd(),
        )
        .expect("set");
    world.intercept(&[intercepted(TCP, *service, Intercept::new(1, 0))]);
    listener
}

/// A gateway between hosts, whose addresses the programs know.
fn with_hosts(rules: &str, test: impl FnOnce(&mut World<'_>, &Hosts) + Send) {
    with_world(rules, |world| {
        let hosts = Hosts::new(world);
        world.tell_addresses();
        test(world, &hosts);
    });
}

/// No fragment has come before its first one.
#[track_caller]
fn nothing_is_missing(world: &World<'_>) {
    let statistics = world.datapath.statistics().expect("statistics");
    assert_eq!(statistics.get(FragmentUnknown).packets, 0);
}

/// A counter of a namespace's IPv4 stack.
fn counter(namespace: &Namespace, name: &str) -> u64 {
    let text = namespace.shell("cat /proc/net/snmp").expect("counters");
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = pairs.find(|(found, _)| *found == name).expect("a counter");
    value.parse().expect("a number")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
