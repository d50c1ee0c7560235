//! Rejected packets on a wire: sockets of real hosts learn at once.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use nightgate_abi::Reason::{Answer, AnswerFailed, AnsweredReset, AnsweredUnreachable};
use nightgate_datapath_tests::{LAN, World, with_world};
use nightgate_lab::Namespace;

const RULES: &str = "\
- { id: closed, from: lan, to: [wan, local], protocol: tcp, destination_ports: [80], action: reject }
- { id: host, from: lan, to: wan, protocol: tcp, destination_ports: [81], action: reject, with: host-unreachable }
- { id: dns, from: lan, to: [wan, local], protocol: udp, destination_ports: [53], action: reject }
- { id: prohibited, from: lan, to: wan, protocol: udp, destination_ports: [54], action: reject, with: prohibited }
- { id: open, from: lan, to: local, protocol: tcp, destination_ports: [82], action: accept }
";
/// A socket that has waited for this long has learned nothing.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn connections_and_datagrams_are_refused_at_once() {
    with_client(|world, client| {
        for host in ["192.0.2.1", "10.1.0.1", "[2001:db8:9::1]", "[2001:db8:1::1]"] {
            let error = client.enter(|| connect(&format!("{host}:80"))).expect("entered");
            assert_eq!(error.expect_err("refused").kind(), ErrorKind::ConnectionRefused, "{host}");
            for length in [1, 1_400, 9_000] {
                let error = client.enter(|| ask(&format!("{host}:53"), length)).expect("entered");
                assert_eq!(error, ErrorKind::ConnectionRefused, "{host} {length}");
            }
        }
        // What Linux makes of "prohibited" differs between the families.
        for (host, prohibited) in [
            ("192.0.2.1", ErrorKind::HostUnreachable),
            ("[2001:db8:9::1]", ErrorKind::PermissionDenied),
        ] {
            let error = client.enter(|| connect(&format!("{host}:81"))).expect("entered");
            assert_eq!(error.expect_err("refused").kind(), ErrorKind::HostUnreachable, "{host}");
            let error = client.enter(|| ask(&format!("{host}:54"), 100)).expect("entered");
            assert_eq!(error, prohibited, "{host}");
        }
        let statistics = world.datapath.statistics().expect("statistics");
        assert!(statistics.get(AnsweredReset).packets >= 4);
        assert!(statistics.get(AnsweredUnreachable).packets >= 16);
        assert!(statistics.get(Answer).packets >= 20, "answers leave unjudged");
        assert_eq!(statistics.get(AnswerFailed).packets, 0);
    });
}

#[test]
fn a_connection_that_new_rules_reject_is_reset_by_its_next_packets() {
    with_client(|world, client| {
        for host in ["10.1.0.1", "[2001:db8:1::1]"] {
            world.commit(RULES);
            let listener = TcpListener::bind(format!("{host}:82")).expect("bound");
            let stream = client.enter(|| connect(&format!("{host}:82"))).expect("entered");
            let stream = stream.expect("accepted by a rule");
            let _held = listener.accept().expect("accepted");
            world.commit(&RULES.replace("[80]", "[80, 82]"));
            // More than one segment, in one packet with segmentation offload.
            let error = write_until_reset(&stream);
            assert_eq!(error, ErrorKind::ConnectionReset, "{host}");
        }
    });
}

/// Makes a gateway and a client behind its `lan`.
fn with_client(test: impl FnOnce(&mut World<'_>, &Namespace) + Send) {
    let client = Namespace::new("client").expect("a namespace");
    with_world(RULES, |world| {
        let far = format!("{LAN}-far");
        world.namespace.ip(&format!("link set {far} netns {}", client.name())).expect("moved");
        client.ip(&format!("link set {far} mtu 9500 up")).expect("up");
        world.namespace.ip(&format!("link set {LAN} mtu 9500")).expect("set");
        for (address, gateway) in
            [("10.1.0.2/24", "10.1.0.1"), ("2001:db8:1::2/64", "2001:db8:1::1")]
        {
            client.add_address(&far, address).expect("an address");
            client.add_route("default", gateway).expect("a route");
        }
        test(world, &client);
    });
}

fn connect(server: &str) -> std::io::Result<TcpStream> {
    let server: SocketAddr = server.parse().map_err(std::io::Error::other)?;
    TcpStream::connect_timeout(&server, PATIENCE)
}

/// Sends a datagram and returns the error that the socket learns.
fn ask(server: &str, length: usize) -> ErrorKind {
    let any = if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).expect("bound");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.connect(server).expect("connected");
    socket.send(&vec![b'x'; length]).expect("sent");
    socket.recv(&mut [0; 16]).expect_err("an error of the socket").kind()
}

fn write_until_reset(stream: &TcpStream) -> ErrorKind {
    use std::io::{Read as _, Write as _};
    let mut stream = stream;
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    match stream.write_all(&[b'x'; 20_000]) {
        Ok(()) => stream.read(&mut [0; 16]).expect_err("reset").kind(),
        Err(error) => error.kind(),
    }
}
