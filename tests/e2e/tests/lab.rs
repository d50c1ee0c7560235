//! The laboratory itself: networks carry packets, captures see them, nothing stays behind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use nightgate_lab::{
    Capture, HttpServer, Namespace,
    overlay::{Topology, address},
    temporary_folder,
};

#[test]
fn gateways_and_routers_reach_each_other_but_clients_and_servers_do_not() {
    let topology = Topology::new().unwrap();
    for family in [0, 1] {
        assert!(reaches(&topology.gateway_a, address::ROUTER[family]));
        assert!(reaches(&topology.gateway_b, address::CONTROLLER[family]));
        assert!(reaches(&topology.sdk_host, address::ROUTER[family]));
        assert!(reaches(&topology.client, address::GATEWAY_A[family]));
        assert!(reaches(&topology.sensor, address::MONITOR[family]));
        assert!(!reaches(&topology.client, address::SERVER[family]));
    }
}

#[test]
fn a_capture_sees_what_a_server_answers() {
    let topology = Topology::new().unwrap();
    let folder = temporary_folder().unwrap();
    let listen = "[::]:80".parse().unwrap();
    let server = HttpServer::start(&topology.server, listen, "the page").unwrap();
    let mut capture = Capture::start("lan-b", &topology.gateway_b, "lan0", folder.path()).unwrap();

    for address in address::SERVER {
        let answer = topology.gateway_b.enter(|| request(address)).unwrap();
        assert!(answer.ends_with("the page"), "{answer}");
    }

    capture.wait_for("http.response && ipv6").unwrap();
    capture.stop().unwrap();
    assert_eq!(capture.count("http.request.uri == \"/marker\"").unwrap(), 2);
    drop(server);
    assert!(
        topology.gateway_b.enter(|| TcpStream::connect((address::SERVER[0], 80))).unwrap().is_err()
    );
}

#[test]
fn a_namespace_is_gone_when_its_owner_is() {
    let topology = Topology::new().unwrap();
    topology.client.set_resolver("10.1.0.1").unwrap();
    assert!(topology.client.shell("cat /etc/resolv.conf").unwrap().contains("10.1.0.1"));
    let name = topology.client.name().to_owned();
    assert!(nightgate_lab::shell("ip netns list").unwrap().contains(&name));
    drop(topology);
    assert!(!nightgate_lab::shell("ip netns list").unwrap().contains(&name));
    assert!(!std::path::Path::new("/etc/netns").join(&name).exists());
}

/// A refusal comes from the other end: it was reached.
fn reaches(from: &Namespace, to: &str) -> bool {
    let to = SocketAddr::new(to.parse().unwrap(), 9);
    let outcome =
        from.enter(|| TcpStream::connect_timeout(&to, Duration::from_millis(500))).unwrap();
    outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn request(address: &str) -> String {
    let mut connection = TcpStream::connect((address, 80)).unwrap();
    connection.write_all(b"GET /marker HTTP/1.1\r\nHost: server\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}
