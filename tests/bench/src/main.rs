//! Runs benchmark suites: `nightgate-bench SUITE [--json] [--svg FILE]`. `cargo xtask bench` builds and calls it.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "prints its results, and what goes on"
)]

use std::{fs, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail};
use nightgate_bench::{
    Layout, SUITES, Suite,
    gateway::{
        applications::{APPLICATION, application_main},
        bare::{BARE, relay},
    },
    overlay::process::{SERVE, serve},
    plot::plot,
    summary::{Ran, summary},
    table::table,
};
use nightgate_lab::{Figure, interrupted};

/// Every suite that is no part of another.
const ALL: &str = "all";
/// The one of them that is drawn.
const DRAWN: &str = "gateway";

fn main() -> Result<ExitCode> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [word, role @ ..] if word == SERVE => return serve(role).map(|()| ExitCode::SUCCESS),
        [word, rest @ ..] if word == APPLICATION => {
            return application_main(rest).map(|()| ExitCode::SUCCESS);
        }
        [word, file] if word == BARE => return relay(file).map(|()| ExitCode::SUCCESS),
        _ => {}
    }
    let json = arguments.iter().position(|word| word == "--json").map(|at| arguments.remove(at));
    let svg = arguments.iter().position(|word| word == "--svg").map(|at| {
        let drained: Vec<String> = arguments.drain(at..arguments.len().min(at + 2)).collect();
        drained.into_iter().nth(1).map(PathBuf::from)
    });
    let ([name], None | Some(Some(_))) = (arguments.as_slice(), &svg) else {
        bail!("usage: nightgate-bench SUITE [--json] [--svg FILE]; suites:\n{}", list());
    };
    let (figures, ran) = run(&chosen(name)?, json.is_some())?;
    if let Some(Some(path)) = svg {
        let shown: Vec<Figure> = figures.iter().filter(|it| is_drawn(name, it)).cloned().collect();
        fs::write(&path, plot(&shown)).with_context(|| format!("write {}", path.display()))?;
    }
    if name == ALL {
        let text = summary(&figures, &ran);
        if json.is_some() { eprintln!("{text}") } else { println!("{text}") }
    }
    let failed = ran.into_iter().filter_map(|ran| Some(format!("{}: {}", ran.name, ran.error?)));
    let failed: Vec<String> = failed.collect();
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    let missed = figures.iter().any(|figure| figure.holds == Some(false));
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs one suite after the other. Of many, one that fails takes nothing from the others.
fn run(suites: &[&Suite], as_json: bool) -> Result<(Vec<Figure>, Vec<Ran>)> {
    let (mut figures, mut ran) = (Vec::new(), Vec::new());
    for suite in suites {
        if suites.len() > 1 {
            eprintln!("{}: {}", suite.name, suite.about);
        }
        let started = Instant::now();
        let found = (suite.run)();
        let took = started.elapsed();
        let error = found.as_ref().err().map(|error| format!("{error:#}"));
        ran.push(Ran { name: suite.name, took, error });
        if let Ok(found) = found {
            show(suite, &found, as_json)?;
            figures.extend(found);
        }
        if interrupted() {
            bail!("interrupted");
        }
    }
    Ok((figures, ran))
}

/// Of all suites, one picture would be too much: that of the gateways is what people compare.
fn is_drawn(name: &str, figure: &Figure) -> bool {
    name != ALL || figure.suite == DRAWN
}

fn chosen(name: &str) -> Result<Vec<&'static Suite>> {
    if name == ALL {
        return Ok(SUITES.iter().filter(|suite| !suite.is_part()).collect());
    }
    let found = SUITES.iter().find(|suite| suite.name == name);
    Ok(vec![found.with_context(|| format!("no suite {name}; suites:\n{}", list()))?])
}

fn show(suite: &Suite, figures: &[Figure], as_json: bool) -> Result<()> {
    match (as_json, suite.layout) {
        (true, _) => {
            for figure in figures {
                println!("{}", figure.to_json()?);
            }
        }
        (false, Layout::Rows) => figures.iter().for_each(|figure| println!("{}", row(figure))),
        (false, Layout::Table) => {
            println!("{}", table(figures));
            let judged = figures.iter().filter(|figure| figure.holds.is_some());
            judged.for_each(|figure| println!("{}", row(figure)));
        }
    }
    Ok(())
}

fn list() -> String {
    let line = |suite: &Suite| format!("  {:14} {}\n", suite.name, suite.about);
    let all = format!("  {ALL:14} all of these that are no part of another\n");
    SUITES.iter().map(line).chain([all]).collect()
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
