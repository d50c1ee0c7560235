//! What connections cost that are open and say nothing: intercepted, encrypted from end to end, hosted.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nightgate_lab::{Figure, catch_interrupts, interrupted, sweep};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{
    OURS, binary, load::open, nightgate, nightgate::Way, server::ECHO, topology::Topology,
};

/// Connections that are open at the same time, if this process may have both ends of so many.
const CONNECTIONS: u64 = 10_000;
/// Files of this process besides.
const OTHER_FILES: u64 = 200;
/// KiB that each may cost the gateway that it costs more.
const TARGET: f64 = 24.0;
/// Before memory is read: what was needed to begin is given back.
const REST: Duration = Duration::from_secs(3);

/// Opens connections through two gateways, and lets them be idle.
///
/// # Errors
/// The process is not root, a connection does not get through or does not last, or the user interrupts.
pub fn run() -> Result<Vec<Figure>> {
    catch_interrupts()?;
    sweep()?;
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, files, files).context("ask for open files")?;
    let count = CONNECTIONS.min(files.saturating_sub(OTHER_FILES) / 2);
    let lane = nightgate::start(&binary()?, Topology::new()?, Way::Direct)?;
    lane.wait()?;
    let before = lane.resident()?;
    let mut streams = Vec::new();
    for number in 0..count {
        if interrupted() {
            bail!("interrupted");
        }
        let mut stream = lane.topology.client.enter(|| open(lane.target, ECHO))??;
        ask(&mut stream).with_context(|| format!("connection {number}"))?;
        streams.push(stream);
    }
    thread::sleep(REST);
    let after = lane.resident()?;
    for (number, stream) in streams.iter_mut().enumerate() {
        ask(stream).with_context(|| format!("connection {number} after it was idle"))?;
    }
    let each = before.iter().zip(&after);
    let each: Vec<f64> =
        each.map(|(before, after)| (after - before) * 1_024.0 / count as f64).collect();
    let [a, b] = each.as_slice() else { bail!("{} gateways", each.len()) };
    let more = figure(count, "the larger gateway", a.max(*b));
    Ok(vec![
        Figure { target: Some(TARGET), holds: Some(more.value <= TARGET), ..more },
        figure(count, "both gateways together", a + b),
    ])
}

fn ask(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(super::PATIENCE))?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0]).context("no answer")
}

fn figure(count: u64, metric: &str, kib: f64) -> Figure {
    Figure {
        suite: "idle".to_owned(),
        case: format!("{OURS}, each of {count} idle connections"),
        metric: metric.to_owned(),
        value: kib,
        unit: "KiB".to_owned(),
        peer: None,
        target: None,
        holds: None,
    }
}
