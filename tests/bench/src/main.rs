//! Runs one benchmark suite: `nightgate-bench SUITE [--json]`. `cargo xtask bench` builds and calls it.
#![expect(clippy::print_stdout, reason = "prints its results")]

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use nightgate_bench::{
    Layout, SUITES, Suite,
    overlay::process::{SERVE, serve},
    table::table,
};
use nightgate_lab::Figure;

fn main() -> Result<ExitCode> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((word, role)) = arguments.split_first()
        && word == SERVE
    {
        return serve(role).map(|()| ExitCode::SUCCESS);
    }
    let json = arguments.iter().position(|word| word == "--json").map(|at| arguments.remove(at));
    let [name] = arguments.as_slice() else {
        bail!("usage: nightgate-bench SUITE [--json]; suites:\n{}", list());
    };
    let suite = SUITES
        .iter()
        .find(|suite| suite.name == *name)
        .with_context(|| format!("no suite {name}; suites:\n{}", list()))?;
    let figures = (suite.run)()?;
    match (json, suite.layout) {
        (Some(_), _) => {
            for figure in &figures {
                println!("{}", figure.to_json()?);
            }
        }
        (None, Layout::Rows) => figures.iter().for_each(|figure| println!("{}", row(figure))),
        (None, Layout::Table) => {
            println!("{}", table(&figures));
            let judged = figures.iter().filter(|figure| figure.holds.is_some());
            judged.for_each(|figure| println!("{}", row(figure)));
        }
    }
    let missed = figures.iter().any(|figure| figure.holds == Some(false));
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn list() -> String {
    let line = |suite: &Suite| format!("  {:14} {}\n", suite.name, suite.about);
    SUITES.iter().map(line).collect()
}

fn row(figure: &Figure) -> String {
    let target = figure.target.map_or_else(String::new, |target| format!("target {target:.2}"));
    let verdict = match figure.holds {
        None => "",
        Some(true) => "ok",
        Some(false) => "MISSED",
    };
    let peer = figure.peer.as_deref().unwrap_or_default();
    let row = format!(
        "{:10} {:42} {:14} {:12.2} {:8} {peer} {target} {verdict}",
        figure.suite, figure.case, figure.metric, figure.value, figure.unit
    );
    row.trim_end().to_owned()
}
