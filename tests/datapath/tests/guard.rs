//! Guards of zones on a wire: blocked sources and floods, and that guards come and go with the rules.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use nightgate_abi::Reason::{self, Blocked, Flood};
use nightgate_datapath::{Datapath, GuardMode, Pins};
use nightgate_datapath_tests::{LAN, WAN, gateway_namespace};
use nightgate_lab::{BpfFileSystem, Namespace, temporary_folder, until};
use nightgate_ruleset::{FlowTables, MapImage, ZoneName, compile};
use socket2::{Domain, Socket, Type};

/// Addresses of the client, the gateway's beside them.
const HOSTS: [(&str, &str); 6] = [
    ("10.1.0.2", "10.1.0.1"),
    ("10.1.0.3", "10.1.0.1"),
    ("10.1.0.4", "10.1.0.1"),
    ("2001:db8:1::2", "2001:db8:1::1"),
    ("2001:db8:1::3", "2001:db8:1::1"),
    ("2001:db8:1:1::4", "2001:db8:1::1"),
];
/// A connection that is refused silently is waited for this long.
const SILENCE: Duration = Duration::from_millis(300);
/// What has to happen may take this long.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn blocked_sources_are_refused_and_allowed_ones_among_them_are_not() {
    let scene = Scene::new();
    scene.inside(|datapath| {
        datapath.commit(&image("")).expect("commit");
        assert!(HOSTS.iter().all(|(host, _)| scene.reaches(host, PATIENCE)));
        let guard = "block: [10.1.0.0/24, '2001:db8:1::/126'], allow: [10.1.0.3, '2001:db8:1::3']";
        datapath.commit(&image(guard)).expect("commit");
        for host in ["10.1.0.3", "2001:db8:1::3", "2001:db8:1:1::4"] {
            assert!(scene.reaches(host, PATIENCE), "{host}");
        }
        for host in ["10.1.0.2", "10.1.0.4", "2001:db8:1::2"] {
            assert!(!scene.reaches(host, SILENCE), "{host}");
        }
        assert!(count(datapath, Blocked) >= 3);
        let drops = datapath.drops().expect("drops");
        assert!(drops.iter().any(|drop| format!("{drop:?}").contains("Blocked")), "{drops:?}");
    });
}

#[test]
fn a_guard_comes_and_goes_with_the_rules_and_outlives_the_process() {
    let scene = Scene::new();
    scene.inside(|datapath| {
        datapath.commit(&image("block: 10.1.0.2")).expect("commit");
        let guards: Vec<_> = datapath.guards().collect();
        assert!(
            matches!(guards[..], [(LAN, GuardMode::Native | GuardMode::Generic)]),
            "{guards:?}"
        );
    });
    assert!(scene.has_guard() && !scene.reaches("10.1.0.2", SILENCE), "the process is gone");
    scene.inside(|datapath| {
        datapath.commit(&image("block: [10.1.0.2, 10.1.0.3]")).expect("commit");
        assert_eq!(datapath.guards().collect::<Vec<_>>(), [(LAN, GuardMode::Inherited)]);
        assert!(!scene.reaches("10.1.0.3", SILENCE));
        datapath.drop_leftovers().expect("dropped");
        assert!(scene.has_guard());
        datapath.commit(&image("")).expect("commit");
        assert_eq!(datapath.guards().count(), 0);
        assert!(!scene.has_guard() && scene.reaches("10.1.0.2", PATIENCE), "nobody asks for it");
        datapath.commit(&image("block: 10.1.0.2")).expect("commit");
    });
    assert!(scene.has_guard());
    scene.pins().remove().expect("removed");
    assert!(!scene.has_guard(), "taken down");
}

#[test]
fn floods_of_one_source_are_refused_and_others_pass() {
    let scene = Scene::new();
    scene.inside(|datapath| {
        let floods = "allow: 10.1.0.4, flood: { syn: 1/h, udp: 3/h, icmp: 1000/s }";
        datapath.commit(&image(floods)).expect("commit");
        for host in ["10.1.0.2", "10.1.0.3", "2001:db8:1::2"] {
            assert!(scene.reaches(host, PATIENCE), "{host}: the first");
            assert!(!scene.reaches(host, SILENCE), "{host}: one too many");
        }
        assert!(!scene.reaches("2001:db8:1::3", SILENCE), "the same /64");
        assert!(scene.reaches("2001:db8:1:1::4", PATIENCE), "another");
        for _ in 0..3 {
            assert!(scene.reaches("10.1.0.4", PATIENCE), "allowed");
        }
        let before = count(datapath, Flood);
        scene.send_datagrams("10.1.0.2", 20);
        until("datagrams", PATIENCE, || Ok((count(datapath, Flood) >= before + 19).then_some(())))
            .expect("refused but for the burst");
    });
}

