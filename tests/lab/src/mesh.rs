//! Routers in a mesh of wires, with a controller and a place for applications at two of them.

mod topology;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use self::topology::CONTROLLER;
pub use self::topology::MeshTopology;
use crate::{
    Namespace, Process, Wire,
    command::{program, run},
    overlay::Programs,
    run::temporary_folder,
    wait::until,
};

/// How long anything may take that happens once.
const PATIENCE: Duration = Duration::from_secs(30);

/// A controller and routers as processes, each in a namespace of its own. What is declared first ends first.
///
/// Routers are numbered from 1 and called `r1`, `r2`...; each wire is between two of them, and nothing else
/// connects them. Applications beside the first and the last router reach only that one.
#[derive(Debug)]
pub struct Mesh {
    routers: Vec<Option<Process>>,
    controller: Option<Process>,
    topology: MeshTopology,
    folder: TempDir,
    nightgate: PathBuf,
}

impl Mesh {
    /// Makes the network, starts the controller and enrolls the routers; none of them runs yet.
    ///
    /// # Errors
    /// The process is not root, or something does not start.
    pub fn new(programs: &Programs, routers: usize, wires: &[(usize, usize)]) -> Result<Self> {
        let mut mesh = Self {
            routers: (0..routers).map(|_| None).collect(),
            controller: None,
            topology: MeshTopology::new(routers, wires)?,
            folder: temporary_folder()?,
            nightgate: programs.nightgate.clone(),
        };
        mesh.start_controller()?;
        for router in 1..=routers {
            mesh.enroll(router)?;
            let address = mesh.topology.advertised(router);
            mesh.configure(router, &format!("  listen: '[::]:443'\n  advertise: '{address}'\n"))?;
        }
        Ok(mesh)
    }

    /// The namespaces and wires.
    pub fn topology(&self) -> &MeshTopology {
        &self.topology
    }

    /// The wire between two routers.
    ///
    /// # Errors
    /// There is none.
    pub fn wire(&self, one: usize, other: usize) -> Result<&Wire> {
        self.topology.wire(one, other)
    }

