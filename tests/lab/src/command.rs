//! Commands that run to their end.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::run::RunId;

/// A command marked as belonging to this run.
pub fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(name);
    command.env(RunId::VARIABLE, RunId::current().to_string());
    command
}

/// Runs a command and returns what it printed on standard output.
///
/// # Errors
/// It cannot be started or does not succeed; the error carries the command line and what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {}", line(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {}{}", line(command), output.status, stderr.trim(), stdout.trim());
    }
    Ok(stdout)
}

/// Runs a line whose words are separated by white space; there is no quoting.
///
/// # Errors
/// As [`run`].
pub fn shell(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let name = words.next().context("an empty command line")?;
    run(program(name).args(words))
}

/// The command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_command_and_what_it_said() {
        let error = run(program("sh").args(["-c", "echo why >&2; exit 4"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c") && text.contains("exit status: 4") && text.contains("why"));
    }

    #[test]
    fn a_line_is_split_into_words() {
        assert_eq!(shell("echo  one two").unwrap(), "one two\n");
    }
}
