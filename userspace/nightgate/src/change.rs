//! `nightgate fw plan`, `apply`, `confirm`, `rollback`: changes of a running gateway's rules.

use std::{fs, net::SocketAddr, os::unix::process::parent_id, path::PathBuf};

use anyhow::bail;
use nightgate_config::{Config, ConfigError};
use nightgate_gateway::admin::{self, Apply, Request, RuleFile, Session};
use serde_json::Value;

use crate::{
    config_file,
    lint::{self, StrictArgs},
    observe::ObserveArgs,
    output::{OutputArgs, Table},
};

/// A file and the gateway it is for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TargetArgs {
    /// Configuration file of the gateway: its zones, rules, private DNS and mirror; the rest cannot change
    file: PathBuf,
    #[command(flatten)]
    observe: ObserveArgs,
}

/// `nightgate fw apply`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Go back to the rules before unless `nightgate fw confirm` comes in this time, such as 60s or 5m
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    confirm: Option<u32>,
    /// Apply even rules that cut this SSH session
    #[arg(long)]
    force: bool,
}

/// `nightgate fw plan`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    strict: StrictArgs,
}

/// Prints what a file would change, and what is odd about its rules.
pub(crate) async fn plan(args: &PlanArgs) -> anyhow::Result<()> {
    let ((file, parsed), observe) = (args.target.read()?, &args.target.observe);
    let (gateway, rules) = lint::compile(parsed, &file.name)?;
    let differences = admin::ask(&observe.socket, Request::Plan(file)).await?;
    let findings = lint::findings(&gateway, &rules);
    let answer = serde_json::json!({ "differences": differences, "findings": findings });
    observe.output.print(&answer, |_| match &findings[..] {
        [] => describe(&differences),
        findings => format!("{}\n\n{}", describe(&differences), lint::table(findings)),
    })?;
    args.strict.judge(&findings)
}

/// Puts the rules of a file in force.
pub(crate) async fn apply(args: &ApplyArgs) -> anyhow::Result<()> {
    let session = if args.force { None } else { own_session() };
    let (file, parsed) = args.target.read()?;
    config_file::listed(parsed)?;
    let apply = Apply { file, confirm_within: args.confirm, session };
    let observe = &args.target.observe;
    let answer = admin::ask(&observe.socket, Request::Apply(apply)).await?;
    print(observe.output, &answer)
}

/// Keeps the rules that wait for it.
pub(crate) async fn confirm(args: &ObserveArgs) -> anyhow::Result<()> {
    print(args.output, &admin::ask(&args.socket, Request::Confirm).await?)
}

/// Puts the rules before in force again.
pub(crate) async fn rollback(args: &ObserveArgs) -> anyhow::Result<()> {
    print(args.output, &admin::ask(&args.socket, Request::Rollback).await?)
}

impl TargetArgs {
    fn read(&self) -> anyhow::Result<(RuleFile, Result<Config, Vec<ConfigError>>)> {
        config_file::read(&self.file, self.file.display().to_string())
    }
}

fn print(output: OutputArgs, answer: &Value) -> anyhow::Result<()> {
    output.print(answer, describe)
}

/// A line for each rule that differs, and what comes next.
fn describe(answer: &Value) -> String {
    let word = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let list = answer.get("differences").unwrap_or(answer).as_array().cloned().unwrap_or_default();
    let mut text = if list.is_empty() {
        "nothing differs".to_owned()
    } else {
        list.iter()
            .fold(Table::new(&["change", "what", "name"]), |table, difference| {
                table.row(["change", "what", "name"].map(|key| word(difference, key)))
            })
            .to_string()
    };
    if answer.is_object() {
        text += &format!("\nin force: {}", word(answer, "file"));
        if let Some(seconds) = answer["returns_in"].as_u64() {
            text += &format!(
                "\nthe rules before come back in {seconds} s unless you run `nightgate fw confirm`"
            );
        }
        text += &format!("\na restart uses {}", word(answer, "restart"));
    }
    text
}

/// Seconds of a time such as `60s`, `5m` or `1h`, at most a day.
pub(crate) fn seconds(text: &str) -> anyhow::Result<u32> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) if text.ends_with('m') => (number, 60),
        Some(number) if text.ends_with('h') => (number, 3_600),
        Some(number) => (number, 1),
        None => (text, 1),
    };
    let seconds = number.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    match seconds {
        Some(seconds @ 1..=86_400) => Ok(seconds),
        Some(_) | None => bail!("expected 1s to 86400s, such as 60s, 5m or 1h"),
    }
}

/// The SSH session that this command was typed in. `sudo` hides the variable, so the parents are asked too.
fn own_session() -> Option<Session> {
    /// Variable that sshd sets: addresses and ports of client and server, ssh(1).
    const VARIABLE: &str = "SSH_CONNECTION";
    if let Ok(text) = std::env::var(VARIABLE) {
        return session(&text);
    }
    let mut pid = parent_id();
    while pid > 1 {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let found = environment.split(|byte| *byte == 0).find_map(|variable| {
            std::str::from_utf8(variable).ok()?.strip_prefix(VARIABLE)?.strip_prefix('=')
        });
        if let Some(text) = found {
            return session(text);
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The parent is the second field behind the name, which may hold anything: proc(5).
        pid = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    }
    None
}

fn session(text: &str) -> Option<Session> {
    let words = text.split_whitespace().collect::<Vec<_>>();
    let [client, client_port, server, server_port] = words[..] else { return None };
    let end = |address: &str, port: &str| -> Option<SocketAddr> {
        // A link-local address comes with its interface.
        let address = address.split('%').next()?.parse().ok()?;
        Some(SocketAddr::new(address, port.parse().ok()?))
    };
    Some(Session { client: end(client, client_port)?, server: end(server, server_port)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_minutes_and_never_nothing() {
        assert_eq!(
            ["60", "60s", "5m", "1h"].map(|text| seconds(text).unwrap()),
            [60, 60, 300, 3_600]
        );
        for text in ["", "0", "0s", "s", "-1", "25h", "2000m", "99999999999m"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_session_is_what_sshd_says() {
        let found = session("2001:db8::9 40000 2001:db8::1 22").unwrap();
        assert_eq!(found.client, "[2001:db8::9]:40000".parse().unwrap());
        assert_eq!(found.server, "[2001:db8::1]:22".parse().unwrap());
        assert!(session("fe80::1%lan0 1 fe80::2%lan0 22").is_some());
        assert!(session("garbage").is_none());
    }

    #[test]
    fn the_answer_says_what_happens_next() {
        let text = describe(&serde_json::json!({
            "file": "new.yaml", "differences": [{"change": "added", "what": "rule", "name": "web"}],
            "returns_in": 60, "restart": "the rules before"
        }));
        for part in
            ["added", "web", "in force: new.yaml", "in 60 s", "a restart uses the rules before"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(describe(&serde_json::json!([])), "nothing differs");
    }
}
