//! The project's tasks: set up, build, demo, test, check, bench, fuzz.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool prints")]

mod abi_lock;
mod bench;
mod build;
mod check;
mod demo;
mod direction;
mod document_paths;
mod fuzz;
mod instructions;
mod metrics_used;
mod progress;
mod setup;
mod sources;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    setup::{Mode, Need},
    test::Part,
    workspace::{Profile, Workspace},
};

fn main() -> ExitCode {
    match Workspace::find().and_then(|workspace| run(&workspace, Cli::parse().task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Nightgate's tasks. Each one first installs what it needs, if it may, and says so.
///
/// New here? `cargo xtask demo` shows the product at work; `cargo xtask test` proves it.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building, testing and checking need.
    ///
    /// As root on Debian or Ubuntu it installs packages, and builds bpf-linker, cargo-deny and
    /// boringtun into ~/.cache/nightgate. Elsewhere, or without root, it prints the exact commands and fails.
    /// When everything is there it says nothing else and takes less than a second.
    Setup {
        /// Only report what is missing; change nothing.
        #[arg(long)]
        check: bool,
    },
    /// Build the kernel programs, then the `nightgate` binary that embeds them.
    ///
    /// The kernel object lands in target/ebpf/nightgate-ebpf, the binary in target/debug or
    /// target/release. Plain `cargo build` works too; it embeds whatever kernel object is there.
    Build {
        /// Optimise the host programs. The kernel programs always are.
        #[arg(long)]
        release: bool,
    },
    /// Show the product at work: a client, two gateways, a router, a server, a sensor.
    ///
    /// Builds everything, makes a network of namespaces on this machine, runs the product in it and
    /// shows each promise kept, one line for each step; then removes everything. Needs root.
    /// The network and the steps are in tests/lab/src/overlay.
    Demo {
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Run the tests: host, kernel programs, whole product.
    ///
    /// Kernel and network tests need root; each works in network namespaces of its own and removes
    /// them. `cargo xtask test unit` needs no root.
    Test {
        /// Which tests; all if not given.
        part: Option<Part>,
    },
    /// Check the sources: format, lints, documentation, licences, structure.
    ///
    /// Runs every check, then prints a table. Structure means: who depends on whom
    /// (xtask/src/direction.rs), the version of the kernel boundary (ebpf/abi/abi.lock), paths that
    /// documents name, metrics that nothing counts. Files over 400 lines are only reported.
    /// Instructions of hot paths (tests/instructions) may not be more than were accepted.
    Check {
        /// First accept ebpf/abi as it is under the VERSION it carries (after a reviewed change).
        #[arg(long)]
        accept_abi: bool,
        /// First count the instructions of hot paths, and accept them (after a change that is worth it).
        #[arg(long)]
        accept_instructions: bool,
        /// Run only the checks whose names contain one of these words, for example `clippy`.
        words: Vec<String>,
    },
    /// Measure: `firewall`, `gateway`, `datagrams`, `idle`, `fabric`, `mirror`, `verdict`, `overlay`, or
    /// `all` of them, or a part; without such a name it lists them.
    ///
    /// `all` ends with a line for each target and the time of each suite, and draws docs/performance.svg.
    /// Builds with optimisation first. A figure with a target says whether it holds; a missed one
    /// makes the command fail. Traffic is carried by Nightgate and by others in turn, in namespaces that are removed
    /// afterwards. Needs root.
    Bench {
        /// Which suite.
        suite: String,
        #[command(flatten)]
        format: FormatArgs,
        /// Draw the figures into this file, too, as bars (SVG).
        #[arg(long, value_name = "FILE")]
        svg: Option<std::path::PathBuf>,
    },
    /// Search for inputs that break a parser, with libFuzzer.
    ///
    /// What it finds stays in target/fuzz; `--grow` adds the useful part to tests/fuzz/corpus, which
    /// `cargo test` replays.
    Fuzz(fuzz::Options),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Format {
    /// For people.
    Table,
    /// One line of JSON for each figure.
    Json,
}

#[derive(clap::Args)]
struct FormatArgs {
    /// Print one line of JSON for each result instead of a table.
    #[arg(long)]
    json: bool,
}

impl FormatArgs {
    fn chosen(&self) -> Format {
        if self.json { Format::Json } else { Format::Table }
    }
}

fn run(workspace: &Workspace, task: Task) -> Result<()> {
    match task {
        Task::Setup { check } => {
            let mode = if check { Mode::ReportOnly } else { Mode::Install };
            setup::ensure(workspace, &Need::ALL, mode)?;
            println!("Everything is there.");
            Ok(())
        }
        Task::Build { release } => {
            setup::ensure(workspace, &[Need::Host, Need::Kernel], Mode::Install)?;
            build::everything(workspace, if release { Profile::Release } else { Profile::Dev })
        }
        Task::Demo { format } => demo::run(workspace, format.chosen()),
        Task::Test { part } => test::run(workspace, part),
        Task::Check { accept_abi, accept_instructions, words } => {
            if accept_abi {
                abi_lock::accept(workspace)?;
            }
            if accept_instructions {
                setup::ensure(workspace, &[Need::Host, Need::Kernel, Need::Check], Mode::Install)?;
                instructions::accept(workspace)?;
            }
            check::run(workspace, &words)
        }
        Task::Bench { suite, format, svg } => {
            bench::run(workspace, &suite, format.chosen(), svg.as_deref())
        }
        Task::Fuzz(options) => fuzz::run(workspace, &options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
