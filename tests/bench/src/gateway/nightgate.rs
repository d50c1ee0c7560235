//! Nightgate with everything on: kernel firewall, interception, mutual TLS between the gateways, and
//! encryption from end to end.

use std::{fmt::Write as _, path::Path, process::Command};

use anyhow::{Context as _, Result};
use nightgate_lab::{BpfFileSystem, Namespace, Process, program, run, temporary_folder};

use super::{
    PATIENCE,
    contender::Contender,
    datagrams,
    server::Server,
    topology::{PORT, Topology, address},
};

/// Rules of each gateway before those that matter.
const OTHER_RULES: u32 = 996;

/// The port before those of routers.
const FIRST_ROUTER: u16 = 8_440;

/// How the gateways reach each other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Gateway B listens, gateway A dials it.
    Direct,
    /// Both only dial out; so many routers in a row are between them.
    Routers(u16),
}

/// Starts a controller, two gateways and the routers between them, all of this binary. The time and memory of
/// all but the controller counts.
pub(super) fn start(nightgate: &Path, topology: Topology, way: Way) -> Result<Contender> {
    start_with(nightgate, topology, way, |_| Ok(()))
}

/// As [`start`], with a service for datagrams beside that for connections.
pub(super) fn start_with_datagrams(nightgate: &Path, topology: Topology) -> Result<Contender> {
    start_with(nightgate, topology, Way::Direct, |setup| setup.create_datagram_service())
}

fn start_with(
    nightgate: &Path,
    topology: Topology,
    way: Way,
    more: fn(&Setup<'_>) -> Result<()>,
) -> Result<Contender> {
    let folder = temporary_folder()?;
    let bpf = BpfFileSystem::mount(folder.path())?;
    let setup = Setup { nightgate, topology: &topology, folder: folder.path(), bpf: bpf.path() };
    let controller = setup.controller()?;
    let mut processes = Vec::new();
    match way {
        Way::Direct => {
            processes.push(setup.gateway(&topology.gateway_a, "gw-a", "")?);
            let place = listening(&format!("{}:443", address::UNDERLAY_B));
            processes.push(setup.gateway(&topology.gateway_b, "gw-b", &place)?);
        }
        Way::Routers(count) => {
            processes.push(setup.gateway(
                &topology.gateway_a,
                "gw-a",
                "  links: { dial: [g1] }\n",
            )?);
            let last = format!("  links: {{ dial: [g{count}] }}\n");
            processes.push(setup.gateway(&topology.gateway_b, "gw-b", &last)?);
            for number in 1..=count {
                processes.push(setup.router(number, count)?);
            }
        }
    }
    let counted = processes.len();
    processes.push(controller);
    let server = format!("{}:{PORT}", address::SERVER);
    setup.operator(&format!("service create bench --intercept {server} --host {server}"))?;
    setup.operator("policy create b bind --identity @gw-b --service @bench")?;
    setup.operator("policy create d dial --identity @gw-a --service @bench")?;
    more(&setup)?;
    Ok(Contender {
        processes,
        gateways: counted,
        target: server.parse().context("an address")?,
        server: Server::start(&topology)?,
        topology,
        _bpf: Some(bpf),
        _folder: folder,
    })
}

/// A deployment of this binary in a folder.
pub(super) struct Setup<'a> {
    pub(super) nightgate: &'a Path,
    pub(super) topology: &'a Topology,
    pub(super) folder: &'a Path,
    /// File system that keeps the gateways' firewalls.
    pub(super) bpf: &'a Path,
}

