//! Ways that carry less than the others: whoever sends more is told, and sends less.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use nightgate_lab::{HttpServer, Namespace, overlay::address, until, veth};

use super::{HOSTED, LONG, Scene};

/// What the narrow leg carries, bytes: the least that IPv6 allows, RFC 8200 section 5.
const NARROW: usize = 1_280;
/// Of a page or an upload, bytes: too much for the first window.
const LENGTH: usize = 300_000;
/// Of a datagram; larger than the narrow leg carries, and no larger than the wide one does.
const DATAGRAM: usize = 1_400;
/// The ends of the narrow leg.
const NEAR: [&str; 2] = ["10.1.7.1", "fd00:7::1"];
const FAR: [&str; 2] = ["10.1.7.2", "fd00:7::2"];

#[test]
fn what_is_intercepted_for_somebody_behind_a_narrow_leg_arrives() {
    let scene = Scene::after(HOSTED);
    let topology = scene.deployment.topology();
    let far = narrow_leg(&scene);
    let files: SocketAddr = "10.2.0.2:8081".parse().expect("an address");
    let page = "x".repeat(LENGTH);
    let _server = HttpServer::start(&topology.server, files, &page).expect("served");
    scene.rules("- { id: echo, from: local, to: lan, protocol: udp, action: accept }");
    let intercept = |protocol: &str, port: u16| {
        format!(
            r#"{{"protocols":["{protocol}"],"addresses":["172.20.1.2","fd77::9"],"portRanges":[{{"low":{port},"high":{port}}}]}}"#
        )
    };
    let host = r#"{"protocol":"tcp","address":"10.2.0.2","port":8081}"#;
    scene.service("page", &intercept("tcp", 80), host);
    let host = r#"{"protocol":"udp","address":"10.2.0.2","port":5353}"#;
    scene.service("long-answers", &intercept("udp", 5353), host);
    let _answering = answer_at_length(&topology.server);

    for (destination, own) in [("172.20.1.2", FAR[0]), ("fd77::9", FAR[1])] {
        let to: IpAddr = destination.parse().expect("an address");
        scene.is_carried(&format!("tcp {own} > {}", SocketAddr::new(to, 80)));
        let before = too_big(&topology.client);
        let url = format!("http://{}/", SocketAddr::new(to, 80));
        let got = far.shell(&format!("curl --silent --show-error --max-time 20 -g {url}"));
        assert_eq!(got.expect("a page").len(), LENGTH, "{to}");
        assert!(too_big(&topology.client) > before, "nothing was too big on the way to {to}");

        let bind = || UdpSocket::bind(SocketAddr::new(own.parse().expect("an address"), 0));
        let socket = far.enter(bind).expect("entered").expect("bound");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("set");
        until("a long answer", LONG, || {
            socket.send_to(b"?", (to, 5353))?;
            Ok(socket.recv(&mut [0; 2 * DATAGRAM]).ok().filter(|length| *length == DATAGRAM))
        })
        .unwrap_or_else(|error| panic!("{to}: {error:#}"));
    }
}

#[test]
fn what_is_forwarded_to_a_narrow_way_out_arrives() {
    let scene = Scene::after(HOSTED);
    scene.let_out();
    let topology = scene.deployment.topology();
    topology.gateway_a.ip(&format!("link set und0 mtu {NARROW}")).expect("set");
    for server in address::PUBLIC {
        let server = SocketAddr::new(server.parse().expect("an address"), 80);
        let listener = topology.public.enter(|| TcpListener::bind(server));
        let listener = listener.expect("entered").expect("bound");
        let receiving = thread::spawn(move || -> std::io::Result<usize> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(LONG))?;
            stream.read_to_end(&mut Vec::new())
        });
        let before = too_big(&topology.gateway_a);
        let connect = || TcpStream::connect_timeout(&server, LONG);
        let mut stream = topology.client.enter(connect).expect("entered").expect("connected");
        stream.write_all(&vec![7; LENGTH]).expect("sent");
        drop(stream);
        assert_eq!(receiving.join().expect("a receiver").expect("received"), LENGTH, "{server}");
        assert!(
            too_big(&topology.gateway_a) > before,
            "nothing was too big on the way to {server}"
        );
    }
    // What the gateway itself sends, the circuits, goes through the same narrow way.
    assert!(scene.answers(SocketAddr::new(scene.resolve("web.corp"), 80)));
}

/// A network behind the client, which can only take short packets from it.
fn narrow_leg(scene: &Scene) -> Namespace {
    let topology = scene.deployment.topology();
    let (client, far) = (&topology.client, Namespace::new("far").expect("a namespace"));
    veth((client, "leg0"), (&far, "eth0")).expect("a leg");
    client.ip(&format!("link set leg0 mtu {NARROW}")).expect("set");
    for (family, length) in [(0, 24), (1, 64)] {
        client.add_address("leg0", &format!("{}/{length}", NEAR[family])).expect("an address");
        far.add_address("eth0", &format!("{}/{length}", FAR[family])).expect("an address");
        far.add_route("default", NEAR[family]).expect("a route");
        let network = ["10.1.7.0/24", "fd00:7::/64"][family];
        topology.gateway_a.add_route(network, address::CLIENT[family]).expect("a route");
    }
    client.set("net/ipv4/ip_forward", "1").expect("set");
    client.set("net/ipv6/conf/all/forwarding", "1").expect("set");
    far
}

/// Answers each datagram with a long one, as long as the test runs.
fn answer_at_length(server: &Namespace) -> thread::JoinHandle<()> {
    let bind = || UdpSocket::bind("10.2.0.2:5353");
    let socket = server.enter(bind).expect("entered").expect("bound");
    thread::spawn(move || {
        while let Ok((_, client)) = socket.recv_from(&mut [0; 64]) {
            if socket.send_to(&[7; DATAGRAM], client).is_err() {
                return;
            }
        }
    })
}

/// How often a namespace could not forward a packet because it was too big, snmp_counter.rst of Linux.
fn too_big(namespace: &Namespace) -> u64 {
    let v4 = namespace.shell("cat /proc/net/snmp").expect("counters");
    let mut lines = v4.lines().filter(|line| line.starts_with("Ip: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut both = names.split_whitespace().zip(values.split_whitespace());
    let (_, v4) = both.find(|(name, _)| *name == "FragFails").expect("a counter");
    let v6 = namespace.shell("cat /proc/net/snmp6").expect("counters");
    let v6 = v6.lines().find_map(|line| line.strip_prefix("Ip6InTooBigErrors")).expect("a counter");
    v4.parse::<u64>().expect("a number") + v6.trim().parse::<u64>().expect("a number")
}
