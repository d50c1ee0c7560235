//! Counts.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSymbol as _, SymbolKind};

use super::baseline::{Baseline, KERNEL};
use crate::{
    build,
    workspace::{Profile, Workspace},
};

/// The program whose function [`COUNTED`] is counted.
const PROGRAM: &str = "nightgate-instructions";
const COUNTED: &str = "*counted_instructions*";

/// What valgrind's CPU has: on others it is another one.
const CPU: [&str; 2] = ["aes", "avx2"];

/// Bytes of an instruction (RFC 9669, section 3).
const BPF_INSTRUCTION: u64 = 8;

/// Why nothing can be counted here, if so.
pub(super) fn obstacle() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |flag: &&str| flags.split_whitespace().any(|word| word == *flag);
    let is_there = cfg!(target_arch = "x86_64") && CPU.iter().all(has);
    (!is_there).then(|| format!("not counted: that takes an x86-64 CPU with {}", CPU.join(" and ")))
}

/// Builds everything and counts it.
pub(super) fn all(workspace: &Workspace) -> Result<Baseline> {
    build::host_programs(workspace, Profile::Release, &["-p", PROGRAM])?;
    build::kernel_programs(workspace)?;
    let program = workspace.program(Profile::Release, PROGRAM);
    let listed = output(Command::new(&program).stdin(Stdio::null()))?;
    let mut lines = listed.lines();
    let runs: u64 = lines.next().context("no number of runs")?.parse()?;
    let folder = tempfile::tempdir()?;
    let mut counts = BTreeMap::new();
    for case in lines {
        let count = run(&program, case, folder.path()).with_context(|| format!("count {case}"))?;
        counts.insert(case.to_owned(), count / runs);
    }
    for name in build::KERNEL_OBJECTS {
        counts.extend(kernel(&workspace.kernel_object(name))?);
    }
    Ok(Baseline { tools: tools()?, counts })
}

/// Instructions of all counted runs of a case.
fn run(program: &Path, case: &str, folder: &Path) -> Result<u64> {
    let out = folder.join("callgrind.out");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--collect-atstart=no", "--quiet"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .arg(case);
    output(&mut command)?;
    total(&fs::read_to_string(&out).context("read what valgrind found")?)
}

/// The sum in callgrind's output: `totals: INSTRUCTIONS`.
fn total(found: &str) -> Result<u64> {
    let line = found.lines().rev().find_map(|line| line.strip_prefix("totals:"));
    let count = line.context("valgrind gives no total")?.trim().parse()?;
    if count == 0 {
        bail!("valgrind has not met {COUNTED}");
    }
    Ok(count)
}

/// Instructions of each program and global function of a kernel object.
fn kernel(object: &Path) -> Result<BTreeMap<String, u64>> {
    let bytes = fs::read(object).with_context(|| format!("read {}", object.display()))?;
    let parsed = object::File::parse(bytes.as_slice())
        .with_context(|| format!("parse {}", object.display()))?;
    let functions = parsed.symbols().filter(|symbol| {
        symbol.kind() == SymbolKind::Text && symbol.is_global() && symbol.size() > 0
    });
    let counted = functions.map(|symbol| {
        let name = symbol.name().context("a function without a name")?;
        Ok((format!("{KERNEL}{name}"), symbol.size() / BPF_INSTRUCTION))
    });
    counted.collect()
}

/// Compilers and libraries that the counts depend on. Those of kernel programs are pinned.
fn tools() -> Result<String> {
    let first_line = |words: [&str; 2]| -> Result<String> {
        let text = output(Command::new(words[0]).arg(words[1]))?;
        Ok(text.lines().next().unwrap_or_default().trim().to_owned())
    };
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_unset| "rustc".to_owned());
    let each = [
        [rustc.as_str(), "--version"],
        ["cc", "--version"],
        ["getconf", "GNU_LIBC_VERSION"],
        ["valgrind", "--version"],
    ];
    Ok(each.into_iter().map(first_line).collect::<Result<Vec<_>>>()?.join(", "))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_and_nothing_is_an_error() {
        assert_eq!(total("events: Ir\nfn=(1)\n3 4\n\ntotals: 1234\n").unwrap(), 1_234);
        assert!(total("totals: 0\n").unwrap_err().to_string().contains("not met"));
        assert!(total("events: Ir\n").is_err());
    }
}