impl Setup<'_> {
    /// Starts the controller.
    pub(super) fn controller(&self) -> Result<Process> {
        let namespace = &self.topology.controller;
        let mut command = namespace.command(self.nightgate);
        let address = format!("{}:443", address::CONTROLLER);
        command.args(["controller", "run", "--address", &address, "--dir"]);
        command.arg(self.folder.join("controller"));
        let mut process = Process::spawn("controller", command, self.folder)?;
        process.wait_until("listening controller", PATIENCE, |_| {
            let listening = namespace.shell("ss -Hlnt sport = :443")?;
            let ready = !listening.trim().is_empty() && self.administrator().exists();
            Ok(ready.then_some(()))
        })?;
        Ok(process)
    }

    /// A service of datagrams beside that of connections, for the same server.
    fn create_datagram_service(&self) -> Result<()> {
        let (server, port) = (address::SERVER, datagrams::PORT);
        for (kind, text) in [
            (
                "intercept.v1",
                format!(
                    "{{\"protocols\":[\"udp\"],\"addresses\":[\"{server}\"],\"portRanges\":[{{\"low\":{port},\"high\":{port}}}]}}"
                ),
            ),
            (
                "host.v1",
                format!("{{\"protocol\":\"udp\",\"address\":\"{server}\",\"port\":{port}}}"),
            ),
        ] {
            let file = self.folder.join(format!("datagrams.{kind}"));
            std::fs::write(&file, text)?;
            self.operator(&format!("config create {kind} {kind} --data {}", file.display()))?;
        }
        let line = "service create datagrams --config intercept.v1 --config host.v1";
        self.operator(line)?;
        self.operator("policy create db bind --identity @gw-b --service @datagrams")?;
        self.operator("policy create dd dial --identity @gw-a --service @datagrams").map(drop)
    }

    /// Creates and enrolls an identity; gives the path of its file.
    pub(super) fn identity(&self, name: &str) -> Result<String> {
        let file = |ending: &str| self.folder.join(format!("{name}.{ending}"));
        let (token, identity) = (file("jwt"), file("json"));
        let (token, identity) = (token.display(), identity.display());
        self.operator(&format!("identity create {name} --jwt-out {token}"))?;
        self.operator(&format!("enroll {token} --out {identity}"))?;
        Ok(identity.to_string())
    }

    /// Enrolls and runs a gateway; `keys` are further lines below `router:`.
    fn gateway(&self, namespace: &Namespace, name: &str, keys: &str) -> Result<Process> {
        self.run("gateway", (namespace, name), (keys, &rules(name)), "--tunneler")
    }

    /// Enrolls and runs one of the routers between the gateways: each dials the next.
    pub(super) fn router(&self, number: u16, count: u16) -> Result<Process> {
        let next = if number < count { format!("g{}", number + 1) } else { String::new() };
        let place = format!("{}:{}", address::CONTROLLER, FIRST_ROUTER + number);
        let links = format!("  links: {{ dial: [{next}], listen: [g{number}] }}\n");
        let keys = format!("{}{links}", listening(&place));
        let name = format!("r{number}");
        self.run("router", (&self.topology.controller, &name), (&keys, ""), "")
    }

    /// Enrolls and runs a router or gateway: `keys` are further lines below `router:`, `rest` further sections.
    pub(super) fn run(
        &self,
        role: &str,
        (namespace, name): (&Namespace, &str),
        (keys, rest): (&str, &str),
        options: &str,
    ) -> Result<Process> {
        let file = |ending: &str| self.folder.join(format!("{name}.{ending}"));
        let (token, identity) = (file("jwt"), file("json"));
        let (token, identity) = (token.display(), identity.display());
        let place = keys.split_once("advertise: '").and_then(|(_, rest)| rest.split_once('\''));
        let place = place.map_or_else(String::new, |(place, _)| format!("--advertise {place}"));
        self.operator(&format!("router create {name} {options} --jwt-out {token}"))?;
        self.operator(&format!("router enroll {token} --out {identity} {place}"))?;
        let socket = file("sock");
        let text = format!(
            "version: 1\nrouter:\n  identity: {name}.json\n{keys}admin_socket: {}\n{rest}",
            socket.display()
        );
        std::fs::write(file("yaml"), text)?;
        let mut command = namespace.command(self.nightgate);
        command.env("NIGHTGATE_BPFFS", self.bpf).env("NIGHTGATE_STATE", file("state"));
        command.args([role, "run", "--config"]).arg(file("yaml"));
        let mut process = Process::spawn(name, command, self.folder)?;
        let mut question = program(self.nightgate);
        question.arg("circuits").arg("--socket").arg(socket);
        process.wait_until(&format!("answer of {name}"), PATIENCE, |_| {
            Ok(question.output()?.status.success().then_some(()))
        })?;
        Ok(process)
    }

    /// Runs a command of the operator at the controller.
    pub(super) fn operator(&self, line: &str) -> Result<String> {
        let mut command: Command = self.topology.controller.command(self.nightgate);
        command.args(line.split_whitespace()).env("NIGHTGATE_IDENTITY", self.administrator());
        run(&mut command)
    }

    fn administrator(&self) -> std::path::PathBuf {
        self.folder.join("controller").join("admin.json")
    }
}

fn listening(place: &str) -> String {
    format!("  listen: '{place}'\n  advertise: '{place}'\n")
}

/// Zones and 1,000 rules of a gateway.
fn rules(name: &str) -> String {
    let mut text =
        "zones:\n  lan: { interfaces: [lan0] }\n  wan: { interfaces: [und0, ctl0] }\nrules:\n"
            .to_owned();
    for number in 0..OTHER_RULES {
        let (high, low, port) = (number / 250, number % 250, 1_000 + number);
        _ = writeln!(
            text,
            "- {{ id: r{number}, from: lan, to: wan, source: 10.9.{high}.{low}, protocol: tcp, \
             destination_ports: [{port}], action: accept }}"
        );
    }
    let up = format!("443, \"{}-{}\"", FIRST_ROUTER + 1, FIRST_ROUTER + 9);
    let own = match name {
        "gw-a" => [
            "{ id: overlay, from: lan, to: overlay, action: accept }".to_owned(),
            format!("{{ id: up, from: local, to: wan, protocol: tcp, destination_ports: [{up}], action: accept }}"),
            format!("{{ id: datagrams, from: lan, to: overlay, protocol: udp, destination_ports: [{}], action: accept }}", datagrams::PORT),
            "{ id: dns, from: lan, to: local, protocol: udp, destination_ports: [53], action: accept }".to_owned(),
        ],
        _ => [
            format!("{{ id: host, from: local, to: lan, protocol: tcp, destination_ports: [{PORT}], action: accept }}"),
            format!("{{ id: datagrams, from: local, to: lan, protocol: udp, destination_ports: [{}], action: accept }}", datagrams::PORT),
            format!("{{ id: up, from: local, to: wan, protocol: tcp, destination_ports: [{up}], action: accept }}"),
            "{ id: link, from: wan, to: local, protocol: tcp, destination_ports: [443], action: accept }".to_owned(),
        ],
    };
    own.iter().for_each(|rule| _ = writeln!(text, "- {rule}"));
    text
}
