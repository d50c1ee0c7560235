//! Data that goes with dials between gateways, and between gateways and tunnelers.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nightgate_lab::{
    Namespace,
    overlay::{TUNNELER, address},
    run,
};

use super::{LONG, Scene};

/// What the server says first to everybody.
const GREETING: u8 = b'+';
/// More than goes with a dial.
const LENGTH: usize = 20_000;
/// Where the service is reached: addresses that no host has.
const PLACES: [&str; 2] = ["172.20.1.2:70", "[fd77::2]:70"];

#[test]
fn what_a_client_says_first_goes_with_the_dial_and_nothing_is_lost_or_doubled() {
    let scene = Scene::new();
    scene.rules("- { id: echo, from: local, to: lan, protocol: tcp, action: accept }");
    scene.echoes(&scene.deployment.topology().server, "10.2.0.2:7070", ["gw-b", "gw-a"]);
    scene.goes_with_dials(&scene.deployment.topology().client, ["gw-a", "gw-b"]);
}

#[test]
fn what_a_client_says_first_goes_with_the_dial_of_a_gateway_to_a_tunneler() {
    let mut scene = Scene::new();
    scene.enroll_tunneler();
    let server = &scene.deployment.topology().sdk_host;
    scene.echoes(server, "[::1]:7070", [TUNNELER, "gw-a"]);
    scene.deployment.start_tunneler("host", &[], "hosting begins").expect("it hosts");
    scene.goes_with_dials(&scene.deployment.topology().client, ["gw-a", TUNNELER]);
}

#[test]
fn what_a_program_says_first_goes_with_the_dial_of_a_tunneler_to_a_gateway() {
    let mut scene = Scene::new();
    scene.enroll_tunneler();
    scene.rules("- { id: echo, from: local, to: lan, protocol: tcp, action: accept }");
    scene.echoes(&scene.deployment.topology().server, "[fd00:2::2]:7070", ["gw-b", TUNNELER]);
    // Packets that have a way out are intercepted there, whoever sends them.
    let [v4, v6] = address::PUBLIC;
    let host = &scene.deployment.topology().sdk_host;
    host.add_route("172.16.0.0/12", v4).expect("a route");
    host.add_route("fd77::/64", v6).expect("a route");
    let options = ["--attach", "tc"];
    let started = scene.deployment.start_tunneler("run", &options, "interception changed");
    started.expect("it intercepts");
    scene.goes_with_dials(&scene.deployment.topology().sdk_host, [TUNNELER, "gw-b"]);
}

impl Scene {
    fn enroll_tunneler(&self) {
        let deployment = &self.deployment;
        let token = deployment.file("tunneler.jwt");
        let identity = deployment.file(&format!("{TUNNELER}.json"));
        self.operate(&format!("identity create {TUNNELER} --jwt-out {}", token.display()));
        self.operate(&format!("enroll {} --out {}", token.display(), identity.display()));
    }

    /// A server that greets and echoes, and its service, which lets data go with dials; the first identity may host
    /// it, the second may dial it.
    fn echoes(&self, on: &Namespace, at: &str, [hosts, dials]: [&str; 2]) {
        let server: SocketAddr = at.parse().expect("an address");
        let listener = on.enter(|| TcpListener::bind(server)).expect("entered").expect("bound");
        thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(echo));
        let (address, port) = (server.ip(), server.port());
        let host = format!(r#"{{"protocol":"tcp","address":"{address}","port":{port}}}"#);
        let documents = [
            ("end-to-end.v1", r#"{"method":"negotiated","earlyData":true}"#),
            (
                "intercept.v1",
                r#"{"protocols":["tcp"],"addresses":["172.16.0.0/12","fd77::/64"],"portRanges":[{"low":70,"high":70}]}"#,
            ),
            ("host.v1", &host),
        ];
        self.model_of("echo", &documents, [hosts, dials]);
    }

    /// Clients of a namespace talk to the service until data has gone with a dial.
    fn goes_with_dials(&self, clients: &Namespace, [dialer, host]: [&str; 2]) {
        let places = PLACES.map(|place| place.parse().expect("an address"));
        for to in places {
            self.wait("a greeting", || Ok(is_greeted(clients, to).then_some(())));
        }
        self.wait("data with a dial", || {
            for to in places {
                for (first, length) in
                    [(First::Client, LENGTH), (First::Client, 9), (First::Server, LENGTH)]
                {
                    talk(clients, to, first, length)
                        .with_context(|| format!("{length} bytes to {to}"))?;
                }
            }
            Ok((self.carried(host, "host") > 0).then_some(()))
        });
        assert_eq!(
            self.carried(dialer, "dialer"),
            self.carried(host, "host"),
            "both ends count the same"
        );
    }

    /// Bytes that went with dials, as a process counts them at this end.
    fn carried(&self, name: &str, end: &str) -> u64 {
        let metrics = run(&mut self.deployment.question(name, "metrics")).expect("metrics");
        let name = format!("nightgate_early_data_bytes_total{{end=\"{end}\"}} ");
        let bytes = metrics.lines().find_map(|line| line.strip_prefix(&name));
        bytes.map_or(0, |bytes| bytes.parse().expect("a number"))
    }
}

/// Whether the service answers yet.
fn is_greeted(client: &Namespace, to: SocketAddr) -> bool {
    let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(1));
    let Ok(mut stream) = client.enter(connect).expect("entered") else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(3))).expect("set");
    let mut byte = [0];
    stream.read_exact(&mut byte).is_ok() && byte == [GREETING]
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum First {
    Client,
    Server,
}

/// Sends bytes that are all different from their neighbours, and compares what comes back.
fn talk(client: &Namespace, to: SocketAddr, first: First, length: usize) -> anyhow::Result<()> {
    let mut stream = client.enter(|| TcpStream::connect(to))??;
    stream.set_read_timeout(Some(LONG))?;
    let greet = |stream: &mut TcpStream| {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("the greeting")?;
        ensure!(byte == [GREETING], "greeted by {byte:?}");
        Ok(())
    };
    if first == First::Server {
        greet(&mut stream)?;
    }
    let said: Vec<u8> = (0..length).map(|at| (at % 251).to_le_bytes()[0]).collect();
    stream.write_all(&said)?;
    stream.shutdown(Shutdown::Write)?;
    if first == First::Client {
        greet(&mut stream)?;
    }
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).context("the answer")?;
    ensure!(heard == said, "{} of {} bytes", heard.len(), said.len());
    Ok(())
}

fn echo(mut stream: TcpStream) {
    thread::spawn(move || {
        let mut reader = stream.try_clone()?;
        stream.write_all(&[GREETING])?;
        std::io::copy(&mut reader, &mut stream)?;
        stream.shutdown(Shutdown::Write)
    });
}
