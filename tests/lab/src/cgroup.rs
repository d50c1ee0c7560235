//! A cgroup v2 whose programs a tunneler looks after.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::Namespace;

/// A cgroup of its own for a namespace; removed when this is dropped and its programs have ended.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes it, at the top of the hierarchy.
    ///
    /// # Errors
    /// No cgroup v2 file system is mounted, or the process is not root.
    pub fn new(namespace: &Namespace) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("list mounts")?;
        let root = mounts.lines().find_map(|line| {
            // Device, folder, kind: fstab(5).
            let mut fields = line.split(' ').skip(1);
            let (folder, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| Path::new(folder))
        });
        let path = root.context("no cgroup v2")?.join(namespace.name());
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Runs a program in the cgroup and in a namespace, to its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(&self, namespace: &Namespace, program: &[&str]) -> Result<Output> {
        let enter = format!(
            "echo $$ > {}/cgroup.procs && exec ip netns exec {} \"$@\"",
            self.0.display(),
            namespace.name()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &enter, "sh"]).args(program).stdin(Stdio::null());
        command.output().context("start a program in a cgroup")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
