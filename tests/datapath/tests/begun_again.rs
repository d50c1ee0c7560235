//! Connections from a port whose last connection the gateway has closed before the client: what is left of that gives way.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    time::Duration,
};

use nightgate_abi::{Intercept, listener::Transport};
use nightgate_datapath_tests::{
    hosts::{CLIENT, Hosts},
    intercepted,
    listener::{connection_listener, deliver_intercepted},
    with_world,
};
use socket2::{Domain, Protocol, Socket, Type};

const TCP: u8 = 6;
const RULES: &str = "- { id: overlay, from: lan, to: overlay, action: accept }";
const SERVICE: [&str; 2] = ["100.64.0.1:80", "[fd64:6e67::1]:80"];
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_port_is_used_again_at_once() {
    with_world(RULES, |world| {
        let hosts = Hosts::new(world);
        deliver_intercepted(world.namespace);
        for ((client, service), loopback) in CLIENT.into_iter().zip(SERVICE).zip(LOOPBACK) {
            let listener = connection_listener(loopback);
            let address = listener.local_addr().expect("bound");
            let socket = listener.as_fd();
            world.datapath.set_listening_socket(Transport::Tcp, address, socket).expect("set");
            let service: SocketAddr = service.parse().expect("an address");
            world.intercept(&[intercepted(TCP, service, Intercept::new(7, 0))]);
            let client = SocketAddr::new(client.parse().expect("an address"), 4_000);
            for _ in 0..3 {
                let own = hosts.client.enter(|| connect(client, service)).expect("entered");
                end_first(&listener, own);
            }
        }
        // Who has to begin again answers what is left of the last connection with a reset.
        let resets =
            hosts.client.shell("nstat -asz TcpOutRsts TcpExtTCPSynRetrans").expect("counts");
        let counts: Vec<&str> =
            resets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(counts, ["0", "0"], "{resets}");
    });
}

fn connect(from: SocketAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(from), Type::STREAM, Some(Protocol::TCP));
    let socket = socket.expect("a socket");
    socket.bind(&from.into()).expect("bound");
    socket.connect_timeout(&to.into(), PATIENCE).expect("connected");
    socket.into()
}

/// Accepts a connection and closes it before the client does.
fn end_first(listener: &TcpListener, mut own: TcpStream) {
    let (mut accepted, _) = listener.accept().expect("accepted");
    own.write_all(b"?").expect("sent");
    accepted.read_exact(&mut [0]).expect("received");
    drop(accepted);
    own.set_read_timeout(Some(PATIENCE)).expect("set");
    assert_eq!(own.read(&mut [0]).expect("the end"), 0);
}
