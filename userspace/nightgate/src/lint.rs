//! `nightgate fw lint`: what is odd about rules that are not wrong.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use nightgate_config::{Config, ConfigError, Gateway};
use nightgate_ruleset::{Finding, RuleSet, Severity};
use serde::Serialize;

use crate::{
    config_file,
    output::{OutputArgs, Table},
};

/// `nightgate fw lint`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LintArgs {
    /// Configuration file of a gateway
    file: PathBuf,
    #[command(flatten)]
    strict: StrictArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Whether warnings are failures.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct StrictArgs {
    /// Fail if there are warnings; notices never fail
    #[arg(long)]
    strict: bool,
}

/// A finding as it is printed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FindingReport {
    severity: &'static str,
    kind: &'static str,
    rule: Option<String>,
    line: Option<u32>,
    others: Vec<String>,
    why: String,
    remedy: String,
}

/// Prints what is odd about a file's rules.
pub(crate) fn lint(args: &LintArgs) -> anyhow::Result<()> {
    let file = args.file.display().to_string();
    let (_, parsed) = config_file::read(&args.file, file.clone())?;
    let (gateway, rules) = compile(parsed, &file)?;
    let findings = findings(&gateway, &rules);
    args.output.print(&findings, |findings| match &findings[..] {
        [] => format!("{file}: nothing odd about {} rules", rules.rules().len()),
        findings => table(findings).to_string(),
    })?;
    args.strict.judge(&findings)
}

/// What is odd about the rules of a gateway, the worst first.
pub(crate) fn findings(gateway: &Gateway, rules: &RuleSet) -> Vec<FindingReport> {
    let mut findings = nightgate_ruleset::lint(gateway, rules);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.kind.severity()));
    findings.into_iter().map(FindingReport::from).collect()
}

/// Findings below one another.
pub(crate) fn table(findings: &[FindingReport]) -> Table {
    findings.iter().fold(
        Table::new(&["severity", "kind", "line", "rule", "why", "remedy"]),
        |table, finding| {
            let line = finding.line.map_or_else(|| "-".into(), |line| line.to_string());
            let rule = finding.rule.as_deref().unwrap_or("-");
            table.row([finding.severity, finding.kind, &line, rule, &finding.why, &finding.remedy])
        },
    )
}

/// The gateway and rules of a configuration; the error lists everything that is wrong with it.
pub(crate) fn compile(
    parsed: Result<Config, Vec<ConfigError>>,
    file: &str,
) -> anyhow::Result<(Gateway, RuleSet)> {
    let config = parsed.map_err(|errors| lines(&errors))?;
    let gateway = config
        .gateway
        .with_context(|| format!("{file}: no zones; expected the configuration of a gateway"))?;
    let rules = nightgate_ruleset::compile(&gateway).map_err(|errors| lines(&errors))?;
    Ok((gateway, rules))
}

impl StrictArgs {
    /// Fails for warnings if it is to.
    pub(crate) fn judge(self, findings: &[FindingReport]) -> anyhow::Result<()> {
        let is_warning = |finding: &&FindingReport| finding.severity == Severity::Warning.as_str();
        match findings.iter().filter(is_warning).count() {
            1 if self.strict => bail!("1 warning"),
            warnings @ 2.. if self.strict => bail!("{warnings} warnings"),
            _ => Ok(()),
        }
    }
}

impl From<Finding> for FindingReport {
    fn from(finding: Finding) -> Self {
        Self {
            severity: finding.kind.severity().as_str(),
            kind: finding.kind.as_str(),
            line: finding.rule.as_ref().map(|place| place.line.number()),
            rule: finding.rule.map(|place| place.rule.to_string()),
            others: finding.others.iter().map(|place| place.rule.to_string()).collect(),
            why: finding.why,
            remedy: finding.remedy,
        }
    }
}

fn lines<T: ToString>(errors: &[T]) -> anyhow::Error {
    anyhow!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str = "version: 1
router: { identity: gw.json }
zones: { lan: { interfaces: [lan0] }, wan: { interfaces: [wan0] } }
rules:
  - { id: all, from: lan, to: wan, action: accept }
  - { id: no-smtp, from: lan, to: wan, protocol: tcp, destination_ports: [25], action: drop }
  - { id: rest, from: wan, to: lan, action: drop }
";

    fn compile(text: &str, file: &str) -> anyhow::Result<(Gateway, RuleSet)> {
        super::compile(nightgate_config::parse(text, file), file)
    }

    #[test]
    fn warnings_come_first_and_fail_only_if_they_are_to() {
        let (gateway, rules) = compile(GATEWAY, "gw.yaml").unwrap();
        let findings = findings(&gateway, &rules);

        let kinds: Vec<_> = findings.iter().map(|f| (f.severity, f.kind, f.line)).collect();
        assert_eq!(kinds, [("warning", "shadowed", Some(6)), ("notice", "like-default", Some(7))]);
        assert!(StrictArgs { strict: false }.judge(&findings).is_ok());
        assert!(StrictArgs { strict: true }.judge(&findings).is_err());
        assert!(StrictArgs { strict: true }.judge(&findings[1..]).is_ok());
        assert!(table(&findings).to_string().contains("all (line 5)"));
    }

    #[test]
    fn a_file_of_a_router_or_with_errors_is_refused() {
        let router = "version: 1\nrouter: { identity: r.json }\n";
        assert!(compile(router, "r.yaml").unwrap_err().to_string().contains("no zones"));
        let wrong = GATEWAY.replace("drop", "maybe");
        let error = compile(&wrong, "gw.yaml").unwrap_err().to_string();
        assert_eq!(error.lines().count(), 2, "{error}");
    }
}
