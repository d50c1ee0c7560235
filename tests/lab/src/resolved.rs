//! systemd-resolved in a namespace, with a message bus of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    command::{program, run},
    namespace::Namespace,
    process::Process,
    wait::until,
};

/// Where a system has it, and where `cargo xtask setup` unpacks it, seen from the workspace.
const ROOTS: [&str; 2] = ["/", "target/systemd-resolved"];
/// Where it is in there.
const DAEMON: &str = "lib/systemd/systemd-resolved";
/// How long it may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What every program may do on the bus.
const BUS: &str = r#"<busconfig>
  <type>system</type>
  <listen>ADDRESS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/>
    <allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="signal"/>
    <allow receive_type="method_return"/><allow receive_type="error"/>
  </policy>
</busconfig>
"#;

/// Starts a program where resolved's user is known, which this host may not have, and the bus asks for; with a folder /run
/// of its own.
const START: &str = r#"
mount -t tmpfs none /run
if ! getent passwd systemd-resolve > /run/user; then
    for file in passwd group; do cp /etc/$file /run/$file; done
    echo systemd-resolve:x:64991:64991::/:/usr/sbin/nologin >> /run/passwd
    echo systemd-resolve:x:64991: >> /run/group
    for file in passwd group; do mount --bind /run/$file /etc/$file; done
fi
mkdir -p /run/systemd/resolve
chown systemd-resolve:systemd-resolve /run/systemd/resolve
exec "$0" "$@"
"#;

/// A systemd-resolved.
#[derive(Debug)]
pub struct SystemdResolved {
    address: String,
    programs: PathBuf,
    daemon: Process,
    _bus: Process,
}

impl SystemdResolved {
    /// Starts one, whose files and logs are in a folder.
    ///
    /// # Errors
    /// There is none on this host and `cargo xtask setup` has not unpacked it, or it does not start.
    pub fn start(namespace: &Namespace, folder: &Path) -> Result<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let roots = ROOTS.map(|root| workspace.join(root));
        let root = roots.iter().find(|root| root.join(DAEMON).is_file());
        let root = root.context("no systemd-resolved; run `cargo xtask setup`")?;
        // Of the network namespace, so that whichever user it runs as reaches it.
        let address = format!("unix:abstract=nightgate-{}", namespace.name());
        let configuration = folder.join("bus.conf");
        fs::write(&configuration, BUS.replace("ADDRESS", &address))?;
        let mut command = known(namespace, Path::new("dbus-daemon"));
        command.arg("--nofork").arg(format!("--config-file={}", configuration.display()));
        let bus = Process::spawn("dbus-daemon", command, folder)?;
        let mut command = known(namespace, &root.join(DAEMON));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &address);
        until("the bus", PATIENCE, || {
            let sockets = namespace.shell("ss -Hlx")?;
            Ok(sockets.contains(&format!("nightgate-{}", namespace.name())).then_some(()))
        })?;
        let daemon = Process::spawn("systemd-resolved", command, folder)?;
        let resolved = Self { address, programs: root.join("usr/bin"), daemon, _bus: bus };
        until("systemd-resolved", PATIENCE, || {
            Ok(resolved.ask(namespace, "status").is_ok().then_some(()))
        })?;
        Ok(resolved)
    }

    /// What it has said.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Lets a program talk to it.
    pub fn show_to(&self, command: &mut Command) {
        let before = env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{before}", self.programs.display()));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.address);
    }

    /// What `resolvectl` says.
    ///
    /// # Errors
    /// It fails, which includes that a name does not exist.
    pub fn ask(&self, namespace: &Namespace, line: &str) -> Result<String> {
        let mut command = program("ip");
        command.args(["netns", "exec", namespace.name(), "resolvectl", "--no-pager"]);
        command.args(line.split(' '));
        self.show_to(&mut command);
        run(&mut command)
    }
}

/// A command in which resolved's user is known.
fn known(namespace: &Namespace, program: &Path) -> Command {
    let mut command = namespace.command("unshare");
    command.args(["-m", "sh", "-ec", START]).arg(program);
    command
}
