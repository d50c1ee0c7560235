//! What the documents name and link to has to exist.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// The map of the checkout: everything in it that looks like a path is one.
const MAP: &str = "ARCHITECTURE.md";
/// Words with a slash that are no paths.
const NOT_PATHS: &[&str] = &["http/1.1", "h2/http", "tcp/udp"];
/// Endings that make a word without a slash a path.
const ENDINGS: &[&str] = &[".rs", ".toml", ".md", ".yaml", ".yml", ".lock"];

/// Looks for every path that ARCHITECTURE.md names between backticks, for those of README.md and of `docs` that begin
/// with a folder of the checkout, and for what the links of all of them lead to.
///
/// # Errors
/// A document cannot be read.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let root = workspace.root();
    let mut missing = Vec::new();
    for document in documents(root)? {
        let file = root.join(&document);
        let name = document.display();
        let text = fs::read_to_string(&file).with_context(|| format!("read {name}"))?;
        let is_meant = |path: &str| {
            let (first, _) = path.split_once('/').unwrap_or_default();
            document == Path::new(MAP) || (!first.is_empty() && root.join(first).is_dir())
        };
        let named = paths(&text).filter(|(_, path)| is_meant(path));
        let named = named.map(|(line, path)| (line, path, root.join(path)));
        let linked = links(&text).map(|(line, path)| (line, path, file.with_file_name(path)));
        let gone = named.chain(linked).filter(|(.., place)| !place.exists());
        missing
            .extend(gone.map(|(line, path, _)| format!("{name}:{line}: `{path}` does not exist")));
    }
    Ok(missing)
}

/// What people read, relative to the checkout, in order.
fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let folder = fs::read_dir(root.join("docs")).context("list docs")?;
    let mut all = vec![PathBuf::from(MAP), PathBuf::from("README.md")];
    for entry in folder {
        let path = Path::new("docs").join(entry.context("list docs")?.file_name());
        if path.extension().is_some_and(|ending| ending == "md") {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

/// The paths between backticks, each with the number of its line.
fn paths(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text)
        .flat_map(|(line, text)| text.split('`').skip(1).step_by(2).map(move |word| (line, word)))
        .filter(|(_, word)| is_path(word))
}

/// What links inside the checkout lead to, each with the number of its line.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text)
        .flat_map(|(line, text)| text.split("](").skip(1).map(move |rest| (line, rest)))
        .filter_map(|(line, rest)| Some((line, rest.split([')', '#']).next()?)))
        .filter(|(_, path)| !path.is_empty() && !path.contains("://"))
}

/// Lines with their numbers. Fenced blocks are passed over.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    let lines = text.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.map(|(index, line)| (index + 1, line))
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

    #[test]
    fn links_out_of_the_checkout_and_within_a_document_are_not_looked_for() {
        let text = "See [a](b.md), [c](../d.yaml#e) and [f](#g).\n[h](https://example.org/i)\n";
        let found: Vec<_> = links(text).collect();
        assert_eq!(found, [(1, "b.md"), (1, "../d.yaml")]);
    }
}
