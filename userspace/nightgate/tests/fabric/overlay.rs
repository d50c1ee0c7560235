//! An overlay of real processes on loopback.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nightgate_identity::Identity;
use nightgate_sdk::Context;
use serde_json::Value;

/// What must happen happens within this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A process that is killed when dropped.
pub(crate) struct Process(Child);

/// A controller with a directory for everything.
pub(crate) struct Overlay {
    folder: tempfile::TempDir,
    controller: Option<Process>,
}

/// What a router's configuration says beside its identity.
pub(crate) struct RouterFile {
    pub(crate) name: &'static str,
    pub(crate) listen: SocketAddr,
    path: PathBuf,
    pub(crate) socket: PathBuf,
}

impl Process {
    fn start(mut command: Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        Self(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Overlay {
    /// Starts a controller.
    pub(crate) fn start() -> Self {
        let mut overlay = Self { folder: tempfile::tempdir().unwrap(), controller: None };
        let address = free_address().to_string();
        let dir = overlay.path("ctrl");
        let dir = dir.to_str().unwrap();
        overlay.run(&[
            "controller",
            "init",
            "--address",
            &address,
            "--listen",
            &address,
            "--dir",
            dir,
        ]);
        overlay.start_controller();
        overlay
    }

    /// Starts the controller, and waits until it answers.
    pub(crate) fn start_controller(&mut self) {
        let mut command = self.nightgate();
        command.args(["controller", "run", "--dir"]).arg(self.path("ctrl"));
        self.controller = Some(Process::start(command, &self.path("controller.log")));
        self.wait("the controller answers", |overlay| overlay.ask("service list").is_some());
    }

    /// SIGKILL.
    pub(crate) fn kill_controller(&mut self) {
        self.controller.take().unwrap().kill();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn nightgate(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightgate"));
        command.env("NIGHTGATE_IDENTITY", self.path("ctrl/admin.json"));
        command
    }

    /// Runs a command that has to succeed; its standard output.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.nightgate().args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command with `--json`; its answer if it succeeded.
    pub(crate) fn ask(&self, line: &str) -> Option<Value> {
        let mut command = self.nightgate();
        let output = command.args(line.split_whitespace()).arg("--json").output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Waits until something holds.
    pub(crate) fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < PATIENCE, "not in time: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The end of what every process logged.
    fn logs(&self) -> String {
        let files = fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().path());
        let logs = files.filter(|file| file.extension().is_some_and(|end| end == "log"));
        let logs = logs.map(|log| {
            let text = fs::read_to_string(&log).unwrap();
            let lines: Vec<_> = text.lines().rev().take(15).collect();
            let lines = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
            format!("--- {}\n{lines}\n", log.display())
        });
        logs.collect()
    }

    /// Hosts what the identity of a file may host; what the program says is in `tunnel.log`.
    pub(crate) fn start_hosting(&self, identity: &str) -> Process {
        let mut command = self.nightgate();
        command.args(["tunnel", "host", "--identity", identity]);
        Process::start(command, &self.path("tunnel.log"))
    }

    /// Creates a router and enrolls it.
    pub(crate) fn enroll_router(&self, name: &'static str) -> RouterFile {
        let listen = free_address();
        let jwt = self.path(&format!("{name}.jwt"));
        fs::write(&jwt, self.run(&["router", "create", name])).unwrap();
        let (jwt, out) = (jwt.to_str().unwrap(), self.path(&format!("{name}.json")));
        let out = out.to_str().unwrap();
        self.run(&["router", "enroll", jwt, "--out", out, "--advertise", &listen.to_string()]);
        let (path, socket) =
            (self.path(&format!("{name}.yaml")), self.path(&format!("{name}.sock")));
        RouterFile { name, listen, path, socket }
    }

    /// Runs a router; `more` are further keys of `router` in its configuration.
    pub(crate) fn start_router(&self, file: &RouterFile, more: &str) -> Process {
        let RouterFile { name, listen, socket, .. } = file;
        let text = format!(
            "version: 1\nrouter:\n  identity: {name}.json\n  listen: \"{listen}\"\n  \
             advertise: \"{listen}\"\n{more}\nadmin_socket: {}\n",
            socket.display()
        );
        fs::write(&file.path, text).unwrap();
        let mut command = self.nightgate();
        command.args(["router", "run", "--config"]).arg(&file.path);
        Process::start(command, &self.path(&format!("{name}.log")))
    }

    /// Creates a service that identities with the attribute `NAME-dial` may dial, and those with `NAME-host` host.
    pub(crate) fn create_service(&self, name: &str) {
        self.run(&["service", "create", name]);
        let service = format!("@{name}");
        for (verb, who) in [("dial", "dial"), ("bind", "host")] {
            let (policy, identity) = (format!("{name}-{who}"), format!("#{name}-{who}"));
            let roles = ["--identity", &identity, "--service", &service];
            self.run(&[&["policy", "create", &policy, verb][..], &roles].concat());
        }
    }

    /// Creates and enrolls an identity with an attribute, and joins the overlay as it.
    pub(crate) async fn join(&self, name: &str, attribute: &str) -> Context {
        let token = self.run(&["identity", "create", name, "--attribute", attribute]);
        let identity: Identity = nightgate_sdk::enroll(token.trim()).await.unwrap();
        let began = Instant::now();
        loop {
            match Context::load(&identity).await {
                Ok(context) => return context,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
        }
    }
}

/// An address whose port the system has just given and got back: tokens and certificates have to name it before
/// anybody can listen there.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
