//! BPF file systems.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A BPF file system of its own. What is pinned in it lives on without any process; all of it is gone when
/// this is dropped.
#[derive(Debug)]
pub struct BpfFileSystem(PathBuf);

impl BpfFileSystem {
    /// Mounts one at `FOLDER/bpf`; the folder is one of [`crate::temporary_folder`], by which a later run finds
    /// what this one may leave behind.
    ///
    /// # Errors
    /// The process is not root.
    pub fn mount(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount a BPF file system at {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for BpfFileSystem {
    fn drop(&mut self) {
        // Nothing better can be done about a failure here; `sweep` of the next run tries again.
        unmount(&self.0).ok();
    }
}

/// Name of the mount point in a run's folder.
const NAME: &str = "bpf";

/// Takes a BPF file system away from a run's folder, if there is one.
pub(crate) fn unmount_in(folder: &Path) -> Result<()> {
    let path = folder.join(NAME);
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("list mounts")?;
    let is_mounted =
        mounts.lines().any(|line| line.split(' ').nth(1).map(Path::new) == Some(&path));
    if is_mounted { unmount(&path) } else { Ok(()) }
}

fn unmount(path: &Path) -> Result<()> {
    umount2(path, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", path.display()))
}
