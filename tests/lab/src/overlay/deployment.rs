//! The product's processes in the demo's network.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{
    access::Access,
    configuration,
    topology::{Family, Topology, address},
};
use crate::{
    BpfFileSystem, Capture, HttpServer, Namespace, Process,
    command::{program, run},
    process::memory,
    run::temporary_folder,
    wait::until,
};

/// How long anything may take that happens once: a start, an enrollment, a change of the model.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Where the programs are that take part.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The `nightgate` binary.
    pub nightgate: PathBuf,
    /// The SDK's example of an application that hosts a web page without listening.
    pub sdk_host: PathBuf,
    /// The SDK's example of a web client.
    pub sdk_client: PathBuf,
    /// Python with OpenZiti's client of 2022.
    pub openziti: PathBuf,
}

impl Programs {
    /// Finds them beside the running program, where cargo puts what it builds.
    ///
    /// # Errors
    /// They have not been built: `cargo xtask build` does.
    pub fn find() -> Result<Self> {
        let running = std::env::current_exe().context("find the running program")?;
        let folder = running
            .ancestors()
            .skip(1)
            .find(|folder| folder.join("nightgate").is_file())
            .context("no `nightgate` beside the running program: run `cargo xtask build`")?;
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        Ok(Self {
            openziti: checkout.join("target/openziti-2022/bin/python"),
            nightgate: folder.join("nightgate"),
            sdk_host: folder.join("examples").join(configuration::SDK_HOST_EXAMPLE),
            sdk_client: folder.join("examples").join(configuration::SDK_CLIENT_EXAMPLE),
        })
    }
}

/// Everything that runs. What is declared first ends first.
#[derive(Debug)]
pub struct Deployment {
    processes: Vec<Process>,
    /// On the switch of the underlay, from the first packet on.
    pub(crate) underlay: Capture,
    /// On the sensor, from the first packet on.
    pub(crate) sensor: Capture,
    /// The web server behind gateway B.
    _server: HttpServer,
    pub(crate) topology: Topology,
    /// Keeps the gateways' firewalls.
    bpf: BpfFileSystem,
    folder: TempDir,
    /// Of programs that may not look into that one.
    folders: Vec<TempDir>,
    /// What the demo's table says at the end.
    accesses: Vec<Access>,
    programs: Programs,
    /// What underlay, web server, sensor and name server are reached by.
    pub(crate) family: Family,
}

impl Deployment {
    /// Makes the network with captures and the web server; none of the product runs yet.
    ///
    /// # Errors
    /// The process is not root, or a tool is missing.
    pub fn new(programs: Programs, page: &str, family: Family) -> Result<Self> {
        let folder = temporary_folder()?;
        let topology = Topology::new()?;
        topology.client.set_resolver(family.of(address::GATEWAY_A))?;
        // A sensor that takes VXLAN, so that its kernel does not refuse the copies.
        topology.sensor.ip(&format!(
            "link add vxlan0 type vxlan id {} dstport 4789 local {}",
            configuration::MIRROR_VNI,
            family.of(address::SENSOR)
        ))?;
        topology.sensor.ip("link set vxlan0 up")?;
        let web = configuration::web_server(family).parse().context("address of the web server")?;
        Ok(Self {
            processes: Vec::new(),
            underlay: Capture::start("underlay", &topology.underlay, "br0", folder.path())?,
            sensor: Capture::start("sensor", &topology.sensor, "eth0", folder.path())?,
            _server: HttpServer::start(&topology.server, web, page)?,
            topology,
            bpf: BpfFileSystem::mount(folder.path())?,
            folder,
            folders: Vec::new(),
            accesses: Vec::new(),
            programs,
            family,
        })
    }

    /// The namespaces.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A file of this deployment.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Who reached what so far, and who did not.
    pub fn accesses(&self) -> &[Access] {
        &self.accesses
    }

    /// Adds a line to the demo's table.
    pub(super) fn note(&mut self, access: Access) {
        self.accesses.push(access);
    }

    /// Keeps a folder until the processes have ended.
    pub(super) fn keep(&mut self, folder: TempDir) {
        self.folders.push(folder);
    }

