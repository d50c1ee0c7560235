//! Counts as they were accepted, and what has changed since.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// Parts of a count that it may differ by. Random keys and addresses make up less than half of the first; the second
/// is for the size of kernel programs, where a little more in a path that is seldom taken costs nothing.
const TOLERANCE: f64 = 0.02;
const KERNEL_TOLERANCE: f64 = 0.05;

/// What names of kernel programs begin with.
pub(super) const KERNEL: &str = "kernel, ";

/// What the counts were made with comes first.
const TOOLS: &str = "tools";

const FILE: &str = "tests/instructions/baseline.txt";
const ACCEPT: &str = "if that is meant, run `cargo xtask check instructions --accept-instructions` and say in \
                      the commit what it buys";

/// Counts by name.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Baseline {
    /// Compilers and libraries: others make other counts of the same sources.
    pub(super) tools: String,
    pub(super) counts: BTreeMap<String, u64>,
}

/// What is to be said of counts.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Comparison {
    /// More instructions than were accepted.
    pub(crate) problems: Vec<String>,
    /// Fewer, or other tools.
    pub(crate) notes: Vec<String>,
}

impl Baseline {
    pub(super) fn read(workspace: &Workspace) -> Result<Self> {
        match fs::read_to_string(path(workspace)) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).context(format!("read {FILE}")),
        }
    }

    pub(super) fn write(&self, workspace: &Workspace) -> Result<()> {
        fs::write(path(workspace), self.to_text()).with_context(|| format!("write {FILE}"))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut own = Self::default();
        for (number, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = || format!("{FILE}, line {}: expected NAME = COUNT", number + 1);
            let (name, value) = line.split_once(" = ").with_context(place)?;
            if name == TOOLS {
                value.clone_into(&mut own.tools);
            } else {
                own.counts.insert(name.to_owned(), value.parse().with_context(place)?);
            }
        }
        Ok(own)
    }

    fn to_text(&self) -> String {
        let mut text = format!(
            "# Instructions of hot paths as they were accepted; `cargo xtask check instructions` compares. Of kernel \
             programs\n# it is how many the object holds, of all else how many run.\n{TOOLS} = {}\n",
            self.tools
        );
        for (name, count) in &self.counts {
            writeln!(text, "{name} = {count}").ok();
        }
        text
    }

    /// What is different about newer counts.
    pub(super) fn compare(&self, newer: &Self) -> Comparison {
        let (mut problems, mut notes) = (Vec::new(), Vec::new());
        for (name, count) in &newer.counts {
            match self.counts.get(name) {
                None => problems.push(format!("{name}: {count} instructions, none accepted")),
                Some(accepted) => {
                    let part = *count as f64 / *accepted as f64 - 1.0;
                    let line = format!(
                        "{name}: {count} instructions, {accepted} accepted ({:+.1} %)",
                        part * 100.0
                    );
                    let tolerance = tolerance(name);
                    if part > tolerance {
                        problems.push(line);
                    } else if part < -tolerance {
                        notes.push(line);
                    }
                }
            }
        }
        let gone = self.counts.keys().filter(|name| !newer.counts.contains_key(*name));
        problems.extend(gone.map(|name| format!("{name}: accepted, but not counted any more")));
        if self.tools != newer.tools && !self.tools.is_empty() {
            let tools = format!("counted with {}; accepted with {}", newer.tools, self.tools);
            notes = [vec![tools], std::mem::take(&mut problems), notes].concat();
        }
        if !problems.is_empty() || !notes.is_empty() {
            if problems.is_empty() { &mut notes } else { &mut problems }.push(ACCEPT.to_owned());
        }
        Comparison { problems, notes }
    }
}

fn tolerance(name: &str) -> f64 {
    if name.starts_with(KERNEL) { KERNEL_TOLERANCE } else { TOLERANCE }
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.root().join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(counts: &[(&str, u64)]) -> Baseline {
        let counts = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Baseline { tools: "rustc 1".into(), counts }
    }

    #[test]
    fn counts_survive_their_file() {
        let original = baseline(&[("link, read a frame", 1_000), ("kernel, tc_ingress", 9)]);
        assert_eq!(Baseline::parse(&original.to_text()).unwrap(), original);
        let error = Baseline::parse("a = b\n").unwrap_err();
        assert!(format!("{error:#}").contains("line 1"), "{error:#}");
    }

    #[test]
    fn what_grew_is_a_problem_and_what_shrank_a_note() {
        let accepted = baseline(&[("a", 1_000), ("b", 1_000), ("kernel, c", 1_000), ("d", 1)]);
        let newer = baseline(&[("a", 1_019), ("b", 1_021), ("kernel, c", 1_049), ("d", 1)]);
        let Comparison { problems, notes } = accepted.compare(&newer);
        assert_eq!(problems, ["b: 1021 instructions, 1000 accepted (+2.1 %)", ACCEPT]);
        assert!(notes.is_empty());
        let Comparison { problems, notes } =
            newer.compare(&baseline(&[("a", 900), ("b", 1_021), ("kernel, c", 1_049), ("d", 1)]));
        assert!(problems.is_empty());
        assert_eq!(notes, ["a: 900 instructions, 1019 accepted (-11.7 %)", ACCEPT]);
        assert_eq!(accepted.compare(&accepted), Comparison::default());
    }

    #[test]
    fn what_is_new_or_gone_has_to_be_accepted() {
        let problems = baseline(&[("old", 1)]).compare(&baseline(&[("new", 2)])).problems;
        assert_eq!(problems.len(), 3);
        assert!(problems[0].starts_with("new: 2") && problems[1].starts_with("old: accepted"));
    }

    #[test]
    fn other_tools_make_other_counts_and_no_problem() {
        let other = Baseline { tools: "rustc 2".into(), ..baseline(&[("a", 2_000)]) };
        let Comparison { problems, notes } = baseline(&[("a", 1_000)]).compare(&other);
        assert!(problems.is_empty());
        assert!(notes[0].contains("rustc 2") && notes[1].contains("+100.0 %"), "{notes:?}");
    }
}
