//! What gateway A intercepts for its LAN and gateway B hosts: networks, wildcards, datagrams, over both families.

mod capture_files;
mod datagrams;
mod early;
mod explained;
mod flood;
mod flow_records;
mod hosted_mirror;
mod hosts;
mod pmtu;
mod restart;
mod scale;
mod second_factor;
mod sources;

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use nightgate_lab::{
    HttpServer,
    overlay::{Deployment, address, after},
    run, until,
};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

const LONG: Duration = Duration::from_secs(30);
/// Where the program of an identity reaches a service, on its own host.
const PROXY: &str = "127.0.0.1:8081";
/// Scenes until the gateways run.
const START: usize = 3;
/// Scenes until the client reaches the web server.
const HOSTED: usize = 6;

#[test]
fn a_killed_gateway_forwards_on_refuses_what_it_intercepted_and_intercepts_again() {
    let mut scene = Scene::after(HOSTED);
    scene.let_out();
    let public: SocketAddr = (address::PUBLIC[0].parse::<IpAddr>().expect("an address"), 80).into();
    let _server =
        HttpServer::start(&scene.deployment.topology().public, public, "a page").expect("served");
    let web = SocketAddr::new(scene.resolve("web.corp"), 80);
    assert!(scene.answers(web) && scene.answers(public));
    for family in ["ahostsv4", "ahostsv6"] {
        scene.echo(scene.look_up(family, "web.corp"));
    }
    let line = format!("fw explain tcp {} > web.corp:80", address::CLIENT[0]);
    let text = run(&mut scene.deployment.question("gw-a", &line)).expect("explained");
    for part in [
        "the private DNS answers",
        "intercepted for service web",
        "may dial it",
        "gw-a > r1 > gw-b",
        "a trial connection stood",
        "accept",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let line = format!("fw explain tcp {} > wob.corp:80", address::CLIENT[0]);
    let error = run(&mut scene.deployment.question("gw-a", &line)).expect_err("no such name");
    assert!(error.to_string().contains("no such name"), "{error:#}");

    scene.deployment.kill("gw-a").expect("killed");
    assert!(!scene.answers(web), "not intercepted, and not forwarded either");
    assert!(scene.answers(public), "the kernel forwards on");

    let started = Instant::now();
    scene.deployment.start_router("gateway", "gw-a").expect("started");
    println!("its operators are answered {:?} after the start", started.elapsed());
    until("an intercepted answer", LONG, || Ok(scene.answers(web).then_some(()))).expect("again");
    println!("intercepted again {:?} after the start", started.elapsed());
    assert!(scene.answers(public));
    assert_eq!(scene.resolve("web.corp"), web.ip(), "names keep their addresses");

    // Gateway B no longer knows the handshakes that gateway A's circuits rest on.
    assert!(scene.answers(web));
    scene.deployment.kill("gw-b").expect("killed");
    scene.deployment.start_router("gateway", "gw-b").expect("started");
    until("an answer of gateway B", LONG, || Ok(scene.answers(web).then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.deployment.log_tails(40)));
    let logs = scene.deployment.log_tails(100);
    assert!(logs.contains("the host knows no such line"), "{logs}");

    // By the model on its disk, while the controller is away.
    scene.deployment.kill("controller").expect("killed");
    scene.deployment.kill("gw-a").expect("killed");
    scene.deployment.start_router("gateway", "gw-a").expect("started");
    scene.wait("an answer without a controller", || Ok(scene.answers(web).then_some(())));
    // Nobody tells gateway A that gateway B hosts again.
    scene.deployment.kill("gw-b").expect("killed");
    scene.deployment.start_router("gateway", "gw-b").expect("started");
    scene.wait("an answer of a host that came back without a controller", || {
        Ok(scene.answers(web).then_some(()))
    });
}

/// The demo's network with running gateways.
struct Scene {
    deployment: Deployment,
}

impl Scene {
    fn new() -> Self {
        Self::after(START)
    }

    /// After so many scenes.
    fn after(scenes: usize) -> Self {
        let deployment = after(scenes).expect("a stage");
        Self { deployment }
    }

    /// Adds a rule to gateway B's.
    fn rules(&self, rule: &str) {
        let own = std::fs::read_to_string(self.deployment.file("gw-b.yaml")).expect("rules");
        let text = own.replace("rules:\n", &format!("rules:\n  {rule}\n"));
        let path = self.deployment.write("gw-b-rules.yaml", &text).expect("written");
        let line = format!("fw apply {}", path.display());
        run(&mut self.deployment.question("gw-b", &line)).expect("applied");
    }

    /// Lets the client reach the underlay, as the gateway.
    fn let_out(&self) {
        let own = std::fs::read_to_string(self.deployment.file("gw-a.yaml")).expect("rules");
        let out = "  - { id: out, from: lan, to: wan, action: accept }\n";
        let nat =
            "nat:\n  source: [{ id: out-as-gateway, from: lan, to: wan, becomes: masquerade }]\n";
        let text = own.replace("rules:\n", &format!("{nat}rules:\n{out}"));
        let path = self.deployment.write("gw-a.yaml", &text).expect("written");
        let line = format!("fw apply {}", path.display());
        run(&mut self.deployment.question("gw-a", &line)).expect("applied");
        let gateway = &self.deployment.topology().gateway_a;
        gateway.set("net/ipv4/ip_forward", "1").expect("set");
        gateway.set("net/ipv6/conf/all/forwarding", "1").expect("set");
    }

    /// Makes a service that gateway A intercepts and gateway B hosts, and waits until it does.
    fn service(&self, name: &str, intercept: &str, host: &str) {
        self.model(name, intercept, host, ["gw-b", "gw-a"]);
        let host = format!("explain dial gw-a {name}");
        self.wait("a terminator", || {
            let answer = self.deployment.ask_operator(&host)?;
            Ok(answer.contains("gw-b").then_some(()))
        });
    }

    /// Makes a service that the first identity may host and the second may dial.
    fn model(&self, name: &str, intercept: &str, host: &str, who: [&str; 2]) {
        self.model_of(name, &[("intercept.v1", intercept), ("host.v1", host)], who);
    }

    /// As [`Self::model`], of documents of any kind.
    fn model_of(&self, name: &str, documents: &[(&str, &str)], [hosts, dials]: [&str; 2]) {
        let mut service = format!("service create {name}");
        for (kind, document) in documents {
            let file = self.deployment.write(&format!("{name}.{kind}"), document).expect("written");
            let line = format!("config create {name}-{kind} {kind} --data {}", file.display());
            self.operate(&line);
            service += &format!(" --config {name}-{kind}");
        }
        self.operate(&service);
        for (what, who) in [("bind", hosts), ("dial", dials)] {
            let line =
                format!("policy create {name}-{what} {what} --identity @{who} --service @{name}");
            self.operate(&line);
        }
    }

    /// Waits until gateway A itself carries what the client sends: the controller knows of a service and its host before
    /// the gateway does.
    fn is_carried(&self, packet: &str) {
        self.wait(packet, || {
            let line = format!("fw explain {packet}");
            let answer = run(&mut self.deployment.question("gw-a", &line)).unwrap_or_default();
            Ok(answer.contains("a trial connection stood").then_some(()))
        });
    }

    fn wait(&self, what: &str, done: impl FnMut() -> anyhow::Result<Option<()>>) {
        until(what, LONG, done)
            .unwrap_or_else(|error| panic!("{error:#}\n{}", self.deployment.log_tails(40)));
    }

    /// Whether the client gets a page from an address.
    fn answers(&self, server: SocketAddr) -> bool {
        let request = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(3)))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page)?;
            Ok(page)
        };
        let client = &self.deployment.topology().client;
        client.enter(request).expect("entered").is_ok_and(|page| page.contains("200 OK"))
    }

    /// Whether the program of an identity gets a page.
    fn fetches(&self) -> bool {
        let host = &self.deployment.topology().sdk_host;
        host.shell(&format!("curl --silent --fail --max-time 5 http://{PROXY}/")).is_ok()
    }

    fn operate(&self, line: &str) -> String {
        let done = self.deployment.operator(line);
        done.unwrap_or_else(|error| panic!("{line}: {error:#}"))
    }

    /// A socket on the client's address of the family.
    fn client(&self, towards: IpAddr) -> UdpSocket {
        let [v4, v6] = address::CLIENT;
        let own: IpAddr = if towards.is_ipv4() { v4 } else { v6 }.parse().expect("an address");
        let bind = || UdpSocket::bind(SocketAddr::new(own, 0));
        let socket =
            self.deployment.topology().client.enter(bind).expect("entered").expect("bound");
        socket.set_read_timeout(Some(LONG)).expect("set");
        socket
    }

    /// Sends echo requests from the client until one is answered.
    fn echo(&self, to: IpAddr) {
        let (family, protocol, request) = match to {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128),
        };
        let client = &self.deployment.topology().client;
        client
            .set("net/ipv4/ping_group_range", "0 2147483647")
            .expect("echoes without raw sockets");
        let open = || socket(family, SockType::Datagram, SockFlag::empty(), protocol);
        let socket = UdpSocket::from(client.enter(open).expect("entered").expect("a socket"));
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("set");
        socket.connect((to, 0)).expect("connected");
        let mut message = [7; 64];
        message[..8].copy_from_slice(&[request, 0, 0, 0, 0, 0, 0, 1]);
        let mut answer = [0; 128];
        // Dials go by the links that the gateway has; echoes wait for the controller to know of them.
        self.wait("an answer to an echo request", || {
            socket.send(&message)?;
            let answered = socket.recv(&mut answer).is_ok_and(|it| answer[8..it] == message[8..]);
            Ok(answered.then_some(()))
        });
    }

    /// What the private DNS says about a name.
    fn resolve(&self, name: &str) -> IpAddr {
        self.look_up("ahostsv4", name)
    }

    fn look_up(&self, family: &str, name: &str) -> IpAddr {
        let client = &self.deployment.topology().client;
        until("an address", LONG, || {
            let found = client.shell(&format!("getent {family} {name}")).unwrap_or_default();
            Ok(found.split_whitespace().next().and_then(|address| address.parse().ok()))
        })
        .expect("an address")
    }
}
