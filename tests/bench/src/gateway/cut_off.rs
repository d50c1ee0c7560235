//! How soon after an alert, and after the request that causes it, who is behind it is cut off.
//!
//! ```text
//! attacker (SDK) -- und0 gateway B lan0 -- server
//!                                   +-- sensor
//! ```

mod attack;
mod datagrams;
mod stage;

use anyhow::Result;
use nightgate_lab::{Figure, catch_interrupts, sweep};

use self::{attack::Cause, stage::Stage};
use crate::statistics::percentile;

/// Cut-offs of each kind.
const ROUNDS: usize = 200;
/// Milliseconds from an alert's line to the cut-off, 99th percentile.
const OWN_TARGET: f64 = 50.0;
/// The same from the request, with what the sensor takes.
const WHOLE_TARGET: f64 = 1_000.0;

/// Measures all of it.
///
/// # Errors
/// The process is not root, a program is missing, somebody is not cut off, or the user interrupts.
pub fn run() -> Result<Vec<Figure>> {
    Ok([by_line()?, in_kernel()?, by_request()?].concat())
}

/// An identity, from the line of an alert on.
///
/// # Errors
/// As for [`run`].
pub fn by_line() -> Result<Vec<Figure>> {
    let taken = attack::measure(&stage()?, Cause::Line)?;
    Ok([
        figures("alert line to circuit closed", taken.closed, Some(OWN_TARGET)),
        figures("alert line to another dial refused, dial included", taken.refused, None),
    ]
    .concat())
}

/// An address, from the line of an alert on.
///
/// # Errors
/// As for [`run`].
pub fn in_kernel() -> Result<Vec<Figure>> {
    let times = datagrams::measure(&stage()?)?;
    Ok(figures("alert line to flow dropped in the kernel", times, Some(OWN_TARGET)))
}

/// An identity, from the request on that a real sensor knows.
///
/// # Errors
/// As for [`run`].
pub fn by_request() -> Result<Vec<Figure>> {
    let taken = attack::measure(&stage()?, Cause::Request)?;
    Ok([
        figures("request to circuit closed, Suricata", taken.closed, Some(WHOLE_TARGET)),
        figures("request to another dial refused", taken.refused, Some(WHOLE_TARGET)),
    ]
    .concat())
}

fn stage() -> Result<Stage> {
    catch_interrupts()?;
    sweep()?;
    Stage::new()
}

/// What many cut-offs took, in milliseconds.
fn figures(case: &str, mut times: Vec<f64>, target: Option<f64>) -> Vec<Figure> {
    [("p50", 50, None), ("p99", 99, target), ("worst", 100, None)]
        .map(|(metric, percent, target)| {
            let value = percentile(&mut times, percent);
            Figure {
                suite: "verdict".to_owned(),
                case: case.to_owned(),
                metric: metric.to_owned(),
                value,
                unit: "ms".to_owned(),
                peer: None,
                target,
                holds: target.map(|target| value <= target),
            }
        })
        .to_vec()
}
