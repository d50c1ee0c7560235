//! Tunnels of others that carry packets between the gateways.

use anyhow::{Context as _, Result};
use nightgate_lab::{Namespace, Process, run, temporary_folder};

use super::{
    contender::Contender,
    peers::contender,
    topology::{PORT, Topology, address},
};

/// The gateways inside the tunnel (RFC 1918).
const INSIDE: [&str; 2] = ["10.3.0.1", "10.3.0.2"];
/// Networks behind the gateways.
const BEHIND: [&str; 2] = ["10.1.0.0/24", "10.2.0.0/24"];
/// Gateways on the underlay.
const OUTSIDE: [&str; 2] = [address::UNDERLAY_A, address::UNDERLAY_B];
/// Where tunnels listen.
const TUNNEL_PORT: u16 = 51_820;

/// Debian's nebula.
pub(super) fn nebula() -> Result<Contender> {
    let topology = Topology::new()?;
    let folder = temporary_folder()?;
    let certify = |words: &str| {
        let mut command = nightgate_lab::program("nebula-cert");
        run(command.current_dir(folder.path()).args(words.split_whitespace()))
    };
    certify("ca -name bench")?;
    let mut processes = Vec::new();
    for (own, gateway) in topology.gateways().into_iter().enumerate() {
        let (other, name) = (1 - own, ["a", "b"][own]);
        certify(&format!("sign -name {name} -ip {}/24 -subnets {}", INSIDE[own], BEHIND[own]))?;
        let text = format!(
            "pki: {{ ca: ca.crt, cert: {name}.crt, key: {name}.key }}
static_host_map: {{ '{inside}': ['{outside}:{TUNNEL_PORT}'] }}
lighthouse: {{ am_lighthouse: false }}
listen: {{ host: '{own_outside}', port: {TUNNEL_PORT} }}
tun: {{ dev: neb0, mtu: 1300, tx_queue: 1000, unsafe_routes: [{{ route: {behind}, via: {inside} }}] }}
firewall:
  outbound: [{{ port: any, proto: any, host: any }}]
  inbound: [{{ port: any, proto: any, host: any }}]
logging: {{ level: error }}
",
            inside = INSIDE[other],
            outside = OUTSIDE[other],
            own_outside = OUTSIDE[own],
            behind = BEHIND[other],
        );
        std::fs::write(folder.path().join(format!("{name}.yaml")), text)?;
        gateway.set("net/ipv4/ip_forward", "1")?;
        let mut command = gateway.command("nebula");
        command.current_dir(folder.path()).args(["-config", &format!("{name}.yaml")]);
        processes.push(Process::spawn(name, command, folder.path())?);
    }
    contender(topology, processes, (address::SERVER, PORT), folder)
}

/// Debian's wireguard-go.
pub(super) fn wireguard_go() -> Result<Contender> {
    wireguard(&["wireguard-go", "-f"], "wgg")
}

/// boringtun's own program, as `cargo install` builds it.
pub(super) fn boringtun() -> Result<Contender> {
    wireguard(&["boringtun-cli", "-f", "--disable-drop-privileges"], "wgb")
}

/// A WireGuard in userspace. Its interfaces need names of their own, because their sockets are in one folder.
fn wireguard(words: &[&str], prefix: &str) -> Result<Contender> {
    let topology = Topology::new()?;
    let folder = temporary_folder()?;
    let keys = [key(&folder)?, key(&folder)?];
    let mut processes = Vec::new();
    for (own, gateway) in topology.gateways().into_iter().enumerate() {
        let name = ["a", "b"][own];
        let interface = format!("{prefix}{name}");
        let mut command = gateway.command(words[0]);
        command.args(&words[1..]).arg(&interface).env("WG_PROCESS_FOREGROUND", "1");
        let mut process = Process::spawn(name, command, folder.path())?;
        process.wait_until("socket of the tunnel", super::PATIENCE, |_| {
            Ok(gateway.shell(&format!("wg show {interface}")).is_ok().then_some(()))
        })?;
        configure(gateway, &interface, own, &keys)?;
        processes.push(process);
    }
    let way = |end: usize| format!("dev {prefix}{}", ["a", "b"][end]);
    topology.forward([&way(1), &way(0)])?;
    contender(topology, processes, (address::SERVER, PORT), folder)
}

/// A private key's file, and the public key.
fn key(folder: &tempfile::TempDir) -> Result<(std::path::PathBuf, String)> {
    let private = nightgate_lab::shell("wg genkey")?;
    let file = tempfile::Builder::new().tempfile_in(folder.path())?.into_temp_path().keep()?;
    std::fs::write(&file, &private)?;
    let public = nightgate_lab::program("sh")
        .args(["-c", "wg pubkey < \"$0\""])
        .arg(&file)
        .output()
        .context("start wg")?;
    Ok((file, String::from_utf8(public.stdout)?.trim().to_owned()))
}

fn configure(
    gateway: &Namespace,
    interface: &str,
    own: usize,
    keys: &[(std::path::PathBuf, String); 2],
) -> Result<()> {
    let other = 1 - own;
    let (private, public) = (keys[own].0.display(), &keys[other].1);
    gateway.shell(&format!(
        "wg set {interface} listen-port {TUNNEL_PORT} private-key {private} peer {public} endpoint {}:{TUNNEL_PORT} \
         allowed-ips {}/32,{}",
        OUTSIDE[other], INSIDE[other], BEHIND[other]
    ))?;
    gateway.add_address(interface, &format!("{}/24", INSIDE[own]))?;
    gateway.ip(&format!("link set {interface} up")).map(drop)
}
