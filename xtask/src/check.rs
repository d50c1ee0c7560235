//! `cargo xtask check`: everything that can be said about the sources without running them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    abi_lock, direction, document_paths, instructions, metrics_used,
    progress::{self, NAME_WIDTH},
    setup::{self, KernelToolchain, Mode, Need},
    sources,
    workspace::Workspace,
};

/// Files longer than this are hard to find one's way in.
const LONGEST_FILE: usize = 400;

/// What a check found.
enum Finding {
    /// The command has shown what is wrong.
    Shown,
    /// Each line is one thing that is wrong, and what to do.
    Problems(Vec<String>),
    /// Each line deserves a look, but is not wrong.
    Warnings(Vec<String>),
}

/// A check: its name and what finds out.
struct Check {
    name: &'static str,
    run: fn(&Workspace) -> Result<Option<Finding>>,
}

impl Check {
    fn is_chosen(&self, words: &[String]) -> bool {
        words.is_empty() || words.iter().any(|word| self.name.contains(word.as_str()))
    }
}

const CHECKS: [Check; 12] = [
    Check { name: "format", run: host_format },
    Check { name: "format, kernel", run: kernel_format },
    Check { name: "clippy", run: host_clippy },
    Check { name: "clippy, kernel", run: kernel_clippy },
    Check { name: "documentation", run: documentation },
    Check { name: "licences, bans, sources", run: cargo_deny },
    Check { name: "crate direction", run: |workspace| problems(direction::check(workspace)?) },
    Check { name: "ABI version", run: |workspace| problems(abi_lock::check(workspace)?) },
    Check {
        name: "paths in documents",
        run: |workspace| problems(document_paths::check(workspace)?),
    },
    Check { name: "metrics used", run: |workspace| problems(metrics_used::check(workspace)?) },
    Check { name: "file length", run: file_length },
    Check { name: "instructions", run: hot_paths },
];

/// Runs all checks, or those whose names contain one of the words; shows what each found, and ends with a table.
///
/// # Errors
/// A check failed, or no check has such a name.
pub(crate) fn run(workspace: &Workspace, words: &[String]) -> Result<()> {
    let chosen: Vec<&Check> = CHECKS.iter().filter(|check| check.is_chosen(words)).collect();
    if chosen.is_empty() {
        bail!("no check has a name with {}", words.join(" or "));
    }
    setup::ensure(workspace, &[Need::Host, Need::Kernel, Need::Check], Mode::Install)?;
    let mut rows = Vec::new();
    for check in chosen {
        let started = Instant::now();
        let finding = (check.run)(workspace)
            .unwrap_or_else(|error| Some(Finding::Problems(vec![format!("{error:#}")])));
        rows.push((check.name, show(check.name, finding, started.elapsed()), started.elapsed()));
    }
    summarize(&rows)
}

fn show(name: &str, finding: Option<Finding>, took: Duration) -> &'static str {
    let (lines, verdict) = match finding {
        None => return "ok",
        Some(Finding::Shown) => return "FAILED",
        Some(Finding::Problems(lines)) => (lines, "FAILED"),
        Some(Finding::Warnings(lines)) => (lines, "warning"),
    };
    progress::report(name, verdict, took);
    for line in lines {
        eprintln!("    {line}");
    }
    verdict
}

fn summarize(rows: &[(&str, &str, Duration)]) -> Result<()> {
    println!("\n{:NAME_WIDTH$} {:8} {:>9}", "check", "", "time");
    for (name, verdict, took) in rows {
        println!("{name:NAME_WIDTH$} {verdict:8} {:7.1} s", took.as_secs_f64());
    }
    let failed: Vec<&str> = rows.iter().filter(|row| row.1 == "FAILED").map(|row| row.0).collect();
    if !failed.is_empty() {
        bail!("{} of {} checks failed: {}", failed.len(), rows.len(), failed.join("; "));
    }
    Ok(())
}

fn host_format(workspace: &Workspace) -> Result<Option<Finding>> {
    command(workspace, "format", &mut workspace.cargo(["fmt", "--all", "--check"]))
}

fn kernel_format(workspace: &Workspace) -> Result<Option<Finding>> {
    let mut fmt = workspace.cargo(["fmt", "--check"]);
    command(workspace, "format, kernel", fmt.current_dir(workspace.root().join("ebpf/programs")))
}

fn host_clippy(workspace: &Workspace) -> Result<Option<Finding>> {
    let arguments =
        ["clippy", "--workspace", "--all-targets", "--keep-going", "--", "-D", "warnings"];
    command(workspace, "clippy", &mut workspace.cargo(arguments))
}

fn kernel_clippy(workspace: &Workspace) -> Result<Option<Finding>> {
    let toolchain = KernelToolchain::find(workspace)?;
    let mut clippy = toolchain.clippy(workspace)?;
    clippy.args(["--release", "--", "-D", "warnings"]);
    command(workspace, "clippy, kernel", &mut clippy)
}

fn documentation(workspace: &Workspace) -> Result<Option<Finding>> {
    let arguments = ["doc", "--workspace", "--no-deps", "--document-private-items", "--keep-going"];
    let mut doc = workspace.cargo(arguments);
    command(workspace, "documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Advisories are left out: they need a database from the network.
fn cargo_deny(workspace: &Workspace) -> Result<Option<Finding>> {
    let mut deny = Command::new(workspace.cache().join("cargo-deny/bin/cargo-deny"));
    deny.args(["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    command(workspace, "licences, bans, sources", deny.current_dir(workspace.root()))
}

fn file_length(workspace: &Workspace) -> Result<Option<Finding>> {
    let long: Vec<String> = sources::rust_files(workspace.root())?
        .into_iter()
        .map(|file| (file.text.lines().count(), file.path))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .map(|(lines, path)| format!("{}: {lines} lines; split it", path.display()))
        .collect();
    Ok((!long.is_empty()).then_some(Finding::Warnings(long)))
}

fn hot_paths(workspace: &Workspace) -> Result<Option<Finding>> {
    let found = instructions::check(workspace)?;
    Ok(if found.problems.is_empty() {
        (!found.notes.is_empty()).then_some(Finding::Warnings(found.notes))
    } else {
        Some(Finding::Problems([found.problems, found.notes].concat()))
    })
}

/// Runs a checker that shows by itself what is wrong.
fn command(workspace: &Workspace, name: &str, command: &mut Command) -> Result<Option<Finding>> {
    let file: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    let log = workspace.logs().join(format!("check-{file}.log"));
    Ok(progress::run(name, command, &log).is_err().then_some(Finding::Shown))
}

fn problems(lines: Vec<String>) -> Result<Option<Finding>> {
    Ok((!lines.is_empty()).then_some(Finding::Problems(lines)))
}
