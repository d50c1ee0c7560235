//! What ARCHITECTURE.md names has to exist.

use std::fs;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// Words with a slash that are no paths.
const NOT_PATHS: &[&str] = &["http/1.1", "h2/http", "tcp/udp"];
/// Endings that make a word without a slash a path.
const ENDINGS: &[&str] = &[".rs", ".toml", ".md", ".yaml", ".yml", ".lock"];

/// Looks for every path that ARCHITECTURE.md names between backticks.
///
/// # Errors
/// The document cannot be read.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let text = fs::read_to_string(workspace.root().join("ARCHITECTURE.md"))
        .context("read ARCHITECTURE.md")?;
    Ok(paths(&text)
        .filter(|(_, path)| !workspace.root().join(path).exists())
        .map(|(line, path)| format!("ARCHITECTURE.md:{line}: `{path}` does not exist"))
        .collect())
}

/// The paths between backticks, each with the number of its line. Fenced blocks are passed over.
fn paths(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines()
        .enumerate()
        .filter(move |(_, line)| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
        .flat_map(|(index, line)| {
            line.split('`').skip(1).step_by(2).map(move |word| (index + 1, word))
        })
        .filter(|(_, word)| is_path(word))
}

fn is_path(word: &str) -> bool {
    let relative = !word.starts_with('/') && !word.starts_with('~');
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let shaped = word.contains('/') || ENDINGS.iter().any(|ending| word.ends_with(ending));
    relative && plain && shaped && !NOT_PATHS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_checkout_are_looked_for() {
        let text = "See `ebpf/abi` and `Cargo.toml`, not `cargo xtask check`, `/etc/hosts`, `http/1.1`,\n\
                    `abi::VERSION` or ebpf/none.\n```\n`fenced/block`\n```\n`tests/lab/`\n";
        let found: Vec<_> = paths(text).collect();
        assert_eq!(found, [(1, "ebpf/abi"), (1, "Cargo.toml"), (6, "tests/lab/")]);
    }
}