#[test]
fn a_hundred_thousand_prefixes_are_blocked() {
    let scene = Scene::new();
    scene.inside(|datapath| {
        let others =
            (0..99_998_u32).map(|n| format!("172.{}.{}.{}", 16 + (n >> 16), n >> 8 & 255, n & 255));
        let block: Vec<_> = others.chain(["10.1.0.2".into(), "2001:db8:1::2".into()]).collect();
        datapath
            .commit(&image(&format!(
                "block: [{}]",
                block.join(", ").replace("2001:db8:1::2", "'2001:db8:1::2'")
            )))
            .expect("commit");
        for (host, is_open) in [("10.1.0.2", false), ("2001:db8:1::2", false), ("10.1.0.3", true)] {
            let patience = if is_open { PATIENCE } else { SILENCE };
            assert_eq!(scene.reaches(host, patience), is_open, "{host}");
        }
    });
}

/// A gateway and a client behind its `lan`. What is declared first ends first.
struct Scene {
    client: Namespace,
    gateway: Namespace,
    _listeners: [TcpListener; 2],
    bpf: BpfFileSystem,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = temporary_folder().expect("a folder");
        let bpf = BpfFileSystem::mount(folder.path()).expect("mounted");
        let gateway = gateway_namespace();
        let client = Namespace::new("client").expect("a namespace");
        let far = format!("{LAN}-far");
        gateway.ip(&format!("link set {far} netns {}", client.name())).expect("moved");
        client.ip(&format!("link set {far} name {LAN} up")).expect("up");
        gateway.ip("-6 route add 2001:db8:1:1::/64 dev lan0").expect("a route");
        for (host, _) in HOSTS {
            let length = if host.contains(':') { 48 } else { 24 };
            client.add_address(LAN, &format!("{host}/{length}")).expect("an address");
        }
        let listen = |address| TcpListener::bind((address, 82)).expect("bound");
        let _listeners =
            gateway.enter(|| ["10.1.0.1", "2001:db8:1::1"].map(listen)).expect("entered");
        Self { client, gateway, _listeners, bpf, folder }
    }

    fn pins(&self) -> Pins {
        let pins = || Pins::of_gateway(self.bpf.path(), &self.folder.path().join("gw.sock"));
        self.gateway.enter(pins).expect("entered").expect("pins")
    }

    /// Runs a function with the programs attached; they stay when it returns.
    fn inside(&self, function: impl FnOnce(&mut Datapath) + Send) {
        let pins = self.pins();
        let run = || {
            let mut datapath = Datapath::open(pins, FlowTables::default())
                .expect("the kernel object: `cargo xtask build`");
            for (interface, name) in [(LAN, "lan"), (WAN, "wan")] {
                let zone = ZoneName::new(name).expect("a zone's name");
                datapath.attach(interface, &zone).expect("attach");
            }
            function(&mut datapath);
        };
        self.gateway.enter(run).expect("entered");
    }

    /// Whether one of the client's addresses can connect.
    fn reaches(&self, host: &str, patience: Duration) -> bool {
        let (host, server) = HOSTS.iter().find(|(candidate, _)| *candidate == host).expect("known");
        let connect = || {
            let local = SocketAddr::new(host.parse::<IpAddr>().expect("an address"), 0);
            let remote = SocketAddr::new(server.parse::<IpAddr>().expect("an address"), 82);
            let socket =
                Socket::new(Domain::for_address(remote), Type::STREAM, None).expect("a socket");
            socket.bind(&local.into()).expect("bound");
            let is_open = socket.connect_timeout(&remote.into(), patience).is_ok();
            drop(TcpStream::from(socket));
            is_open
        };
        self.client.enter(connect).expect("entered")
    }

    fn send_datagrams(&self, host: &str, count: usize) {
        let send = || {
            let socket = UdpSocket::bind((host, 0)).expect("bound");
            for _ in 0..count {
                socket.send_to(b"x", "10.1.0.1:9").expect("sent");
            }
        };
        self.client.enter(send).expect("entered");
    }

    /// Whether the kernel has an XDP program on the interface.
    fn has_guard(&self) -> bool {
        self.gateway.ip(&format!("link show {LAN}")).expect("shown").contains("xdp")
    }
}

fn image(guard: &str) -> MapImage {
    let text = format!(
        "version: 1\nrouter: {{ identity: gw.json }}\nzones:\n  lan: {{ interfaces: [{LAN}], {guard} }}\n  wan: {{ \
         interfaces: [{WAN}] }}\nrules:\n- {{ id: open, from: lan, to: local, protocol: tcp, destination_ports: \
         [82], action: accept }}\n"
    );
    let config = nightgate_config::parse(&text, "rules.yaml")
        .unwrap_or_else(|errors| panic!("{text:.2000}\n{errors:#?}"));
    compile(&config.gateway.expect("a gateway")).expect("within the limits").image()
}

fn count(datapath: &Datapath, reason: Reason) -> u64 {
    datapath.statistics().expect("statistics").get(reason).packets
}
