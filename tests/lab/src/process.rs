//! Processes that live as long as their owner.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{command::line, wait::until};

/// How long a process may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// Memory of a process in KiB, by a line of proc_pid_status(5): `VmRSS` for what is resident, `VmHWM` for the most that was.
///
/// # Errors
/// There is no such process, or no such line.
pub fn memory(process: u32, line: &str) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let found = status.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(':'));
    let kib = found.and_then(|rest| rest.split_whitespace().next());
    kib.with_context(|| format!("no {line} in {path}"))?.parse().context(path)
}

/// A long-lived process with its output in a file. Ended when dropped: SIGTERM, then SIGKILL.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command; its output goes to `FOLDER/NAME.log`.
    ///
    /// # Errors
    /// The log cannot be written or the command cannot be started.
    pub fn spawn(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {}", line(&command)))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until its output contains a text.
    ///
    /// # Errors
    /// It ends before, or the time is over.
    pub fn wait_for_output(&mut self, text: &str, within: Duration) -> Result<()> {
        self.wait_until(
            &format!("{text:?} in the output of {}", self.name.clone()),
            within,
            |own| Ok(own.log().contains(text).then_some(())),
        )
    }

    /// Waits until `check` has an answer, as [`until`], but fails at once when the process has ended.
    ///
    /// # Errors
    /// It ends before, the check fails, or the time is over.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut check: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        until(what, within, || {
            if let Some(answer) = check(self)? {
                return Ok(Some(answer));
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) while waiting for {what}:\n{}", self.name, self.log());
            }
            Ok(None)
        })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process has ended and has been waited for.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// The process does not end in time.
    pub fn stop(&mut self, signal: Signal, within: Duration) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            self.signal(signal)?;
        }
        until(&format!("end of {}", self.name.clone()), within, || Ok(self.child.try_wait()?))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn ends_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // Not `stop`: an interrupt must not cut this wait short.
        if kill(self.pid(), Signal::SIGTERM).is_ok() && self.ends_within(GRACE) {
            return;
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn script(text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        command
    }

    fn exists(pid: u32) -> bool {
        Path::new("/proc").join(pid.to_string()).exists()
    }

    #[test]
    fn a_dropped_process_is_gone_even_if_it_ignores_the_polite_signal() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::spawn(
            "stubborn",
            script("trap '' TERM; echo ready; while :; do sleep 0.05; done"),
            folder.path(),
        )
        .unwrap();
        process.wait_for_output("ready", LONG).unwrap();
        let pid = process.id();
        drop(process);
        assert!(!exists(pid));
    }

    #[test]
    fn waiting_for_a_process_that_ends_fails_with_its_output() {
        let folder = tempfile::tempdir().unwrap();
        let mut process =
            Process::spawn("failing", script("echo no such file; exit 2"), folder.path()).unwrap();
        let error = process.wait_for_output("ready", LONG).unwrap_err().to_string();
        assert!(error.contains("exit status: 2") && error.contains("no such file"), "{error}");
    }

    #[test]
    fn a_process_is_removed_when_the_test_panics() {
        let folder = tempfile::tempdir().unwrap();
        let pid = std::sync::Mutex::new(0);
        let result = std::panic::catch_unwind(|| {
            let process =
                Process::spawn("sleeper", script("exec sleep 600"), folder.path()).unwrap();
            *pid.lock().unwrap() = process.id();
            panic!("as tests do");
        });
        assert!(
            result.is_err()
                && !exists(*pid.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
        );
    }
}
