//! `cargo xtask build`: the kernel object, then the host programs that embed it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    progress,
    setup::KernelToolchain,
    workspace::{Profile, Workspace},
};

/// Builds the kernel programs and the `nightgate` binary.
///
/// # Errors
/// A compiler fails; the end of its output has been shown.
pub(crate) fn everything(workspace: &Workspace, profile: Profile) -> Result<()> {
    kernel_programs(workspace)?;
    host_programs(workspace, profile, &["-p", "nightgate"])
}

/// The objects: one for gateways, one for tunnelers.
pub(crate) const KERNEL_OBJECTS: [&str; 2] = ["nightgate-ebpf", "nightgate-tunnel-ebpf"];

/// Builds the kernel programs into [`Workspace::kernel_object`]s.
///
/// # Errors
/// The toolchain is missing or fails.
pub(crate) fn kernel_programs(workspace: &Workspace) -> Result<()> {
    let toolchain = KernelToolchain::find(workspace)?;
    let mut command = toolchain.build(workspace)?;
    command.arg("--release");
    progress::run("kernel programs", &mut command, &workspace.logs().join("kernel-programs.log"))?;
    let built = workspace.kernel_target().join("bpfel-unknown-none/release");
    KERNEL_OBJECTS
        .iter()
        .try_for_each(|name| replace_if_changed(&built.join(name), &workspace.kernel_object(name)))
}

/// Builds the binary and the example applications that the demo runs.
///
/// # Errors
/// The compiler fails.
pub(crate) fn demo_programs(workspace: &Workspace) -> Result<()> {
    let selection = [
        "-p",
        "nightgate",
        "-p",
        "nightgate-sdk",
        "--bin",
        "nightgate",
        "--example",
        "axum_hidden",
        "--example",
        "web_client",
    ];
    host_programs(workspace, Profile::Dev, &selection)
}

/// Builds the chosen packages, binaries or examples of the workspace.
///
/// # Errors
/// The compiler fails.
pub(crate) fn host_programs(
    workspace: &Workspace,
    profile: Profile,
    selection: &[&str],
) -> Result<()> {
    let mut command = workspace.cargo(["build"]);
    command.args(profile.arguments()).args(selection);
    progress::run("host programs", &mut command, &workspace.logs().join("host-programs.log"))
}

/// Puts a file in its place in one step, and only if its content is new: cargo rebuilds by time of change.
fn replace_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let staged = to.with_extension("new");
    fs::write(&staged, &new).with_context(|| format!("write {}", staged.display()))?;
    fs::rename(&staged, to).with_context(|| format!("rename {} into place", staged.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_object_keeps_its_time_of_change() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("built"), folder.path().join("object"));
        fs::write(&from, "one").unwrap();
        replace_if_changed(&from, &to).unwrap();
        let first = fs::metadata(&to).unwrap().modified().unwrap();

        fs::write(&from, "one").unwrap();
        replace_if_changed(&from, &to).unwrap();
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), first);

        fs::write(&from, "two").unwrap();
        replace_if_changed(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"two");
    }
}
