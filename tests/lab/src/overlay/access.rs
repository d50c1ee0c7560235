//! What the demo's table says at the end: who reached what, by which path, and who did not.

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use super::{configuration::GATEWAY_A, deployment::Deployment};
use crate::command::run;

/// Between two looks at the circuits of a program that runs.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It got there.
    Reached,
    /// It did not, as was wanted.
    Refused,
    /// Nobody's attempt: what somebody in between saw.
    Seen,
}

/// A line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Access {
    /// How it ended.
    pub outcome: Outcome,
    /// What was accessed, with which program.
    pub what: String,
    /// By whom.
    pub by: String,
    /// Over which routers, in the order of the way there; `-` if none.
    pub path: String,
    /// What came of it, or why it was refused.
    pub seen: String,
}

impl Access {
    /// Something that was reached.
    pub(super) fn reached(what: &str, by: &str, path: &str, seen: &str) -> Self {
        Self::new(Outcome::Reached, what, by, path, seen)
    }

    /// Something that was not reached, and why.
    pub(super) fn refused(what: &str, by: &str, seen: &str) -> Self {
        Self::new(Outcome::Refused, what, by, "-", seen)
    }

    /// What somebody in between saw.
    pub(super) fn seen(what: &str, by: &str, seen: &str) -> Self {
        Self::new(Outcome::Seen, what, by, "-", seen)
    }

    fn new(outcome: Outcome, what: &str, by: &str, path: &str, seen: &str) -> Self {
        let [what, by, path, seen] = [what, by, path, seen].map(str::to_owned);
        Self { outcome, what, by, path, seen }
    }

    /// All of them, in columns, with a head.
    pub fn table(accesses: &[Self]) -> String {
        let head = ["", "WHAT", "BY", "PATH", "WHAT CAME OF IT"].map(str::to_owned);
        let lines: Vec<[String; 5]> =
            std::iter::once(head).chain(accesses.iter().map(Self::cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths = [0, 1, 2, 3].map(|column| width(column).unwrap_or_default());
        let mut table = String::new();
        for [outcome, what, by, path, seen] in &lines {
            let [a, b, c, d] = widths;
            table.push_str(&format!("{outcome:a$}  {what:b$}  {by:c$}  {path:d$}  {seen}\n"));
        }
        table
    }

    fn cells(&self) -> [String; 5] {
        let outcome = match self.outcome {
            Outcome::Reached => "reached",
            Outcome::Refused => "refused",
            Outcome::Seen => "seen",
        };
        let Self { what, by, path, seen, .. } = self.clone();
        [outcome.to_owned(), what, by, path, seen]
    }
}

/// The names of the routers that a circuit of gateway A to a service passes, if there is one.
pub(super) fn path(deployment: &Deployment, service: &str) -> Result<Option<Vec<String>>> {
    let circuits: Vec<Value> =
        serde_json::from_str(&deployment.ask(GATEWAY_A, "circuits --json")?)?;
    let circuit = circuits.iter().find(|circuit| circuit["service_name"] == service);
    let names = circuit.and_then(|circuit| circuit["path_names"].as_array());
    let name = |name: &Value| name.as_str().map(str::to_owned);
    Ok(names.map(|names| names.iter().filter_map(name).collect()))
}

/// Runs a program and looks meanwhile by which path it reaches a service; gives what it printed, and the path if it
/// had one.
pub(super) fn watch(
    deployment: &Deployment,
    service: &str,
    command: &mut Command,
) -> Result<(String, Option<String>)> {
    let line = crate::command::line(command);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut seen = None;
    while seen.is_none() && child.try_wait()?.is_none() {
        seen = path(deployment, service)?;
        thread::sleep(LOOK_EVERY);
    }
    let output = child.wait_with_output().with_context(|| line.clone())?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "{line}: {}: {}{printed}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((printed, seen.map(|path| path.join(" - "))))
}

/// What a program of the client prints.
pub(super) fn client(deployment: &Deployment, line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let mut command = deployment.topology.client.command(words.next().context("an empty line")?);
    run(command.args(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let table = Access::table(&[
            Access::reached("psql db.corp", "client", "gw-a - r1 - gw-b", "a row"),
            Access::refused("ssh gw-a", "attacker", "no-rule"),
        ]);
        let starts = table.lines().zip(["WHAT", "psql", "ssh"]).map(|(line, what)| line.find(what));
        assert_eq!(starts.collect::<Vec<_>>(), [Some(9); 3], "{table}");
        assert!(table.contains("ssh gw-a      attacker  -                 no-rule\n"), "{table}");
    }
}
