//! `nightgate fw check`: reads a configuration and compiles its rules, without touching anything.

use std::path::PathBuf;

use anyhow::bail;
use nightgate_config::{Config, ConfigError, Rule};
use serde::Serialize;

use crate::{
    config_file,
    lint::{self, FindingReport, StrictArgs},
    output::{OutputArgs, Table},
};

/// `nightgate fw check`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Configuration file of a router or gateway
    file: PathBuf,
    #[command(flatten)]
    strict: StrictArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a configuration says, or what is wrong with it.
#[derive(Debug, Default, Serialize)]
struct Report {
    file: String,
    errors: Vec<String>,
    zones: Vec<ZoneReport>,
    rules: Vec<RuleReport>,
    /// Entries that the rules take in the kernel's table.
    entries: usize,
    /// What is odd about the rules.
    findings: Vec<FindingReport>,
}

#[derive(Debug, Serialize)]
struct ZoneReport {
    name: String,
    interfaces: Vec<String>,
}

#[derive(Debug, Serialize)]
struct RuleReport {
    id: String,
    from: Vec<String>,
    to: Vec<String>,
    protocol: String,
    action: &'static str,
}

/// Checks a configuration file and prints its rules, or every error in it.
pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<()> {
    let file = args.file.display().to_string();
    let (_, parsed) = config_file::read(&args.file, file.clone())?;
    let report = examine(parsed, &file);
    args.output.print(&report, Report::text)?;
    match report.errors.len() {
        0 => args.strict.judge(&report.findings),
        1 => bail!("{file}: 1 error"),
        count => bail!("{file}: {count} errors"),
    }
}

fn examine(parsed: Result<Config, Vec<ConfigError>>, file: &str) -> Report {
    let empty = Report { file: file.into(), ..Report::default() };
    match parsed {
        Ok(config) => compile(&config, empty),
        Err(errors) => Report { errors: texts(&errors), ..empty },
    }
}

fn compile(config: &Config, mut report: Report) -> Report {
    let Some(gateway) = &config.gateway else { return report };
    match nightgate_ruleset::compile(gateway) {
        Ok(rules) => {
            report.entries = rules.image().entries().len();
            report.findings = lint::findings(gateway, &rules);
        }
        Err(errors) => report.errors = texts(&errors),
    }
    report.zones = gateway
        .zones
        .iter()
        .map(|(name, zone)| ZoneReport {
            name: name.to_string(),
            interfaces: texts(&zone.interfaces),
        })
        .collect();
    report.rules = gateway.rules.iter().map(RuleReport::new).collect();
    report
}

fn texts<'a, T: ToString + 'a>(items: impl IntoIterator<Item = &'a T>) -> Vec<String> {
    items.into_iter().map(ToString::to_string).collect()
}

impl RuleReport {
    fn new(rule: &Rule) -> Self {
        Self {
            id: rule.id.to_string(),
            from: texts(&rule.from),
            to: texts(&rule.to),
            protocol: rule.protocol.to_string(),
            action: rule.action.word(),
        }
    }
}

impl Report {
    /// The table, and what is odd.
    fn text(&self) -> String {
        let table = self.table().to_string();
        if self.findings.is_empty() {
            table
        } else {
            format!("{table}\n\n{}", lint::table(&self.findings))
        }
    }

    /// The errors, or the rules with the last one that is always there.
    fn table(&self) -> Table {
        if !self.errors.is_empty() {
            return self
                .errors
                .iter()
                .fold(Table::new(&["errors"]), |table, error| table.row([error]));
        }
        let columns = Table::new(&["rule", "from", "to", "protocol", "action"]);
        let rules = self.rules.iter().fold(columns, |table, rule| {
            let (from, to) = (rule.from.join(","), rule.to.join(","));
            table.row([rule.id.as_str(), &from, &to, &rule.protocol, rule.action])
        });
        rules.row(["(default)", "any", "any", "any", "drop"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str = "
version: 1
router: { identity: gw.json }
zones: { lan: { interfaces: [lan0] } }
rules:
  - { id: dns, from: lan, to: local, protocol: udp, destination_ports: [53], action: accept }
";

    fn examine(text: &str, file: &str) -> Report {
        super::examine(nightgate_config::parse(text, file), file)
    }

    #[test]
    fn a_good_configuration_is_summed_up_with_its_default() {
        let report = examine(GATEWAY, "gw.yaml");

        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert_eq!((report.zones.len(), report.rules.len(), report.entries), (1, 1, 1));
        assert!(report.findings.is_empty());
        let table = report.text();
        assert!(table.lines().last().unwrap().starts_with("(default)"), "{table}");
    }

    #[test]
    fn a_bad_one_is_listed_error_by_error() {
        let report = examine("version: 2\nzones: 7\n", "gw.yaml");

        assert!(report.errors.len() >= 3, "{:?}", report.errors);
        assert!(report.errors.iter().all(|error| error.starts_with("gw.yaml:")));
    }

    #[test]
    fn more_zones_than_the_kernel_holds_are_an_error() {
        let zone = |number| format!("  z{number}: {{ interfaces: [if{number}] }}\n");
        let zones = (0..100).map(zone).collect::<String>();
        let text = format!("version: 1\nrouter: {{ identity: gw.json }}\nzones:\n{zones}");

        let errors = examine(&text, "gw.yaml").errors;
        assert!(matches!(&errors[..], [error] if error.contains("100")), "{errors:?}");
    }
}
