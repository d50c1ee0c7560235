//! Scenes of gateway A's firewall: a client behind it, a public server and an attacker before it.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    configuration::GATEWAY_A,
    deployment::{Deployment, PATIENCE},
    topology::address,
};
use crate::{namespace::Namespace, wait::until};

/// How long to wait for an answer that should not come.
const SILENCE: Duration = Duration::from_millis(300);
/// What the server says.
const GREETING: &[u8] = b"welcome";

/// Ports of the public server: accepted, rejected, dropped.
const WEB: u16 = 80;
const MAIL: u16 = 25;
const TELNET: u16 = 23;
/// Port of a service of the gateway.
const NOTES: u16 = 7000;
/// Datagrams of the attacker, and how many of them its rule lets through.
const FLOOD: u32 = 200;
const BURST: u32 = 5;
/// The public server's address for the service.
const OTHER_SOURCE: [&str; 2] = [address::PUBLIC[0], "2001:db8:50::50"];

/// Rules for the client's way out, before those that the gateway has.
const RULES: &str = "rules:
  - { id: web, from: lan, to: wan, protocol: tcp, destination_ports: [80], action: accept }
  - { id: no-mail, from: lan, to: wan, protocol: tcp, destination_ports: [25], action: reject }
  - { id: no-telnet, from: lan, to: wan, protocol: tcp, destination_ports: [23], action: drop }
  - { id: notes, from: wan, to: local, protocol: udp, destination_ports: [7000], action: accept,
      limit: { rate: 1/min, burst: 5, per: source } }
";

/// The public server knows no way to the client: it answers to the gateway's address.
const NAT: &str = "nat:
  source:
    - { id: out, from: lan, to: wan, becomes: masquerade }
";

/// The client reaches the public server as soon as a rule accepts it.
pub(super) fn accept(deployment: &mut Deployment) -> Result<String> {
    let gateway = &deployment.topology.gateway_a;
    gateway.set("net/ipv4/ip_forward", "1")?;
    gateway.set("net/ipv6/conf/all/forwarding", "1")?;
    for (lan, gateway) in ["10.1.0.0/24", "fd00:1::/64"].into_iter().zip(address::UNDERLAY_A) {
        deployment.topology.attacker.add_route(lan, gateway)?;
    }
    let before = visit(deployment, WEB);
    ensure!(is_silence(&before), "without a rule: {before:?}");
    let file = rules(deployment, "firewall.yaml", RULES)?;
    deployment.ask(GATEWAY_A, &format!("fw apply {file}"))?;
    let peer = visit(deployment, WEB).context("with a rule")?.ip();
    let (client, outside) =
        (ip(deployment, address::CLIENT)?, ip(deployment, address::UNDERLAY_A)?);
    ensure!(peer == outside, "the server saw {peer}, not the gateway's {outside}");
    Ok(format!("silence before, then the greeting; the server saw {peer}, not {client}"))
}

/// Two ways to refuse, and what somebody outside gets.
pub(super) fn refuse(deployment: &mut Deployment) -> Result<String> {
    let begin = Instant::now();
    let mail = visit(deployment, MAIL);
    let took = begin.elapsed();
    ensure!(
        mail.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused),
        "port {MAIL}: {mail:?}"
    );
    let telnet = visit(deployment, TELNET);
    ensure!(is_silence(&telnet), "port {TELNET}: {telnet:?}");
    let attacker = &deployment.topology.attacker;
    for (target, port) in [(address::UNDERLAY_A, 22), (address::CLIENT, WEB)] {
        let target = SocketAddr::new(ip(deployment, target)?, port);
        let attempt = attacker.enter(|| TcpStream::connect_timeout(&target, SILENCE))?;
        ensure!(
            attempt.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut),
            "the attacker at {target}: {attempt:?}"
        );
    }
    Ok(format!(
        "port {MAIL} refused after {} ms, port {TELNET} silent; gateway and client silent to the attacker",
        took.as_millis()
    ))
}

/// A service of the gateway is open to the world, but not to a flood from one source.
pub(super) fn limit(deployment: &mut Deployment) -> Result<String> {
    let service = SocketAddr::new(ip(deployment, address::UNDERLAY_A)?, NOTES);
    let topology = &deployment.topology;
    // Limits take the hosts of an IPv6 /64 for one source, so the other source has one of its own.
    topology.public.add_address("eth0", &format!("{}/64", OTHER_SOURCE[1]))?;
    topology.gateway_a.ip("-6 route add 2001:db8:50::/64 dev und0")?;
    let other = ip(deployment, OTHER_SOURCE)?;
    let receiver = inside(&topology.gateway_a, || UdpSocket::bind(service))?;
    receiver.set_read_timeout(Some(SILENCE))?;
    let flood = || {
        // Each from a port of its own, and so a flow of its own: none is closed before the last.
        let mut sockets = Vec::new();
        for _ in 0..FLOOD {
            let socket = UdpSocket::bind((unspecified(service), 0))?;
            socket.send_to(b"flood", service)?;
            sockets.push(socket);
        }
        Ok(())
    };
    inside(&topology.attacker, flood)?;
    inside(&topology.public, || UdpSocket::bind((other, 0))?.send_to(b"note", service))?;
    let (mut flooded, mut noted) = (0, 0);
    let mut datagram = [0; 8];
    while let Ok(length) = receiver.recv(&mut datagram) {
        if &datagram[..length] == b"note" { noted += 1 } else { flooded += 1 }
    }
    ensure!(flooded == BURST, "{flooded} datagrams of the attacker came through, not {BURST}");
    ensure!(noted == 1, "the other source's datagram did not come through");
    deployment.wait_for_answer(GATEWAY_A, "fw drops", "rate-limited")?;
    Ok(format!("{flooded} of the attacker's {FLOOD} came through, and the other source's only one"))
}

