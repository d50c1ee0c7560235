//! `cargo xtask fuzz`: looks for inputs that break a parser.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    progress,
    setup::{self, Mode, Need},
    workspace::Workspace,
};

/// What to fuzz, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A target of tests/fuzz/src/lib.rs; all of them, one after the other, if not given.
    target: Option<String>,
    /// How long to search, for each target.
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
    /// Afterwards, add to tests/fuzz/corpus what reaches new code, for everybody to replay.
    #[arg(long)]
    grow: bool,
}

/// Instruments every branch and comparison for libFuzzer, as LLVM's SanitizerCoverage documents it.
const RUSTFLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing";

/// Fuzzes one target or all.
///
/// # Errors
/// A target panics (libFuzzer has shown the input and where it is kept), or nothing can be built.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::ensure(workspace, &[Need::Host, Need::Fuzz], Mode::Install)?;
    let targets = chosen(workspace, options.target.as_deref())?;
    let program = build(workspace)?;
    for target in &targets {
        println!("\n== {target}, {} s", options.seconds);
        let session = Session::open(workspace, &program, target)?;
        session.search(options.seconds)?;
        if options.grow {
            session.keep()?;
        }
    }
    Ok(())
}

fn chosen(workspace: &Workspace, target: Option<&str>) -> Result<Vec<String>> {
    let folder = corpora(workspace);
    let mut all = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        all.extend(entry?.file_name().into_string().ok());
    }
    all.sort();
    match target {
        None => Ok(all),
        Some(target) if all.iter().any(|name| name == target) => Ok(vec![target.to_owned()]),
        Some(target) => bail!("no target {target}: there are {}", all.join(", ")),
    }
}

fn build(workspace: &Workspace) -> Result<PathBuf> {
    let host = host_triple(workspace)?;
    let target = workspace.fuzz_target();
    let mut cargo = workspace.cargo(["build", "--release", "--target", &host]);
    cargo.current_dir(workspace.root().join("tests/fuzz/libfuzzer"));
    // Coverage flags are stable as flags of LLVM, not of this compiler.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", RUSTFLAGS).env("CARGO_TARGET_DIR", &target);
    progress::run("fuzz targets", &mut cargo, &workspace.logs().join("fuzz-targets.log"))?;
    Ok(target.join(host).join("release/nightgate-libfuzzer"))
}

fn host_triple(workspace: &Workspace) -> Result<String> {
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let text = nightgate_lab::run(rustc.arg("-vV").current_dir(workspace.root()))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

fn corpora(workspace: &Workspace) -> PathBuf {
    workspace.root().join("tests/fuzz/corpus")
}

/// One target with its folders.
struct Session<'a> {
    program: &'a Path,
    target: &'a str,
    /// Inputs kept with the sources.
    kept: PathBuf,
    /// Inputs found on this machine.
    found: PathBuf,
    /// Inputs that break the target.
    broken: PathBuf,
}

impl<'a> Session<'a> {
    fn open(workspace: &Workspace, program: &'a Path, target: &'a str) -> Result<Self> {
        let found = workspace.fuzz_target().join("found").join(target);
        let broken = workspace.fuzz_target().join("broken").join(target);
        for folder in [&found, &broken] {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        Ok(Self { program, target, kept: corpora(workspace).join(target), found, broken })
    }

    fn search(&self, seconds: u32) -> Result<()> {
        let mut command = self.command();
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-artifact_prefix={}/", self.broken.display()));
        command.arg("-print_final_stats=1").args([&self.found, &self.kept]);
        self.succeed(&mut command, "an input broke it")
    }

    /// Copies the fewest of the found inputs that reach all code into the sources.
    fn keep(&self) -> Result<()> {
        let mut command = self.command();
        command.args(["-set_cover_merge=1", "-use_counters=0"]).args([&self.kept, &self.found]);
        self.succeed(&mut command, "merge failed")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.env("NIGHTGATE_FUZZ_TARGET", self.target);
        command
    }

    fn succeed(&self, command: &mut Command, otherwise: &str) -> Result<()> {
        let status =
            command.status().with_context(|| format!("start {}", self.program.display()))?;
        if !status.success() {
            bail!(
                "{}: {otherwise} ({status}); inputs are in {}",
                self.target,
                self.broken.display()
            );
        }
        Ok(())
    }
}
