//! `cargo xtask bench`: figures, measured with optimised programs.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::{
    Format, build,
    setup::{self, BORINGTUN, Mode, Need},
    workspace::{Profile, Workspace, path_with},
};

/// All suites; where their picture goes, if nothing else is said.
const ALL: &str = "all";
const PICTURE: &str = "docs/performance.svg";

/// Builds the suites and runs one of them, or all. `svg` is where a picture of the figures goes.
///
/// # Errors
/// Nothing can be built, there is no such suite, or a figure misses its target.
pub(crate) fn run(
    workspace: &Workspace,
    suite: &str,
    format: Format,
    svg: Option<&Path>,
) -> Result<()> {
    setup::ensure(workspace, &[Need::Host, Need::Kernel, Need::Lab, Need::Bench], Mode::Install)?;
    build::kernel_programs(workspace)?;
    build::host_programs(
        workspace,
        Profile::Release,
        &["-p", "nightgate-bench", "-p", "nightgate"],
    )?;
    let program = workspace.program(Profile::Release, "nightgate-bench");
    let mut command = nightgate_lab::program(&program);
    // Programs that are measured beside, and were built for it.
    let built = workspace.cache().join(BORINGTUN).join("bin");
    command.arg(suite).env("PATH", path_with([built])?);
    match format {
        Format::Table => {}
        Format::Json => {
            command.arg("--json");
        }
    }
    let of_all = (suite == ALL).then(|| workspace.root().join(PICTURE));
    if let Some(path) = svg.map(Path::to_path_buf).or(of_all) {
        command.arg("--svg").arg(path);
    }
    let status = command.status().with_context(|| format!("start {}", program.display()))?;
    if !status.success() {
        bail!("suite {suite}: {status}");
    }
    Ok(())
}
