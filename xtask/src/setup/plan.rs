//! What is to be installed, as data: carried out or printed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{backports::Backports, packages::service_of, python::Environment};
use crate::progress;

/// Everything that is missing, and how to get it.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    missing: Vec<String>,
    packages: BTreeSet<&'static str>,
    backports: Option<(Backports, BTreeSet<&'static str>)>,
    builds: Vec<Build>,
    environments: Vec<Environment>,
    unpacked: Vec<Unpacked>,
    manual: Vec<String>,
}

/// A program that cargo installs from source into a folder of our own.
#[derive(Debug)]
pub(crate) struct Build {
    /// Package name.
    pub(crate) name: &'static str,
    /// Exact version.
    pub(crate) version: &'static str,
    /// Further arguments of `cargo install`.
    pub(crate) arguments: Vec<&'static str>,
    /// Environment variables.
    pub(crate) env: BTreeMap<&'static str, &'static str>,
    /// Folder that gets `bin/NAME`.
    pub(crate) root: PathBuf,
}

/// A system package that is unpacked into a folder of our own, not installed.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Its name.
    pub(crate) package: &'static str,
    /// The folder.
    pub(crate) root: PathBuf,
}

impl Unpacked {
    /// What gets it (apt-get(8), dpkg-deb(1)).
    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.arg("-ec").arg(format!(
            "mkdir -p \"$0\" && cd \"$0\" && apt-get download {package} && dpkg-deb -x {package}_*.deb . && rm {package}_*.deb",
            package = self.package
        ));
        command.arg(&self.root);
        command
    }
}

impl Plan {
    /// Adds a system package to unpack.
    pub(crate) fn add_unpacked(&mut self, package: &'static str, root: PathBuf) {
        self.add_missing(package);
        self.unpacked.push(Unpacked { package, root });
    }

    /// Adds something that a system package brings.
    pub(crate) fn add_package(&mut self, missing: impl Into<String>, package: &'static str) {
        self.add_missing(missing);
        self.packages.insert(package);
    }