/// Three mistakes, three errors.
pub(super) fn refuse_bad_file(deployment: &mut Deployment) -> Result<String> {
    const MISTAKES: &str = "rules:
  - { id: web, from: lan, to: wan, protocol: tcp, destination_ports: [70000], action: accept }
  - { id: hosts, from: lan, to: wan, source: 10.1.0.7/24, action: accept }
  - { id: odd, from: lan, to: wan, prio: 7, action: allow }
";
    let file = rules(deployment, "bad.yaml", MISTAKES)?;
    let output = deployment.question(GATEWAY_A, &format!("fw apply {file}")).output()?;
    ensure!(!output.status.success(), "the file was taken");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for mistake in ["70000", "10.1.0.0/24", "prio", "allow"] {
        ensure!(said.contains(mistake), "nothing said about {mistake}: {said}");
    }
    visit(deployment, WEB).context("with the rules before")?;
    let socket = format!("{}: ", deployment.socket(GATEWAY_A).display());
    let said = said.replace(&socket, "").replace(&file, "bad.yaml");
    Ok(format!("the client still gets through\n{said}"))
}

/// Rules that would shut the client out come for a second only.
pub(super) fn undo(deployment: &mut Deployment) -> Result<String> {
    let shut = RULES.replace("[80], action: accept", "[80], action: drop");
    let file = rules(deployment, "shut.yaml", &shut)?;
    deployment.ask(GATEWAY_A, &format!("fw apply {file} --confirm 1s"))?;
    let begin = Instant::now();
    let shut = visit(deployment, WEB);
    ensure!(is_silence(&shut), "with the new rules: {shut:?}");
    until("way out after the rollback", PATIENCE, || Ok(visit(deployment, WEB).ok()))?;
    let took = begin.elapsed().as_secs_f64();
    Ok(format!("`fw apply --confirm 1s` shut the client out; open again after {took:.1} s"))
}

/// The counters of what the scenes before did.
pub(super) fn count(deployment: &mut Deployment) -> Result<String> {
    let mut seen = String::from("packets by rule, and refused by reason\n");
    let rules = deployment.ask(GATEWAY_A, "fw show")?;
    let wanted = ["RULE", "web ", "no-mail ", "no-telnet ", "notes "];
    for line in rules.lines().filter(|line| wanted.iter().any(|start| line.starts_with(start))) {
        seen.push_str(line.trim_end());
        seen.push('\n');
    }
    for rule in &wanted[1..] {
        ensure!(seen.contains(rule), "no counter of {rule}: {rules}");
    }
    let drops = deployment.wait_for_answer(GATEWAY_A, "fw drops", "no-rule")?;
    Ok(seen + &drops)
}

/// Writes the gateway's configuration with other rules before its own; returns the file's path.
fn rules(deployment: &Deployment, name: &str, rules: &str) -> Result<String> {
    let own = deployment.file(&format!("{GATEWAY_A}.yaml"));
    let text = std::fs::read_to_string(&own).with_context(|| format!("read {}", own.display()))?;
    let path = deployment.write(name, &(text.replace("rules:\n", rules) + NAT))?;
    Ok(path.display().to_string())
}

/// The client connects to the public server and is greeted; returns whom the server saw.
fn visit(deployment: &Deployment, port: u16) -> io::Result<SocketAddr> {
    let server = SocketAddr::new(ip(deployment, address::PUBLIC).map_err(io::Error::other)?, port);
    let listener = inside(&deployment.topology.public, || TcpListener::bind(server))?;
    let connect = || TcpStream::connect_timeout(&server, SILENCE);
    let mut client = inside(&deployment.topology.client, connect)?;
    let (mut connection, peer) = listener.accept()?;
    connection.write_all(GREETING)?;
    client.set_read_timeout(Some(PATIENCE))?;
    let mut greeting = [0; GREETING.len()];
    client.read_exact(&mut greeting)?;
    if greeting == GREETING { Ok(peer) } else { Err(io::Error::other("another greeting")) }
}

fn inside<T: Send>(
    namespace: &Namespace,
    run: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    namespace.enter(run).map_err(io::Error::other)?
}

/// The address to bind to that says nothing, of the other's family.
fn unspecified(other: SocketAddr) -> IpAddr {
    match other {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn is_silence(visit: &io::Result<SocketAddr>) -> bool {
    visit.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut)
}

fn ip(deployment: &Deployment, addresses: [&'static str; 2]) -> Result<IpAddr> {
    deployment.family.of(addresses).parse().context("an address of the topology")
}
