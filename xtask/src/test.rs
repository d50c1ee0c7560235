//! `cargo xtask test`: all tests, in the order from cheap to expensive, and a summary.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::unistd::geteuid;

use crate::{
    build,
    progress::NAME_WIDTH,
    setup::{self, Mode, Need},
    workspace::{Profile, Workspace},
};

/// Seed of the property tests' cases. Where `CI` is set they are the same in every run, so that a change is not
/// refused for a fault that it has not made; elsewhere each run tries others.
const RANDOM_SEED: &str = "PROPTEST_RNG_SEED";

/// A level of tests.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Everything that needs neither root nor the kernel programs.
    Unit,
    /// The kernel programs, packet by packet (BPF_PROG_TEST_RUN). Needs root.
    Bpf,
    /// The whole product in network namespaces. Needs root.
    Net,
    /// The simulation of the fabric with 10,000 seeds (NIGHTGATE_SIM_SEEDS), and with 500 routers and 100,000 circuits.
    /// Only if asked for: it takes an hour or so.
    Nightly,
    /// The mesh of routers as processes, built for release, with 1 GiB on each of 20 circuits (NIGHTGATE_MESH_MIB). Needs
    /// root. Only if asked for.
    NightlyNet,
    /// 1,000,000 flows of datagrams (NIGHTGATE_FLOWS) that are opened through two gateways and abandoned, built for release.
    /// Needs root. Only if asked for.
    NightlyFlows,
    /// The kernel programs, with 1,000,000 packets of what is never mirrored (NIGHTGATE_NEVER_PACKETS), and a sensor that is
    /// stopped for 60 s (NIGHTGATE_STOPPED_SECONDS). Needs root. Only if asked for.
    NightlyBpf,
    /// The controller killed 200 times under writes (NIGHTGATE_KILL_ROUNDS). Only if asked for.
    NightlyKill,
}

/// How many networks the simulation runs, and how many of them in a night.
const SEEDS: (&str, &str) = ("NIGHTGATE_SIM_SEEDS", "10000");

/// What each circuit of the mesh carries in a night, in MiB.
const MEBIBYTES: (&str, &str) = ("NIGHTGATE_MESH_MIB", "1024");

/// Flows that are abandoned, and how many of them in a night.
const FLOWS: (&str, &str) = ("NIGHTGATE_FLOWS", "1000000");

/// Packets that are never mirrored, and how many of them in a night.
const NEVER: (&str, &str) = ("NIGHTGATE_NEVER_PACKETS", "1000000");

/// How long a sensor is stopped, in seconds, and how long in a night.
const STOPPED: (&str, &str) = ("NIGHTGATE_STOPPED_SECONDS", "60");

/// How often the controller is killed in a night.
const KILLS: (&str, &str) = ("NIGHTGATE_KILL_ROUNDS", "200");

impl Part {
    /// Those that run if none is asked for.
    const ALL: [Self; 3] = [Self::Unit, Self::Bpf, Self::Net];

    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Bpf => "bpf",
            Self::Net => "net",
            Self::Nightly => "nightly",
            Self::NightlyNet => "nightly-net",
            Self::NightlyFlows => "nightly-flows",
            Self::NightlyBpf => "nightly-bpf",
            Self::NightlyKill => "nightly-kill",
        }
    }

    /// Arguments of `cargo test`.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Unit => &["--no-fail-fast"],
            Self::Bpf => {
                &["--no-fail-fast", "-p", "nightgate-datapath-tests", "--", "--test-threads=1"]
            }
            Self::Net => &["--no-fail-fast", "-p", "nightgate-e2e-tests", "--", "--test-threads=1"],
            Self::Nightly => &[
                "--release",
                "--no-fail-fast",
                "-p",
                "nightgate-fabric",
                "--test",
                "simulation",
                "--",
                "--include-ignored",
                "--nocapture",
            ],
            Self::NightlyNet => &[
                "--release",
                "--no-fail-fast",
                "-p",
                "nightgate-e2e-tests",
                "--test",
                "mesh",
                "--",
                "--nocapture",
                "twenty_circuits_lose_nothing",
            ],
            Self::NightlyFlows => &[
                "--release",
                "-p",
                "nightgate-e2e-tests",
                "--test",
                "intercept",
                "--",
                "--ignored",
                "--nocapture",
                "abandoned_flows",
            ],
            Self::NightlyBpf => &[
                "--no-fail-fast",
                "-p",
                "nightgate-datapath-tests",
                "--test",
                "mirror_never",
                "--test",
                "mirror",
                "--",
                "--test-threads=1",
                "--nocapture",
                "never_mirrored",
                "stopped",
            ],
            Self::NightlyKill => {
                &["-p", "nightgate", "--test", "controller_death", "--", "what_was_acknowledged"]
            }
        }
    }

    fn needs_root(self) -> bool {
        match self {
            Self::Unit | Self::Nightly | Self::NightlyKill => false,
            Self::Bpf | Self::Net | Self::NightlyNet | Self::NightlyFlows | Self::NightlyBpf => {
                true
            }
        }
    }

    /// Variables that make it last, unless they have values already.
    fn at_length(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Unit | Self::Bpf | Self::Net => &[],
            Self::Nightly => &[SEEDS],
            Self::NightlyNet => &[MEBIBYTES],
            Self::NightlyFlows => &[FLOWS],
            Self::NightlyBpf => &[NEVER, STOPPED],
            Self::NightlyKill => &[KILLS],
        }
    }
}

