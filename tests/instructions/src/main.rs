//! Runs one hot path some times, in a function that a tool can count the instructions of: `nightgate-instructions CASE`.
//! Without a case it prints all, and how often each is run. `cargo xtask check` calls it in valgrind.
#![expect(clippy::print_stdout, reason = "prints what there is")]

mod circuit;
mod codec;
mod encryption;
mod firewall;
mod policy;

use anyhow::{Context as _, Result};

/// Does the counted thing once. What it needs was made before.
type Run = Box<dyn FnMut() -> Result<()>>;

/// A hot path.
struct Case {
    /// Its name on the command line and in the baselines.
    name: &'static str,
    /// Makes what it needs, for so many runs.
    prepare: fn(usize) -> Result<Run>,
}

/// Runs that are counted.
const RUNS: usize = 16;
/// Runs before that: memory is allocated and tables are made by the first.
const BEFORE: usize = 2;

fn cases() -> impl Iterator<Item = &'static Case> {
    [codec::CASES, encryption::CASES, circuit::CASES, policy::CASES, firewall::CASES]
        .into_iter()
        .flatten()
}

fn main() -> Result<()> {
    let Some(name) = std::env::args().nth(1) else {
        println!("{RUNS}");
        cases().for_each(|case| println!("{}", case.name));
        return Ok(());
    };
    let case = cases().find(|case| case.name == name).with_context(|| format!("no case {name}"))?;
    let mut run = (case.prepare)(BEFORE + RUNS)?;
    for _ in 0..BEFORE {
        run()?;
    }
    counted_instructions(&mut *run)
}

/// What the tool counts. Its name is in `xtask/src/instructions.rs`.
#[inline(never)]
fn counted_instructions(run: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    for _ in 0..RUNS {
        run()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_runs_as_often_as_it_is_counted() {
        for case in cases() {
            let mut run = (case.prepare)(BEFORE + RUNS).unwrap();
            (0..BEFORE + RUNS).for_each(|_| run().unwrap());
        }
    }

    #[test]
    fn names_are_different_and_fit_into_the_baselines() {
        let names: BTreeSet<&str> = cases().map(|case| case.name).collect();
        assert_eq!(names.len(), cases().count());
        assert!(names.iter().all(|name| !name.contains(['=', '#', '\n'])));
    }
}