    /// Adds a system package that another part of the plan needs.
    pub(crate) fn add_packages(&mut self, packages: &[&'static str]) {
        self.packages.extend(packages);
    }

    /// Adds something that a package of backports brings.
    pub(crate) fn add_backport(&mut self, missing: &str, package: &'static str, source: Backports) {
        self.add_missing(missing);
        self.backports.get_or_insert((source, BTreeSet::new())).1.insert(package);
    }

    /// Adds a program to build from source.
    pub(crate) fn add_build(&mut self, build: Build) {
        self.add_missing(build.name);
        self.builds.push(build);
    }

    /// Adds a folder of Python packages.
    pub(crate) fn add_environment(&mut self, environment: Environment) {
        self.add_missing(environment.name);
        self.environments.push(environment);
    }

    /// Adds something that only the user can bring, and how.
    pub(crate) fn add_manual(&mut self, missing: impl Into<String>, hint: impl Into<String>) {
        self.add_missing(missing);
        self.manual.push(hint.into());
    }

    /// Adds to the list of what is missing.
    pub(crate) fn add_missing(&mut self, missing: impl Into<String>) {
        let missing = missing.into();
        if !self.missing.contains(&missing) {
            self.missing.push(missing);
        }
    }

    /// Whether nothing is missing.
    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    /// Whether only the administrator can carry it out.
    pub(crate) fn needs_root(&self) -> bool {
        !self.packages.is_empty() || self.backports.is_some()
    }

    /// What is missing, in words.
    pub(crate) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// What the user has to do himself, in words.
    pub(crate) fn manual(&self) -> &[String] {
        &self.manual
    }

    /// The plan as lines for a shell.
    pub(crate) fn commands(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.needs_root() {
            lines.extend(self.backports.iter().map(|(source, _)| source.line()));
            lines.push("sudo apt-get update".to_owned());
            lines.extend(
                self.apt().iter().map(|install| format!("sudo env {}", shell_line(install))),
            );
        }
        lines.extend(self.builds.iter().map(|build| shell_line(&build.command())));
        lines.extend(self.unpacked.iter().map(|unpacked| shell_line(&unpacked.command())));
        let environments = self.environments.iter().flat_map(Environment::commands);
        lines.extend(environments.map(|command| shell_line(&command)));
        lines
    }

    /// Installs everything, one step after the other.
    ///
    /// # Errors
    /// A step fails; the end of its output has been shown.
    pub(crate) fn carry_out(&self, logs: &Path) -> Result<()> {
        if self.needs_root() {
            self.carry_out_apt(logs)?;
        }
        for build in &self.builds {
            let log = logs.join(format!("{}.log", build.name));
            progress::run(build.name, &mut build.command(), &log)?;
        }
        for unpacked in &self.unpacked {
            let log = logs.join(format!("{}.log", unpacked.package));
            progress::run(unpacked.package, &mut unpacked.command(), &log)?;
        }
        for environment in &self.environments {
            for mut command in environment.commands() {
                let log = logs.join(format!("{}.log", environment.name.replace(' ', "-")));
                progress::run(environment.name, &mut command, &log)?;
            }
        }
        Ok(())
    }

    fn carry_out_apt(&self, logs: &Path) -> Result<()> {
        if let Some((source, _)) = &self.backports {
            source.write()?;
        }
        let mut update = Command::new("apt-get");
        progress::run("package lists", update.arg("update"), &logs.join("apt-update.log"))?;
        for mut install in self.apt() {
            progress::run("packages", &mut install, &logs.join("apt-install.log"))?;
        }
        if let Some(mut stop) = self.stop_services()
            && Path::new("/run/systemd/system").is_dir()
        {
            progress::run("services stopped", &mut stop, &logs.join("apt-install.log"))?;
        }
        Ok(())
    }

    /// What ends the services that come with the packages, and start by themselves.
    fn stop_services(&self) -> Option<Command> {
        let backports = self.backports.iter().flat_map(|(_, packages)| packages);
        let packages = self.packages.iter().chain(backports);
        let mut services = packages.filter_map(|package| service_of(package)).peekable();
        services.peek()?;
        let mut command = Command::new("systemctl");
        command.args(["disable", "--now"]).args(services);
        Some(command)
    }

    /// What installs the packages, one after the other.
    fn apt(&self) -> Vec<Command> {
        let mut commands = Vec::new();
        if !self.packages.is_empty() {
            let mut command = Command::new("apt-get");
            // tshark's package asks a question otherwise, and waits for the answer.
            command.env("DEBIAN_FRONTEND", "noninteractive");
            command.args(["install", "-y", "--no-install-recommends"]).args(&self.packages);
            commands.push(command);
        }
        if let Some((source, packages)) = &self.backports {
            commands.push(source.install(packages.iter().copied()));
        }
        commands
    }
}

impl Build {
    fn command(&self) -> Command {
        let mut command = Command::new("cargo");
        command.arg("install").args([self.name, "--version", self.version, "--locked"]);
        command.args(&self.arguments).arg("--root").arg(&self.root).envs(&self.env);
        // Into a temporary folder of cargo's own, not among the checkout's.
        command.env_remove("CARGO_TARGET_DIR");
        crate::workspace::forget_calling_cargo(&mut command);
        command
    }
}

/// A command as a line that a shell takes.
fn shell_line(command: &Command) -> String {
    let set = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value?.to_str()?)));
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    set.chain(words.map(|word| word.to_string_lossy().into_owned())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_prints_the_commands_it_would_run() {
        let mut plan = Plan::default();
        plan.add_package("tshark", "tshark");
        plan.add_package("ip", "iproute2");
        plan.add_build(Build {
            name: "bpf-linker",
            version: "0.13.0",
            arguments: vec!["--no-default-features"],
            env: BTreeMap::from([("LLVM_PREFIX", "/usr/lib/llvm-22")]),
            root: "/cache/bpf-linker".into(),
        });

        assert_eq!(
            plan.commands(),
            [
                "sudo apt-get update",
                "sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y \
                 --no-install-recommends iproute2 tshark",
                "LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version 0.13.0 --locked \
                 --no-default-features --root /cache/bpf-linker",
            ]
        );
        assert_eq!(plan.missing(), ["tshark", "ip", "bpf-linker"]);
    }

    #[test]
    fn services_that_come_with_packages_do_not_run_on() {
        let mut plan = Plan::default();
        plan.add_package("tshark", "tshark");
        assert!(plan.stop_services().is_none());
        plan.add_package("sshd", "openssh-server");
        let stop = plan.stop_services().unwrap();
        assert_eq!(shell_line(&stop), "systemctl disable --now ssh.service");
    }

    #[test]
    fn building_from_source_needs_no_root() {
        let mut plan = Plan::default();
        assert!(plan.is_empty());
        plan.add_build(Build {
            name: "cargo-deny",
            version: "1.0.0",
            arguments: vec![],
            env: BTreeMap::new(),
            root: "/cache/cargo-deny".into(),
        });
        assert!(!plan.is_empty() && !plan.needs_root());
    }
}
