//! Shows what is going on and for how long, on standard error: standard output is for results.

use std::{
    fs::{self, File},
    io::{IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Width of the column of step names.
pub(crate) const NAME_WIDTH: usize = 28;

/// How often a running step is looked at.
const POLL: Duration = Duration::from_millis(20);
/// How often a running step says on a terminal that it still runs.
const TERMINAL_PERIOD: Duration = Duration::from_millis(500);
/// How often it says so in a log.
const LOG_PERIOD: Duration = Duration::from_secs(20);
/// How much of a failed step's output is shown, in lines.
const TAIL_LINES: usize = 60;

/// Runs a command as one named step. Its output goes to `log`; the end of it is shown if it fails.
///
/// # Errors
/// The command cannot be started, or does not succeed.
pub(crate) fn run(name: &str, command: &mut Command, log: &Path) -> Result<()> {
    let started = Instant::now();
    let status = watch(name, command, log, started)?;
    report(name, if status.success() { "ok" } else { "FAILED" }, started.elapsed());
    if !status.success() {
        eprintln!("{}", tail(log, TAIL_LINES));
        bail!("{name}: {status}; all of its output is in {}", log.display());
    }
    Ok(())
}

/// Prints how a step ended.
pub(crate) fn report(name: &str, verdict: &str, took: Duration) {
    clear_line();
    eprintln!("{name:NAME_WIDTH$} {verdict:8} {:7.1} s", took.as_secs_f64());
}

/// The last lines of a file; empty if it cannot be read.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn watch(name: &str, command: &mut Command, log: &Path, started: Instant) -> Result<ExitStatus> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("{name}: start {}", command.get_program().display()))?;
    let period = if on_terminal() { TERMINAL_PERIOD } else { LOG_PERIOD };
    let mut next = period;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if started.elapsed() >= next {
            next += period;
            show_running(name, started.elapsed(), &last_line(log));
        }
        std::thread::sleep(POLL);
    }
}

fn show_running(name: &str, elapsed: Duration, doing: &str) {
    let doing: String = doing.chars().filter(|c| !c.is_control()).take(60).collect();
    let line = format!("{name:NAME_WIDTH$} running  {:7.1} s  {doing}", elapsed.as_secs_f64());
    if on_terminal() {
        clear_line();
        eprint!("{line}");
    } else {
        eprintln!("{line}");
    }
    // Progress that cannot be shown is no reason to stop.
    std::io::stderr().flush().ok();
}

fn clear_line() {
    if on_terminal() {
        eprint!("\r\x1b[K");
    }
}

fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// The last finished line of a file that is being written.
fn last_line(path: &Path) -> String {
    const WINDOW: u64 = 512;
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
        file.read_to_end(&mut bytes)
    });
    if read.is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_names_itself_and_keeps_its_output() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/step.log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);

        let error = run("a step", &mut command, &log).unwrap_err().to_string();

        assert!(error.contains("a step") && error.contains("exit status: 3"), "{error}");
        assert_eq!(tail(&log, 10), "out\nerr");
    }

    #[test]
    fn the_last_line_is_the_last_one_with_text() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::write(&log, "first\n   Compiling something\n\n").unwrap();

        assert_eq!(last_line(&log), "Compiling something");
        assert_eq!(last_line(&folder.path().join("absent")), "");
    }
}
