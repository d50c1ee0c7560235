//! Every declared metric is counted somewhere, and documented as it is declared.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::{
    sources::{self, SourceFile},
    workspace::Workspace,
};

/// Where metrics are declared, as `pub const NAME: KindMetric = ...`.
const DECLARATIONS: &str = "userspace/telemetry/src/metrics.rs";

/// Where metrics are documented, one row of a table for each.
const DOCUMENT: &str = "docs/metrics.md";

/// Looks for a use of every declared metric outside of tests.
///
/// # Errors
/// The sources cannot be read, or declare no metric at all.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let files = sources::rust_files(workspace.root())?;
    let (declaring, others): (Vec<SourceFile>, Vec<SourceFile>) =
        files.into_iter().partition(|file| file.path == Path::new(DECLARATIONS));
    let names: Vec<&str> = declaring.iter().flat_map(|file| declared(&file.text)).collect();
    if names.is_empty() {
        bail!("{DECLARATIONS} declares no metric as `pub const NAME: KindMetric`");
    }
    let unused = names
        .into_iter()
        .filter(|name| !others.iter().any(|file| mentions(file.without_tests(), name)))
        .map(|name| format!("{DECLARATIONS}: {name} is declared but never used"));
    let document = workspace.root().join(DOCUMENT);
    let document = fs::read_to_string(&document).with_context(|| format!("read {DOCUMENT}"))?;
    let rows: Vec<String> = declaring.iter().flat_map(|file| rows(&file.text)).collect();
    Ok(unused.chain(undocumented(&rows, &document)).collect())
}

/// What differs between the rows that there should be and those that there are.
fn undocumented(rows: &[String], document: &str) -> Vec<String> {
    let is_row = |line: &&str| line.starts_with("| `nightgate_");
    let missing = rows.iter().filter(|row| !document.lines().any(|line| line == *row));
    let missing = missing.map(|row| format!("{DOCUMENT}: there is no row {row}"));
    let stale = document.lines().filter(is_row).filter(|line| !rows.iter().any(|row| row == line));
    missing
        .chain(stale.map(|line| format!("{DOCUMENT}: no metric is declared so: {line}")))
        .collect()
}

/// The row of each declared metric: name, kind, labels, help.
fn rows(text: &str) -> Vec<String> {
    let declarations = text.split("pub const ").skip(1).filter(|it| it.contains("Metric {"));
    let row = |declaration: &str| {
        let (declaration, _) = declaration.split_once("};")?;
        let kind = if declaration.contains("CounterMetric") { "counter" } else { "gauge" };
        let quoted = |key: &str| {
            let (_, rest) = declaration.split_once(key)?;
            rest.trim_start().strip_prefix('"')?.split_once('"').map(|(text, _)| text)
        };
        let (name, help) = (quoted("name:")?, quoted("help:")?);
        let (_, labels) = declaration.split_once("labels: &[")?;
        let (labels, _) = labels.split_once(']')?;
        let labels = labels.replace('"', "");
        Some(format!("| `{name}` | {kind} | {} | {help} |", labels.trim()))
    };
    declarations.filter_map(row).collect()
}

fn declared(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("pub const ")?.split_once(':')?;
        kind.split('=').next()?.trim().ends_with("Metric").then_some(name)
    })
}

/// Whether a text contains a word that is not part of a longer one.
fn mentions(text: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(start, _)| {
        !text[..start].ends_with(part_of_word)
            && !text[start + word.len()..].starts_with(part_of_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_by_their_type() {
        let text = "pub const DIALS: CounterMetric = CounterMetric {\npub const LIMIT: u32 = 3;\n";
        assert_eq!(declared(text).collect::<Vec<_>>(), ["DIALS"]);
    }

    #[test]
    fn documents_say_what_declarations_say() {
        let text = "pub const DIALS: CounterMetric = CounterMetric {\n    name: \"nightgate_dials_total\",\n    \
            help: \"Dials\",\n    labels: &[\"service\", \"outcome\"],\n};\n";
        let rows = rows(text);
        let row = "| `nightgate_dials_total` | counter | service, outcome | Dials |";
        assert_eq!(rows, [row]);
        assert!(undocumented(&rows, row).is_empty());
        let stale = row.replace("Dials |", "Calls |");
        assert_eq!(undocumented(&rows, &stale).len(), 2);
    }

    #[test]
    fn a_longer_word_is_no_use() {
        assert!(mentions("metrics::DIALS.inc()", "DIALS"));
        assert!(!mentions("OLD_DIALS DIALS_TOTAL", "DIALS"));
    }
}
