//! Intercepted destinations: refused without a listener, delivered with one, over both families.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use nightgate_abi::{
    Family, INTERCEPT_MARK, Intercept, InterceptKey,
    Reason::{
        self, Forwarded, InterceptProtocol, Intercepted, ListenerGone, MirrorNoDevice, Mirrored,
        NoListener, NoRule, Sent,
    },
    flow::Phase,
};
use nightgate_datapath::IfIndex;
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, with_world};
use nightgate_lab::Namespace;
use socket2::{Domain, Protocol, Socket, Type};
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
            world.datapath.set_listener(SocketAddr::new(loopback, 9)).expect("set");
            assert_eq!(world.receive(LAN, &syn).reason, ListenerGone);
            world.datapath.clear_listener(family).expect("clear");
            assert_eq!(world.receive(LAN, &syn).reason, NoListener);
            world.datapath.remove_intercept(&key(TCP, service)).expect("remove");
            assert_eq!(world.receive(LAN, &syn).reason, NoRule, "no longer intercepted");
        }
    });
}

#[test]
fn intercepting_other_protocols_than_tcp_is_refused() {
    with_world(RULES, |world| {
        for (client, service, _) in FAMILIES {
            intercept(world, UDP, service, 0);
            assert_eq!(world.receive(LAN, &udp(client, service)).reason, InterceptProtocol);
            assert_eq!(world.receive(LAN, &tcp(client, service, SYN)).reason, NoRule);
        }
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
fn running_flows_notice_a_changed_table() {
    let rules = "- { id: both, from: lan, to: [wan, overlay], action: accept }";
    with_world(rules, |world| {
        for (client, service, _) in FAMILIES {
            let segment = tcp(client, service, ACK);
            assert_eq!(world.receive(LAN, &segment).reason, Forwarded);
            let table = BTreeMap::from([(key(TCP, service), Intercept::new(1, 0))]);
            world.datapath.set_intercepts(&table).expect("set");
            assert_eq!(world.receive(LAN, &segment).reason, NoListener);
            world.datapath.set_intercepts(&BTreeMap::new()).expect("set");
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
            world.datapath.set_intercepts(&BTreeMap::new()).expect("set");

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
            let listener = transparent_listener(loopback);
            world.datapath.set_listener(listener.local_addr().expect("bound")).expect("set");
            intercept(world, TCP, service, number);
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

fn transparent_listener(address: IpAddr) -> TcpListener {
    let address = SocketAddr::new(address, 0);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .expect("a socket");
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
    .expect("transparent");
    socket.bind(&address.into()).expect("bound");
    socket.listen(16).expect("listening");
    socket.into()
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
    for family in ["-4", "-6"] {
        world.namespace.ip(&format!("{family} rule add fwmark {INTERCEPT_MARK} lookup 100"))?;
        world.namespace.ip(&format!("{family} route add local default dev lo table 100"))?;
    }
    Ok(())
}

fn mirror_packets(mirror: &Namespace) -> u64 {
    let text = mirror.ip("-j -s link show mir1").expect("statistics");
    let statistics: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    statistics[0]["stats64"]["rx"]["packets"].as_u64().expect("a number")
}

fn intercept(world: &mut World<'_>, protocol: u8, service: &str, mirror_session: u16) {
    let value = Intercept::new(7, mirror_session);
    world.datapath.add_intercept(key(protocol, service), value).expect("added");
}

fn key(protocol: u8, service: &str) -> InterceptKey {
    let service: SocketAddr = service.parse().expect("an address");
    InterceptKey::new(protocol, service.ip().into(), service.port())
}

fn count(world: &World<'_>, reason: Reason) -> u64 {
    world.datapath.statistics().expect("statistics").get(reason).packets
}
