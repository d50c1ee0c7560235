//! Every declared metric is counted somewhere.

use std::path::Path;

use anyhow::{Result, bail};

use crate::{
    sources::{self, SourceFile},
    workspace::Workspace,
};

/// Where metrics are declared, as `pub const NAME: KindMetric = ...`.
const DECLARATIONS: &str = "userspace/telemetry/src/metrics.rs";

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
    Ok(names
        .into_iter()
        .filter(|name| !others.iter().any(|file| mentions(file.without_tests(), name)))
        .map(|name| format!("{DECLARATIONS}: {name} is declared but never used"))
        .collect())
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
    fn a_longer_word_is_no_use() {
        assert!(mentions("metrics::DIALS.inc()", "DIALS"));
        assert!(!mentions("OLD_DIALS DIALS_TOTAL", "DIALS"));
    }
}