/// Runs the tests of one part, or of all.
///
/// # Errors
/// A test fails, something cannot be built, root is missing, or tests left something behind.
pub(crate) fn run(workspace: &Workspace, part: Option<Part>) -> Result<()> {
    let parts: Vec<Part> = part.map_or_else(|| Part::ALL.to_vec(), |part| vec![part]);
    let as_root = parts.iter().any(|part| part.needs_root());
    if as_root && !geteuid().is_root() {
        bail!(
            "kernel and network tests need root (they load programs and make network namespaces): \
             run this as root, or `cargo xtask test unit` without"
        );
    }
    prepare(workspace, &parts)?;
    let results =
        parts.iter().map(|part| run_part(workspace, *part)).collect::<Result<Vec<_>>>()?;
    summarize(&results)
}

fn prepare(workspace: &Workspace, parts: &[Part]) -> Result<()> {
    if matches!(parts, [Part::Unit | Part::Nightly | Part::NightlyKill]) {
        return setup::ensure(workspace, &[Need::Host, Need::Client], Mode::Install);
    }
    let needs = [Need::Host, Need::Kernel, Need::Lab, Need::Sensor, Need::Client];
    setup::ensure(workspace, &needs, Mode::Install)?;
    nightgate_lab::sweep().context("remove what an earlier run left behind")?;
    build::kernel_programs(workspace)?;
    if parts.contains(&Part::Net) {
        build::demo_programs(workspace)?;
    }
    if parts.iter().any(|part| matches!(part, Part::NightlyNet | Part::NightlyFlows)) {
        build::host_programs(workspace, Profile::Release, &["-p", "nightgate"])?;
    }
    Ok(())
}

/// What came of one part.
struct Outcome {
    part: Part,
    counts: Counts,
    succeeded: bool,
    leftovers: Vec<String>,
    took: Duration,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Counts {
    passed: u32,
    failed: u32,
    ignored: u32,
}

fn run_part(workspace: &Workspace, part: Part) -> Result<Outcome> {
    eprintln!("\n== {} tests", part.name());
    let started = Instant::now();
    let before = nightgate_lab::leftovers()?;
    let mut command = workspace.cargo(["test"]);
    command.args(part.arguments());
    if env::var_os("CI").is_some() && env::var_os(RANDOM_SEED).is_none() {
        command.env(RANDOM_SEED, "1");
    }
    let at_length = part.at_length().iter();
    command.envs(at_length.filter(|(name, _)| env::var_os(name).is_none()).copied());
    let (succeeded, counts) = run_and_count(&mut command)?;
    let leftovers = nightgate_lab::leftovers()?
        .into_iter()
        .filter(|leftover| !before.contains(leftover))
        .collect();
    Ok(Outcome { part, counts, succeeded, leftovers, took: started.elapsed() })
}

/// Runs the tests with their output shown as it comes, and adds up what each test program reports.
fn run_and_count(command: &mut Command) -> Result<(bool, Counts)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("start cargo test")?;
    let stdout = child.stdout.take().context("cargo test has no output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        counts.add(&line);
        println!("{line}");
    }
    Ok((child.wait()?.success(), counts))
}

impl Counts {
    /// Adds a line like `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; passes over all others.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let words: Vec<&str> = result.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<u32>() else { continue };
            match pair[1] {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

fn summarize(results: &[Outcome]) -> Result<()> {
    println!("\n{:NAME_WIDTH$} {:8} passed  failed  ignored      time", "tests", "");
    let mut good = true;
    for outcome in results {
        let clean = outcome.succeeded && outcome.leftovers.is_empty();
        good &= clean;
        println!(
            "{:NAME_WIDTH$} {:8} {:6}  {:6}  {:7}  {:6.1} s",
            outcome.part.name(),
            if clean { "ok" } else { "FAILED" },
            outcome.counts.passed,
            outcome.counts.failed,
            outcome.counts.ignored,
            outcome.took.as_secs_f64(),
        );
        for leftover in &outcome.leftovers {
            println!("    left behind: {leftover}");
        }
    }
    if !good {
        bail!("tests failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_test_programs_add_up() {
        let mut counts = Counts::default();
        counts.add("running 3 tests");
        counts.add("test a ... ok");
        counts.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        counts
            .add("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out");
        assert_eq!(counts, Counts { passed: 7, failed: 2, ignored: 1 });
    }
}
