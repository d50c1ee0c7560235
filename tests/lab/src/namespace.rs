//! Network namespaces.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};

use crate::{
    command::{program, run},
    run::RunId,
};

/// Prefix of the names of our namespaces.
pub(crate) const PREFIX: &str = "ng-";
/// Where `ip netns exec` looks for files that replace those of /etc, ip-netns(8).
pub(crate) const ETC: &str = "/etc/netns";

/// A network namespace of its own, named `ng-RUN-NUMBER-ROLE`; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace with its loopback up. `role` is for people: lower-case letters, digits and dashes.
    ///
    /// # Errors
    /// The process is not root, or `ip` is missing.
    pub fn new(role: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{role}", RunId::current());
        run(program("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        // Duplicate address detection keeps link-local addresses unusable for a second.
        namespace.set("net/ipv6/conf/all/accept_dad", "0")?;
        namespace.set("net/ipv6/conf/default/accept_dad", "0")?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside.
    pub fn command(&self, name: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = program("ip");
        command.args(["netns", "exec", &self.name]).arg(name);
        command
    }

    /// Runs a command line inside and returns what it printed; words are separated by white space.
    ///
    /// # Errors
    /// It cannot be started or does not succeed.
    pub fn shell(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let name = words.next().context("an empty command line")?;
        run(self.command(name).args(words))
    }

    /// Runs `ip` inside, for example `ip("route add default via 10.0.0.1")`.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        run(program("ip").args(["-n", &self.name]).args(arguments.split_whitespace()))
    }

    /// Gives an interface an address with its prefix length, IPv4 or IPv6.
    ///
    /// # Errors
    /// There is no such interface, or it has the address already.
    pub fn add_address(&self, interface: &str, address: &str) -> Result<()> {
        // Usable at once, not only when the kernel's worker has looked at it: RFC 4862 section 5.4.
        let usable = if address.contains(':') { "nodad" } else { "" };
        self.ip(&format!("address add {address} dev {interface} {usable}")).map(drop)
    }

    /// Adds a route by gateway; `destination` is a prefix or `default`.
    ///
    /// # Errors
    /// The gateway cannot be reached.
    pub fn add_route(&self, destination: &str, gateway: &str) -> Result<()> {
        let family = if gateway.contains(':') { "-6" } else { "-4" };
        self.ip(&format!("{family} route add {destination} via {gateway}")).map(drop)
    }

    /// Sets a kernel parameter by its path below /proc/sys.
    ///
    /// # Errors
    /// There is no such parameter, or the value is refused.
    pub fn set(&self, parameter: &str, value: &str) -> Result<()> {
        self.enter(|| fs::write(Path::new("/proc/sys").join(parameter), value))?
            .with_context(|| format!("set {parameter} to {value} in {}", self.name))
    }

    /// Makes programs started by [`Self::command`] ask this name server.
    ///
    /// # Errors
    /// /etc/netns cannot be written.
    pub fn set_resolver(&self, server: &str) -> Result<()> {
        self.set_file(
            "resolv.conf",
            &format!("nameserver {server}\noptions timeout:2 attempts:1\n"),
        )
    }

    /// Gives programs started by [`Self::command`] another file of /etc.
    ///
    /// # Errors
    /// /etc/netns cannot be written.
    pub fn set_file(&self, name: &str, text: &str) -> Result<()> {
        let folder = self.etc();
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    }

    /// Calls a function on a thread of its own that has entered the namespace. Sockets it opens stay inside.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn enter<T: Send>(&self, function: impl FnOnce() -> T + Send) -> Result<T> {
        let path = Path::new("/run/netns").join(&self.name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let thread = || -> Result<T> {
            setns(&file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("enter {}", path.display()))?;
            Ok(function())
        };
        match thread::scope(|scope| scope.spawn(thread).join()) {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn etc(&self) -> PathBuf {
        Path::new(ETC).join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing better can be done about a failure here; `sweep` of the next run tries again.
        fs::remove_dir_all(self.etc()).ok();
        run(program("ip").args(["netns", "delete", &self.name])).ok();
    }
}
