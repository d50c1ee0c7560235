//! A gateway that hosts a service and reads alerts, the sensor behind it, and the attacker.

use std::{
    fs::File,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nightgate_identity::Identity;
use nightgate_lab::{
    BpfFileSystem, Checksums, Process, Suricata, program, run, temporary_folder, until,
};
use tempfile::TempDir;

use super::{
    super::{
        PATIENCE, binary,
        nightgate::Setup,
        topology::{PORT, Topology, address},
    },
    datagrams,
};

/// The identity that is cut off, and released.
const ATTACKER: &str = "mallory";
const GATEWAY: &str = "gw-b";
/// More than the model takes from the controller to the gateway.
const SETTLE: Duration = Duration::from_millis(250);
/// The service that it reaches.
pub(super) const SERVICE: &str = "web";
/// Where a request is an attack.
pub(super) const ATTACK: &str = "/attack";
const RULE: &str = "alert http any any -> any any (msg:\"attack\"; http.uri; content:\"/attack\"; priority:1; \
                    sid:2; rev:1;)\n";

/// All that runs. What is declared first ends first.
pub(super) struct Stage {
    _sensor: Suricata,
    _processes: [Process; 2],
    pub(super) topology: Topology,
    pub(super) attacker: Identity,
    binary: PathBuf,
    bpf: BpfFileSystem,
    folder: TempDir,
}

impl Stage {
    pub(super) fn new() -> Result<Self> {
        let (binary, topology, folder) = (binary()?, Topology::new()?, temporary_folder()?);
        let bpf = BpfFileSystem::mount(folder.path())?;
        let ids = folder.path().join("ids");
        let checksums = Checksums::OfKernel;
        let sensor = Suricata::start(&topology.gateway_b, "lan0", &ids, RULE, checksums)?;
        let path = folder.path();
        let setup =
            Setup { nightgate: &binary, topology: &topology, folder: path, bpf: bpf.path() };
        let controller = setup.controller()?;
        let place = format!("{}:443", address::UNDERLAY_B);
        let place = format!("  listen: '{place}'\n  advertise: '{place}'\n");
        let rest = configuration(&own_alerts(path), &sensor.events_file());
        let options = "--tunneler --attribute quarantine";
        let namespace = (&topology.gateway_b, GATEWAY);
        let gateway = setup.run("gateway", namespace, (&place, &rest), options)?;
        let server = format!("{}:{PORT}", address::SERVER);
        let (token, file) = (path.join("attacker.jwt"), path.join("attacker.json"));
        for line in [
            format!("service create {SERVICE} --host {server}"),
            format!("policy create b bind --identity @{GATEWAY} --service @{SERVICE}"),
            format!("identity create {ATTACKER} --jwt-out {}", token.display()),
            format!("enroll {} --out {}", token.display(), file.display()),
            format!("policy create d dial --identity @{ATTACKER} --service @{SERVICE}"),
        ] {
            setup.operator(&line)?;
        }
        let attacker = Identity::load(&file)?;
        let processes = [gateway, controller];
        Ok(Self { _sensor: sensor, _processes: processes, topology, attacker, binary, bpf, folder })
    }

    /// Writes what a sensor would say about a flow; gives the moment at which it is there.
    pub(super) fn alert(
        &self,
        protocol: &str,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Result<Instant> {
        let line = format!(
            "{{\"event_type\":\"alert\",\"src_ip\":\"{}\",\"src_port\":{},\"dest_ip\":\"{}\",\"dest_port\":{},\
             \"proto\":\"{protocol}\",\"alert\":{{\"signature_id\":1,\"signature\":\"probe\",\"severity\":1}}}}\n",
            client.ip(),
            client.port(),
            server.ip(),
            server.port()
        );
        let path = own_alerts(self.folder.path());
        let mut file = File::options().append(true).create(true).open(&path)?;
        file.write_all(line.as_bytes()).with_context(|| format!("write {}", path.display()))?;
        Ok(Instant::now())
    }

    /// Ends the quarantine of the attacker, once the controller has it there.
    pub(super) fn release(&self) -> Result<()> {
        let (path, bpf) = (self.folder.path(), self.bpf.path());
        let setup = Setup { nightgate: &self.binary, topology: &self.topology, folder: path, bpf };
        until("the quarantine at the controller", PATIENCE, || {
            // The gateway has to see that it is there, or it asks for it again.
            thread::sleep(SETTLE);
            Ok(setup.operator(&format!("quarantine release {ATTACKER}")).ok())
        })
        .map(drop)
    }

    /// Ends the quarantine of an address.
    pub(super) fn release_address(&self, address: SocketAddr) -> Result<()> {
        let mut command = program(&self.binary);
        command.args(["fw", "quarantine", "release", &address.ip().to_string(), "--socket"]);
        run(command.arg(self.folder.path().join(format!("{GATEWAY}.sock")))).map(drop)
    }
}

/// The file that the alerts of this program are in.
fn own_alerts(folder: &Path) -> PathBuf {
    folder.join("eve.json")
}

fn configuration(own: &Path, sensor: &Path) -> String {
    format!(
        "zones:\n  lan: {{ interfaces: [lan0] }}\n  wan: {{ interfaces: [und0, ctl0] }}\nrules:\n\
         - {{ id: host, from: local, to: lan, protocol: tcp, destination_ports: [{PORT}], action: accept }}\n\
         - {{ id: datagrams, from: lan, to: local, protocol: udp, destination_ports: [{}], action: accept }}\n\
         - {{ id: up, from: local, to: wan, protocol: tcp, destination_ports: [443], action: accept }}\n\
         - {{ id: link, from: wan, to: local, protocol: tcp, destination_ports: [443], action: accept }}\n\
         verdict:\n  alerts: [{{ eve: '{}' }}, {{ eve: '{}' }}]\n  policy: [{{ id: all, action: quarantine, for: 10m }}]\n  \
         actions_per_minute: 10000\n",
        datagrams::PORT,
        own.display(),
        sensor.display()
    )
}

/// Milliseconds since a moment.
pub(super) fn since(moment: Instant) -> f64 {
    milliseconds(moment.elapsed())
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
