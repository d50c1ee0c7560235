//! Who made what: the identity of a run of the laboratory.

use std::{fmt, fs, process, str::FromStr, sync::OnceLock};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// Identifies a process that makes namespaces: its pid and, because pids are used again, when it started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RunId {
    pid: u32,
    /// Clock ticks after boot: field 22 of /proc/PID/stat, proc(5).
    start: u64,
}

impl RunId {
    /// Environment variable that marks the processes of a run.
    pub const VARIABLE: &'static str = "NIGHTGATE_LAB_RUN";

    /// The run of this process.
    pub fn current() -> Self {
        static CURRENT: OnceLock<RunId> = OnceLock::new();
        let pid = process::id();
        *CURRENT.get_or_init(|| Self { pid, start: start_of(pid).unwrap_or_default() })
    }

    /// Whether the process that this names still runs.
    pub fn is_alive(self) -> bool {
        start_of(self.pid) == Some(self.start)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.pid, self.start)
    }
}

impl FromStr for RunId {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((pid, start)) = text.split_once('.') else {
            bail!("run {text:?}: expected PID.START");
        };
        Ok(Self { pid: pid.parse()?, start: start.parse()? })
    }
}

/// Prefix of the names of temporary folders.
pub(crate) const FOLDER_PREFIX: &str = "nightgate-lab-";

/// Makes a folder for files of this run, removed when dropped.
///
/// # Errors
/// The folder for temporary files cannot be written.
pub fn temporary_folder() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix(&format!("{FOLDER_PREFIX}{}-", RunId::current()))
        .tempdir()
        .context("make a temporary folder")
}

fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?;
    if state == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_knows_whether_it_is_alive() {
        let current = RunId::current();
        assert!(current.is_alive());
        assert_eq!(current.to_string().parse::<RunId>().unwrap(), current);
        assert!(!RunId { start: current.start + 1, ..current }.is_alive());
        assert!("12".parse::<RunId>().is_err());
    }
}
