//! Programs that come as Debian packages, and those that cargo builds.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
};

use super::plan::{Build, Plan};
use crate::workspace::{Workspace, find_program};

/// A WireGuard in userspace that is in no package of Debian 12: crate, and folder in the cache.
pub(crate) const BORINGTUN: &str = "boringtun-cli";

/// Programs that are needed together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Group {
    /// To compile the C parts of dependencies (SQLite, libsodium, AWS-LC) and to link.
    Compiler,
    /// To make networks and look at their traffic.
    Network,
    /// To compile libFuzzer.
    Fuzzer,
    /// To install Python packages.
    Python,
    /// To count instructions.
    Counter,
    /// What benchmarks measure beside this project.
    Peers,
}

impl Group {
    /// Programs, each with the package that brings it.
    fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Compiler => &[("cc", "gcc"), ("make", "make"), ("pkg-config", "pkg-config")],
            Self::Network => &[
                ("ip", "iproute2"),
                ("ss", "iproute2"),
                ("tc", "iproute2"),
                ("ethtool", "ethtool"),
                ("curl", "curl"),
                ("tshark", "tshark"),
                ("setpriv", "util-linux"),
                ("nmap", "nmap"),
                ("psql", "postgresql-client"),
                ("ssh", "openssh-client"),
                ("sshd", "openssh-server"),
                ("dig", "bind9-dnsutils"),
                ("iperf3", "iperf3"),
                ("ping", "iputils-ping"),
                ("dbus-daemon", "dbus-daemon"),
            ],
            Self::Fuzzer => &[("c++", "g++")],
            Self::Python => &[("python3", "python3")],
            Self::Counter => &[("valgrind", "valgrind")],
            Self::Peers => &[
                ("nft", "nftables"),
                ("haproxy", "haproxy"),
                ("stunnel", "stunnel4"),
                ("nebula", "nebula"),
                ("wireguard-go", "wireguard-go"),
                ("wg", "wireguard-tools"),
            ],
        }
    }
}

/// Adds the programs of a group that are not there.
pub(crate) fn plan(plan: &mut Plan, group: Group) {
    for (program, package) in group.programs() {
        if find_program(program).is_none() {
            add(plan, program, package);
        }
    }
    if group == Group::Network && !has_postgresql() {
        add(plan, "PostgreSQL's server", "postgresql");
    }
    if group == Group::Python && !has_ensurepip() {
        add(plan, "Python's module venv", "python3-venv");
    }
    if group == Group::Compiler && !std::path::Path::new("/usr/include/stdio.h").exists() {
        add(plan, "the C library's headers", "libc6-dev");
    }
}

/// Adds systemd-resolved, if this host has none.
pub(crate) fn plan_resolved(workspace: &Workspace, plan: &mut Plan) {
    const DAEMON: &str = "lib/systemd/systemd-resolved";
    let root = workspace.systemd_resolved();
    if !std::path::Path::new("/").join(DAEMON).is_file() && !root.join(DAEMON).is_file() {
        plan.add_unpacked("systemd-resolved", root);
    }
}

/// The licence, ban and source checker, in the version `deny.toml` was written for.
pub(crate) fn plan_cargo_deny(workspace: &Workspace, plan: &mut Plan) {
    plan_program(workspace, plan, ("cargo-deny", "0.20.2"));
}

/// The version is the one that was measured.
pub(crate) fn plan_boringtun(workspace: &Workspace, plan: &mut Plan) {
    plan_program(workspace, plan, (BORINGTUN, "0.7.1"));
}

/// A program that is built from source into a folder of its own, if it is not there.
fn plan_program(
    workspace: &Workspace,
    plan: &mut Plan,
    (name, version): (&'static str, &'static str),
) {
    let root = workspace.cache().join(name);
    if root.join("bin").join(name).is_file() {
        return;
    }
    plan.add_build(Build { name, version, arguments: vec![], env: BTreeMap::new(), root });
}

/// Debian keeps what `python3 -m venv` needs in a package of its own.
fn has_ensurepip() -> bool {
    let mut look = Command::new("python3");
    look.args(["-c", "import ensurepip"]).stdin(Stdio::null()).stderr(Stdio::null());
    look.status().is_ok_and(|status| status.success())
}

/// Debian keeps the server's programs in a folder of their version's own.
fn has_postgresql() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path()).any(|version| version.join("bin/initdb").is_file())
}

/// The service that Debian's package starts on the machine's own addresses, if it does: tests start their own.
pub(super) fn service_of(package: &str) -> Option<&'static str> {
    match package {
        "openssh-server" => Some("ssh.service"),
        "postgresql" => Some("postgresql.service"),
        "suricata" => Some("suricata.service"),
        _ => None,
    }
}

/// Whether packages can be installed the Debian way.
pub(crate) fn has_apt() -> bool {
    find_program("apt-get").is_some()
}

fn add(plan: &mut Plan, missing: &str, package: &'static str) {
    if has_apt() {
        plan.add_package(missing, package);
    } else {
        plan.add_manual(missing, format!("{missing}: Debian's package is called {package}"));
    }
}
