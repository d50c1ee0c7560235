//! Hosts with tunnelers: one hosts what it reaches and listens nowhere, programs of the other reach it.

use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::{Command, Output},
    thread,
};

use nightgate_lab::{Cgroup, HttpServer, Process, overlay::Programs, overlay::address, run};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{LONG, Scene};

const INTERCEPT: &str = r#"{"protocols":["tcp","udp"],"addresses":["10.77.0.1"],"portRanges":[{"low":8088,"high":8088}]}"#;
const HOST: &str = r#"{"forwardProtocol":true,"allowedProtocols":["tcp","udp"],"address":"192.0.2.50","port":8088}"#;
const EXCHANGE: &str = "import socket\n\
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)\n\
    for length in [0, 1, 0, 9, 1400]:\n\
    \ts.sendto(b'x' * length, ('10.77.0.1', 8088))\n\
    \tprint(length, len(s.recvfrom(9999)[0]))";

#[test]
fn a_host_that_listens_nowhere_hosts_what_programs_of_another_reach() {
    let scene = Scene::new();
    let topology = scene.deployment.topology();
    let server: SocketAddr = format!("{}:8088", address::PUBLIC[0]).parse().expect("an address");
    let web = HttpServer::start(&topology.public, server, "a hidden page").expect("served");
    let echo = topology.public.enter(|| UdpSocket::bind(server)).expect("entered").expect("bound");
    echo.set_read_timeout(Some(LONG)).expect("set");
    let answering = thread::spawn(move || {
        let mut buffer = [0; 65_535];
        for _ in 0..5 {
            let (length, client) = echo.recv_from(&mut buffer).expect("a datagram");
            echo.send_to(&buffer[..length], client).expect("answered");
        }
    });
    for name in ["hoster", "laptop"] {
        let token = scene.deployment.file(&format!("{name}.jwt"));
        let identity = scene.deployment.file(&format!("{name}.json"));
        scene.operate(&format!("identity create {name} --jwt-out {}", token.display()));
        scene.operate(&format!("enroll {} --out {}", token.display(), identity.display()));
    }
    scene.model("hidden", INTERCEPT, HOST, ["hoster", "laptop"]);

    let nightgate = Programs::find().expect("built").nightgate;
    let folder = scene.deployment.file("");
    let mut command = topology.sdk_host.command(&nightgate);
    command.args(["tunnel", "host", "--identity"]).arg(scene.deployment.file("hoster.json"));
    let metrics = scene.deployment.file("hoster-metrics.sock");
    command.arg("--metrics-socket").arg(&metrics);
    let asked = scene.deployment.file("hoster.sock");
    command.arg("--admin-socket").arg(&asked);
    let mut host = Process::spawn("host", command, &folder).expect("started");
    host.wait_for_output("hosting begins", LONG).expect("it hosts");
    let sockets = topology.sdk_host.shell("ss -H -lntu").expect("listed");
    assert_eq!(sockets, "", "the hosting host listens nowhere");

    let cgroup = Cgroup::new(&topology.attacker).expect("a cgroup");
    let mut dialer = dialer(&scene, &nightgate, &cgroup, &folder);
    let program = |program: &[&str]| cgroup.run(&topology.attacker, program).expect("run");
    let fetch = || program(&["curl", "-sS", "--max-time", "20", "http://10.77.0.1:8088/"]);
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let page = fetch();
    let logs = || format!("{}\n{}", host.log(), dialer.log());
    assert!(said(&page).contains("a hidden page"), "{page:?}\n{}", logs());
    let exchanged = program(&["python3", "-c", EXCHANGE]);
    assert_eq!(said(&exchanged), "0 0\n1 1\n0 0\n9 9\n1400 1400\n", "{exchanged:?}\n{}", logs());
    answering.join().expect("an echo");
    let mut flows = Command::new(&nightgate);
    flows.args(["tunnel", "flows", "--json", "--admin-socket"]).arg(&asked);
    is_told_of_as_hosted(&run(&mut flows).expect("asked"));

    drop(web);
    let refused = fetch();
    assert!(!refused.status.success(), "{refused:?}");
    let told = "connection-refused: connect to 192.0.2.50:8088";
    dialer.wait_for_output(told, LONG).expect("the dialing end learns why");
    let mut scrape = topology.sdk_host.command("curl");
    scrape.args(["-sS", "http://metrics/metrics", "--unix-socket"]).arg(&metrics);
    counts(&run(&mut scrape).expect("scraped"), "host");
    let mut ask = Command::new(&nightgate);
    ask.args(["metrics", "--socket"]).arg(scene.deployment.file("tunnel.sock"));
    counts(&run(&mut ask).expect("asked"), "dialer");
    dialer.stop(Signal::SIGTERM, LONG).expect("stopped");
    host.stop(Signal::SIGTERM, LONG).expect("stopped");
}

/// The flow of datagrams, which goes on for a while, is shown with who dialed it.
fn is_told_of_as_hosted(flows: &str) {
    let flows: Vec<Value> = serde_json::from_str(flows).expect("flows");
    let flow = flows.iter().find(|flow| flow["protocol"] == "udp").expect("a flow of datagrams");
    assert_eq!((&flow["service"], &flow["dialer"]), (&"hidden".into(), &"laptop".into()));
    assert_eq!(flow["destination"], "192.0.2.50:8088", "{flow:#}");
    assert_eq!((&flow["sent"], &flow["received"]), (&1_410.into(), &1_410.into()), "{flow:#}");
    assert_eq!(flow["process"], Value::Null, "no program of this host dialed it");
}

/// One connection and one flow of datagrams have been carried, and one connection refused.
fn counts(metrics: &str, end: &str) {
    let refused = r#"nightgate_circuits_refused_total{cause="connection-refused""#;
    for line in [
        &format!("nightgate_circuits_opened_total{{end=\"{end}\"}} 2\n"),
        &format!("{refused},end=\"{end}\"}} 1\n"),
        r#"nightgate_circuit_plaintext_bytes_total{direction="sent"}"#,
        r#"nightgate_circuit_plaintext_bytes_total{direction="received"}"#,
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

fn dialer(scene: &Scene, nightgate: &Path, cgroup: &Cgroup, folder: &Path) -> Process {
    let namespace = &scene.deployment.topology().attacker;
    // Not inside `ip netns exec`, which has another /sys.
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", namespace.name())).arg(nightgate);
    command.args(["tunnel", "run", "--identity"]).arg(scene.deployment.file("laptop.json"));
    command.arg("--cgroup").arg(cgroup.path());
    command.arg("--admin-socket").arg(scene.deployment.file("tunnel.sock"));
    let mut process = Process::spawn("dialer", command, folder).expect("started");
    process.wait_for_output("interception changed", LONG).expect("it intercepts");
    process
}
