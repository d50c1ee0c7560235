//! Relays of others, and nobody: what Nightgate is measured beside.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context as _, Result};
use nightgate_lab::{Impairment, Namespace, Process, temporary_folder};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

use super::{
    bare,
    contender::Contender,
    server::Server,
    topology::{PORT, Topology, address},
};

/// Where relays on gateway B listen for those on gateway A.
const RELAY_PORT: u16 = 7_443;

/// The gateways forward packets, and nothing else; the wire between them may be a bad one.
pub(super) fn plain(wire: Option<Impairment>) -> Result<Contender> {
    let topology = Topology::with(wire)?;
    topology.forward([
        &format!("via {}", address::UNDERLAY_A),
        &format!("via {}", address::UNDERLAY_B),
    ])?;
    contender(topology, Vec::new(), (address::SERVER, PORT), temporary_folder()?)
}

/// haproxy on both gateways, without encryption.
pub(super) fn haproxy_tcp() -> Result<Contender> {
    haproxy(["", ""])
}

/// haproxy on both gateways, with mutual TLS between them.
pub(super) fn haproxy_tls() -> Result<Contender> {
    let files = "crt peer.pem ca-file ca.pem verify required ssl-min-ver TLSv1.3";
    haproxy([&format!("ssl {files}"), &format!("ssl {files}")])
}

fn haproxy([to_b, from_a]: [&str; 2]) -> Result<Contender> {
    relays(["haproxy", "-db", "-f"], |[listen, connect], end| {
        let (bind, server) = match end {
            End::A => ("", to_b),
            End::B => (from_a, ""),
        };
        format!(
            "global\n  maxconn 8000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  \
             timeout server 60s\nlisten relay\n  bind {listen} {bind}\n  server next {connect} {server}\n"
        )
    })
}

/// stunnel on both gateways, with mutual TLS between them.
pub(super) fn stunnel() -> Result<Contender> {
    relays(["stunnel", "", ""], |[listen, connect], end| {
        let client = match end {
            End::A => "yes",
            End::B => "no",
        };
        format!(
            "foreground = yes\npid =\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n[relay]\nclient = {client}\n\
             accept = {listen}\nconnect = {connect}\ncert = peer.pem\nCAfile = ca.pem\nverifyChain = yes\n\
             sslVersionMin = TLSv1.3\n"
        )
    })
}

/// Two processes of this program that do the least that has to be done.
pub(super) fn bare() -> Result<Contender> {
    let own = std::env::current_exe().context("find this program")?;
    let own = own.to_str().context("a path that is not UTF-8")?;
    relays([own, bare::BARE, ""], bare::configuration)
}

/// A side of the underlay.
#[derive(Clone, Copy)]
pub(super) enum End {
    A,
    B,
}

/// One relay on each gateway: `words` and the file of its configuration start it, in the folder with certificates.
fn relays(words: [&str; 3], configuration: impl Fn([&str; 2], End) -> String) -> Result<Contender> {
    let topology = Topology::new()?;
    let folder = temporary_folder()?;
    certificates(folder.path())?;
    let entry = format!("{}:{PORT}", address::LAN_A);
    let between = format!("{}:{RELAY_PORT}", address::UNDERLAY_B);
    let server = format!("{}:{PORT}", address::SERVER);
    let start = |namespace: &Namespace, name: &str, places: [&str; 2], end| {
        let file = folder.path().join(format!("{name}.conf"));
        std::fs::write(&file, configuration(places, end))?;
        let mut command = namespace.command(words[0]);
        command.current_dir(folder.path());
        command.args(words[1..].iter().filter(|word| !word.is_empty())).arg(file);
        Process::spawn(name, command, folder.path())
    };
    let processes = vec![
        start(&topology.gateway_a, "a", [&entry, &between], End::A)?,
        start(&topology.gateway_b, "b", [&between, &server], End::B)?,
    ];
    contender(topology, processes, (address::LAN_A, PORT), folder)
}

/// `ca.pem`, and `peer.pem` with a key (P-256) that both relays use.
fn certificates(folder: &Path) -> Result<()> {
    let (ca_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name.push(DnType::CommonName, "ca");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = ca.self_signed(&ca_key)?;
    let mut peer = CertificateParams::new(vec!["peer".to_owned()])?;
    // Both have rcgen's name otherwise, and the peer's certificate looks as if it had signed itself.
    peer.distinguished_name.push(DnType::CommonName, "peer");
    let signed = peer.signed_by(&key, &rcgen::Issuer::new(ca, ca_key))?;
    std::fs::write(folder.join("ca.pem"), issuer.pem())?;
    let peer = format!("{}{}", signed.pem(), key.serialize_pem());
    std::fs::write(folder.join("peer.pem"), peer).context("write certificates")
}

/// All processes are the gateways'.
pub(super) fn contender(
    topology: Topology,
    processes: Vec<Process>,
    (address, port): (&str, u16),
    folder: tempfile::TempDir,
) -> Result<Contender> {
    Ok(Contender {
        gateways: processes.len(),
        processes,
        target: SocketAddr::new(address.parse()?, port),
        server: Server::start(&topology)?,
        topology,
        _bpf: None,
        _folder: folder,
    })
}