    /// A file of this mesh.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a router's configuration: `keys` are lines below `router:`, indented by two.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure(&self, router: usize, keys: &str) -> Result<()> {
        let name = name(router);
        let socket = self.file(&format!("{name}.sock"));
        let text = format!(
            "version: 1\nrouter:\n  identity: {name}.json\n{keys}admin_socket: {}\n",
            socket.display()
        );
        Ok(std::fs::write(self.file(&format!("{name}.yaml")), text)?)
    }

    /// Starts the controller and waits until it listens.
    ///
    /// # Errors
    /// It ends before.
    pub fn start_controller(&mut self) -> Result<()> {
        let namespace = &self.topology.controller;
        let mut command = namespace.command(&self.nightgate);
        command.args(["controller", "run", "--address", &format!("{CONTROLLER}:443"), "--dir"]);
        command.arg(self.file("controller"));
        let mut process = Process::spawn("controller", command, self.folder.path())?;
        process.wait_until("listening controller", PATIENCE, |_| {
            let listening = namespace.shell("ss -Hlnt sport = :443")?;
            let ready = !listening.trim().is_empty() && self.administrator().exists();
            Ok(ready.then_some(()))
        })?;
        self.controller = Some(process);
        Ok(())
    }

    /// Ends the controller at once, as a crash does.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_controller(&mut self) -> Result<()> {
        let mut process = self.controller.take().context("the controller does not run")?;
        process.stop(Signal::SIGKILL, PATIENCE).map(drop)
    }

    /// Starts a router and waits until it answers its operator.
    ///
    /// # Errors
    /// It ends before.
    pub fn start(&mut self, router: usize) -> Result<()> {
        let name = name(router);
        let mut command = self.topology.router(router).command(&self.nightgate);
        command.args(["router", "run", "--config"]).arg(self.file(&format!("{name}.yaml")));
        command.env("NIGHTGATE_STATE", self.file(&format!("{name}.state")));
        let mut process = Process::spawn(&name, command, self.folder.path())?;
        process.wait_until(&format!("answer of {name}"), PATIENCE, |_| {
            Ok(self.question("circuits", router).output()?.status.success().then_some(()))
        })?;
        self.routers[router - 1] = Some(process);
        Ok(())
    }

    /// Ends a router at once, as a crash does.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, router: usize) -> Result<()> {
        let process = self.routers.get_mut(router - 1).and_then(Option::take);
        let mut process = process.with_context(|| format!("{} does not run", name(router)))?;
        process.stop(Signal::SIGKILL, PATIENCE).map(drop)
    }

    /// Sends a signal to a router.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, router: usize, signal: Signal) -> Result<()> {
        self.process(router)?.signal(signal)
    }

    /// A running router.
    ///
    /// # Errors
    /// It does not run.
    pub fn process(&self, router: usize) -> Result<&Process> {
        let process = self.routers.get(router - 1).and_then(Option::as_ref);
        process.with_context(|| format!("{} does not run", name(router)))
    }

    /// Runs a command of the operator at the controller; its words are separated by white space.
    ///
    /// # Errors
    /// The command does not succeed.
    pub fn operator(&self, line: &str) -> Result<String> {
        let mut command = self.topology.controller.command(&self.nightgate);
        command.args(line.split_whitespace()).env("NIGHTGATE_IDENTITY", self.administrator());
        run(&mut command)
    }

    /// Enrolls an identity that may dial or host a service through any router; gives its file.
    ///
    /// # Errors
    /// There is one of that name.
    pub fn join(&self, name: &str) -> Result<PathBuf> {
        let (token, identity) =
            (self.file(&format!("{name}.jwt")), self.file(&format!("{name}.json")));
        self.operator(&format!("identity create {name} --jwt-out {}", token.display()))?;
        self.operator(&format!("enroll {} --out {}", token.display(), identity.display()))?;
        Ok(identity)
    }

    /// What a running router tells of `circuits` or `links`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(&self, topic: &str, router: usize) -> Result<Vec<Value>> {
        let answer = run(self.question(topic, router).arg("--json"))?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// The routers that a router has links to, and how many connections each link has.
    ///
    /// # Errors
    /// It does not answer.
    pub fn connections(&self, router: usize) -> Result<BTreeMap<String, usize>> {
        let mut connections = BTreeMap::new();
        for link in self.ask("links", router)? {
            *connections.entry(text(&link["peer_name"])).or_default() += 1;
        }
        Ok(connections)
    }

    /// Waits until a router has links to exactly these others.
    ///
    /// # Errors
    /// It does not come so far.
    pub fn wait_for_neighbours(&self, router: usize, others: &[usize]) -> Result<()> {
        let wanted: Vec<_> = others.iter().copied().map(name).collect();
        let mut seen = Vec::new();
        until(&format!("links of {} to {wanted:?} alone", name(router)), PATIENCE, || {
            seen = self.connections(router)?.into_keys().collect();
            Ok((seen == wanted).then_some(()))
        })
        .with_context(|| format!("it has links to {seen:?}"))
    }

    /// The paths of the circuits at a router, as names of routers joined by `-`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn paths(&self, router: usize) -> Result<Vec<String>> {
        let path = |circuit: &Value| {
            let names = circuit["path_names"].as_array().map(Vec::as_slice).unwrap_or_default();
            names.iter().map(text).collect::<Vec<_>>().join("-")
        };
        Ok(self.ask("circuits", router)?.iter().map(path).collect())
    }

    /// The ends of all logs, for people who look for what went wrong.
    pub fn log_tails(&self, lines: usize) -> String {
        let tail = |name: String| {
            let log = std::fs::read(self.file(&format!("{name}.log"))).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let all: Vec<&str> = log.lines().collect();
            let end = all[all.len().saturating_sub(lines)..].join("\n");
            format!("--- {name}, the last of {} lines\n{end}\n", all.len())
        };
        let routers = (1..=self.routers.len()).map(name);
        std::iter::once("controller".to_owned()).chain(routers).map(tail).collect()
    }

    /// Beside which router applications dial.
    pub fn dialers(&self) -> &Namespace {
        &self.topology.dialers
    }

    /// Beside which router applications host.
    pub fn hosts(&self) -> &Namespace {
        &self.topology.hosts
    }

    fn enroll(&self, router: usize) -> Result<()> {
        let (name, address) = (name(router), self.topology.advertised(router));
        let (token, identity) =
            (self.file(&format!("{name}.jwt")), self.file(&format!("{name}.json")));
        self.operator(&format!("router create {name} --jwt-out {}", token.display()))?;
        let (token, identity) = (token.display(), identity.display());
        self.operator(&format!("router enroll {token} --out {identity} --advertise {address}"))
            .map(drop)
    }

    fn question(&self, topic: &str, router: usize) -> Command {
        let mut command = program(&self.nightgate);
        command.arg(topic).arg("--socket").arg(self.file(&format!("{}.sock", name(router))));
        command
    }

    fn administrator(&self) -> PathBuf {
        self.file("controller").join("admin.json")
    }

    /// Where files of this mesh are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn name(router: usize) -> String {
    format!("r{router}")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
