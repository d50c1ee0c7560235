//! The overlay: what its encryption costs, and how controller and router do with many of everything.

pub mod circuit;
pub mod cut;
pub mod dial;
pub mod encryption;
mod events;
pub mod model;
mod network;
mod operator;
pub mod process;

use anyhow::Result;
use nightgate_lab::Figure;

/// Measures all of it.
///
/// # Errors
/// Something cannot be started, or does not do what it should.
pub fn run() -> Result<Vec<Figure>> {
    let runs = [encryption::run, circuit::run, model::run, dial::run, cut::run];
    Ok(runs.iter().map(|run| run()).collect::<Result<Vec<_>>>()?.concat())
}

/// A figure with a target, if there is one.
fn figure(case: &str, metric: &str, value: f64, unit: &str, target: Option<Target>) -> Figure {
    Figure {
        suite: "overlay".to_owned(),
        case: case.to_owned(),
        metric: metric.to_owned(),
        value,
        unit: unit.to_owned(),
        peer: None,
        target: target.map(|target| match target {
            Target::AtMost(limit) | Target::AtLeast(limit) => limit,
        }),
        holds: target.map(|target| match target {
            Target::AtMost(limit) => value <= limit,
            Target::AtLeast(limit) => value >= limit,
        }),
    }
}

/// What a figure has to reach.
#[derive(Clone, Copy)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
}
