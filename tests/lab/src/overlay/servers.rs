//! Servers of others on gateway B's LAN, unmodified: PostgreSQL, OpenSSH, iperf3.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::User;

use super::{
    configuration::{DATABASE_PORT, PERFORMANCE_PORT, SSH_PORT},
    deployment::{Deployment, PATIENCE},
    topology::address,
};
use crate::{
    command::{program, run},
    run::temporary_folder,
    wait::until,
};

/// Who runs the database: PostgreSQL refuses to be root.
const DATABASE_USER: &str = "postgres";
/// Names by which the client's known_hosts has the server's key.
const SSH_HOSTS: &str = "ssh.corp,10.2.0.2,fd00:2::2";

/// Starts all three on both addresses of the server, and waits until they listen.
pub(super) fn start(deployment: &mut Deployment) -> Result<()> {
    start_database(deployment)?;
    start_ssh(deployment)?;
    let iperf3 = deployment.topology.server.command("iperf3");
    deployment.start("iperf3", with(iperf3, &["-s", "-p", &PERFORMANCE_PORT.to_string()]))?;
    let ports = [DATABASE_PORT, SSH_PORT, PERFORMANCE_PORT];
    until("listening servers", PATIENCE, || {
        let sockets = deployment.topology.server.shell("ss -H -l -n -t")?;
        let listens = |port: &u16| sockets.contains(&format!(":{port} "));
        Ok(ports.iter().all(listens).then_some(()))
    })
    .with_context(|| deployment.log_tails(20))
}

fn start_database(deployment: &mut Deployment) -> Result<()> {
    let programs = database_programs()?;
    let folder = temporary_folder()?;
    let user = User::from_name(DATABASE_USER)?.with_context(|| format!("user {DATABASE_USER}"))?;
    chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    let data = folder.path().join("data");
    let mut make = as_database_user(program("setpriv"), &programs.join("initdb"));
    run(make.args(["--auth=trust", "--no-sync", "--username", DATABASE_USER, "-D"]).arg(&data))?;
    // Whom the network lets through: that is what this is about.
    fs::write(data.join("pg_hba.conf"), "host all all all trust\n")?;
    let setpriv = deployment.topology.server.command("setpriv");
    let mut serve = as_database_user(setpriv, &programs.join("postgres"));
    serve.arg("-D").arg(&data).arg("-k").arg(folder.path());
    serve.args(["-h", &address::SERVER.join(","), "-p", &DATABASE_PORT.to_string()]);
    serve.args(["-c", "fsync=off"]);
    deployment.keep(folder);
    deployment.start("postgres", serve)
}

/// Debian puts them in a folder of their version's own.
fn database_programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    let newest = folders.filter(|folder| folder.join("initdb").is_file()).max();
    newest.context("PostgreSQL's server is missing: run `cargo xtask setup`")
}

/// Completes a `setpriv`, so that the process is the server itself and gets its signals.
fn as_database_user(mut setpriv: std::process::Command, server: &Path) -> std::process::Command {
    setpriv.args(["--reuid", DATABASE_USER, "--regid", DATABASE_USER, "--init-groups"]);
    // initdb and the server look for their folder from here.
    setpriv.current_dir("/").arg(server);
    setpriv
}

fn start_ssh(deployment: &mut Deployment) -> Result<()> {
    let [host_key, client_key] =
        ["ssh-host-key", "ssh-client-key"].map(|name| deployment.file(name));
    for key in [&host_key, &client_key] {
        run(program("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key))?;
    }
    let public = fs::read_to_string(host_key.with_extension("pub"))?;
    deployment.write("known_hosts", &format!("{SSH_HOSTS} {public}"))?;
    let configuration = format!(
        "Port {SSH_PORT}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\nPidFile none\n",
        host_key.display(),
        client_key.with_extension("pub").display(),
    );
    let file = deployment.write("sshd_config", &configuration)?;
    let server = &deployment.topology.server;
    // On some machines root is locked, which sshd respects; here it has no password, and is not.
    server.set_file("shadow", "root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n")?;
    let sshd =
        ["/usr/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|path| Path::new(path).exists());
    let sshd = sshd.context("OpenSSH's server is missing: run `cargo xtask setup`")?;
    // It wants an empty folder there; the command has a mount namespace of its own.
    let script = "mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec \"$@\"";
    let shell = server.command("sh");
    let mut serve = with(shell, &["-c", script, "sh", sshd, "-D", "-e", "-f"]);
    serve.arg(file);
    deployment.start("sshd", serve)
}

/// The client's `ssh` with the key and the server's key that it knows; a host and a command are to follow.
pub(super) fn ssh(deployment: &Deployment) -> Result<std::process::Command> {
    let (key, known) = (deployment.file("ssh-client-key"), deployment.file("known_hosts"));
    let mode = fs::metadata(&key)?.permissions().mode();
    ensure!(mode & 0o077 == 0, "{} can be read by others", key.display());
    let mut command = deployment.topology.client.command("ssh");
    command.args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o"]);
    command.arg(format!("UserKnownHostsFile={}", known.display()));
    command.args(["-o", "StrictHostKeyChecking=yes", "-l", "root", "-i"]).arg(key);
    Ok(command)
}

fn with(mut command: std::process::Command, arguments: &[&str]) -> std::process::Command {
    command.args(arguments);
    command
}