    /// Writes a file of this deployment.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Where a gateway or router listens for its operator.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.sock"))
    }

    /// Starts the controller and waits until it has made its keys and listens.
    pub(crate) fn start_controller(&mut self) -> Result<()> {
        let mut command = self.topology.controller.command(&self.programs.nightgate);
        let address = configuration::controller(self.family);
        command.args(["controller", "run", "--legacy-clients", "--address", &address, "--dir"]);
        command.arg(self.file("controller"));
        self.start("controller", command)?;
        let (admin, namespace) = (self.administrator(), self.topology.controller.name().to_owned());
        self.last()?.wait_until("listening controller", PATIENCE, |_| {
            let listening = listens(&namespace, 443)?;
            Ok((admin.exists() && listening).then_some(()))
        })
    }

    /// Starts a router or gateway and waits until its operator's socket answers.
    ///
    /// # Errors
    /// It ends before.
    pub fn start_router(&mut self, role: &str, name: &str) -> Result<()> {
        let command = self.role_command(role, "run", name);
        self.start(name, command)?;
        let mut question = program(&self.programs.nightgate);
        question.arg("circuits").arg("--socket").arg(self.socket(name));
        self.last()?.wait_until(&format!("answer of {name}"), PATIENCE, |_| {
            Ok(question.output()?.status.success().then_some(()))
        })
    }

    /// A command of a router or gateway about itself, such as `gateway down`, in its namespace.
    pub fn role_command(&self, role: &str, verb: &str, name: &str) -> Command {
        let mut command = self.namespace(name).command(&self.programs.nightgate);
        command.env("NIGHTGATE_BPFFS", self.bpf.path());
        command.env("NIGHTGATE_STATE", self.file("state"));
        command.args([role, verb, "--config"]).arg(self.file(&format!("{name}.yaml")));
        command
    }

    /// Folder where the gateways keep their firewalls.
    pub fn firewalls(&self) -> &Path {
        self.bpf.path()
    }

    /// Ends a process at once, as a crash does.
    ///
    /// # Errors
    /// There is no such process.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        let position = self.processes.iter().position(|process| process.name() == name);
        let position = position.with_context(|| format!("no process {name}"))?;
        self.processes.remove(position).stop(Signal::SIGKILL, PATIENCE).map(drop)
    }

    /// Resident memory of a process in KiB (VmRSS of proc_pid_status(5)).
    ///
    /// # Errors
    /// There is no such process.
    pub fn resident(&self, name: &str) -> Result<u64> {
        let process = self.processes.iter().find(|process| process.name() == name);
        let id = process.with_context(|| format!("no process {name}"))?.id();
        memory(id, "VmRSS")
    }

    /// Starts the application that hosts without listening.
    pub(crate) fn start_sdk_host(&mut self, identity: &Path) -> Result<()> {
        let mut command = self.topology.sdk_host.command(&self.programs.sdk_host);
        command.arg(identity).arg(configuration::DARK_SERVICE);
        self.start("sdk-host", command)
    }

    /// Starts a program that brings a service to a port of the SDK host.
    ///
    /// # Errors
    /// It ends before it does.
    pub fn start_proxy(&mut self, identity: &Path, service: &str, at: &str) -> Result<()> {
        let mut command = self.topology.sdk_host.command(&self.programs.nightgate);
        command.arg("proxy").arg(identity).args([service, at]);
        self.start("proxy", command)?;
        self.last()?.wait_for_output(&format!("{service} is at"), PATIENCE)
    }

    /// Starts a tunneler on the SDK host, as [`TUNNELER`](super::TUNNELER), and waits for words of its log.
    ///
    /// # Errors
    /// It ends before it says them.
    pub fn start_tunneler(&mut self, verb: &str, options: &[&str], ready: &str) -> Result<()> {
        let name = configuration::TUNNELER;
        let mut command = self.topology.sdk_host.command(&self.programs.nightgate);
        command.args(["tunnel", verb, "--identity"]).arg(self.file(&format!("{name}.json")));
        command.arg("--admin-socket").arg(self.socket(name)).args(options);
        self.start(name, command)?;
        self.last()?.wait_for_output(ready, PATIENCE)
    }

    /// The application that fetches pages by the SDK, on a host of its own on the underlay; one that hangs is ended.
    pub(crate) fn sdk_client(&self) -> Command {
        let mut command = self.topology.public.command("timeout");
        command.arg(PATIENCE.as_secs().to_string()).arg(&self.programs.sdk_client);
        command
    }

    /// A command of Python with OpenZiti's client, on the SDK host; one that hangs is ended.
    pub(crate) fn openziti(&self) -> Result<Command> {
        let python = &self.programs.openziti;
        ensure!(python.exists(), "{} is missing: run `cargo xtask setup`", python.display());
        let mut command = self.topology.sdk_host.command("timeout");
        command.arg(PATIENCE.as_secs().to_string()).arg(python);
        Ok(command)
    }

    /// Starts a program of Python with OpenZiti's client that hosts, on the SDK host.
    pub(crate) fn start_openziti(
        &mut self,
        script: &str,
        identity: &Path,
        arguments: &[&str],
    ) -> Result<()> {
        let mut command = self.topology.sdk_host.command(&self.programs.openziti);
        command.args(["-c", script]).arg(identity).args(arguments);
        self.start("openziti", command)?;
        self.last()?.wait_for_output("hosting", PATIENCE)
    }

    /// Runs a command of the operator at the controller; its words are separated by white space.
    ///
    /// # Errors
    /// The command does not succeed.
    pub fn operator(&self, line: &str) -> Result<String> {
        run(&mut self.operator_command(line))
    }

    /// As [`Self::operator`], for a command whose answer may be no: what it printed, whatever it returns.
    pub fn ask_operator(&self, line: &str) -> Result<String> {
        let output = self.operator_command(line).output()?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// Asks a running router or gateway by its socket.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(&self, name: &str, topic: &str) -> Result<String> {
        run(&mut self.question(name, topic))
    }

    /// The command that asks a running router or gateway by its socket.
    pub fn question(&self, name: &str, topic: &str) -> Command {
        let mut command = program(&self.programs.nightgate);
        command.args(topic.split_whitespace()).arg("--socket").arg(self.socket(name));
        command
    }

    /// Waits until the operator can see a text in an answer.
    pub(crate) fn wait_for_answer(&self, name: &str, topic: &str, text: &str) -> Result<String> {
        until(&format!("{text:?} in `nightgate {topic}` of {name}"), PATIENCE, || {
            let answer = self.ask(name, topic)?;
            Ok(answer.contains(text).then_some(answer))
        })
    }

    /// The ends of all logs, for people who look for what went wrong.
    pub fn log_tails(&self, lines: usize) -> String {
        let tail = |process: &Process| {
            let log = process.log();
            let all: Vec<&str> = log.lines().collect();
            let end = all[all.len().saturating_sub(lines)..].join("\n");
            format!("--- {}, the last of {} lines\n{end}\n", process.name(), all.len())
        };
        self.processes.iter().map(tail).collect()
    }

    fn operator_command(&self, line: &str) -> Command {
        let mut command = self.topology.controller.command(&self.programs.nightgate);
        command.args(line.split_whitespace()).env("NIGHTGATE_IDENTITY", self.administrator());
        command
    }

    fn administrator(&self) -> PathBuf {
        self.file("controller").join("admin.json")
    }

    fn namespace(&self, name: &str) -> &Namespace {
        match name {
            configuration::GATEWAY_A => &self.topology.gateway_a,
            configuration::GATEWAY_B => &self.topology.gateway_b,
            configuration::ROUTER_2 => &self.topology.router_2,
            _ => &self.topology.router,
        }
    }

    /// Starts a process that lives as long as this deployment.
    pub(super) fn start(&mut self, name: &str, command: Command) -> Result<()> {
        let process = Process::spawn(name, command, self.folder.path())?;
        self.processes.push(process);
        Ok(())
    }

    fn last(&mut self) -> Result<&mut Process> {
        self.processes.last_mut().context("no process has been started")
    }
}

fn listens(namespace: &str, port: u16) -> Result<bool> {
    let mut ss = program("ip");
    ss.args(["netns", "exec", namespace, "ss", "-Hlnt", &format!("sport = :{port}")]);
    Ok(!run(&mut ss)?.trim().is_empty())
}
