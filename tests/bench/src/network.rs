//! Real traffic through a gateway: Nightgate, nftables and no filter in turn, on one core.

mod contender;
mod datagrams;
mod stream;
mod topology;

use std::fs;

use anyhow::{Context as _, Result, bail};
use nightgate_lab::{Figure, catch_interrupts, interrupted, sweep};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use self::{
    contender::{Contender, Filter, Job},
    stream::Source,
    topology::Topology,
};
use crate::statistics::median;

/// Each contender is measured so often, in turn; the median counts.
const ROUNDS: usize = 5;
/// What forwarding with NAT is to reach, in parts of nftables' throughput.
const FORWARD_TARGET: f64 = 1.1;

/// Measures packets accepted by a local socket, and a TCP connection that is forwarded in frames of the MTU.
///
/// # Errors
/// The process is not root, `nft` is missing, traffic does not get through, or the user interrupts.
pub fn run() -> Result<Vec<Figure>> {
    catch_interrupts()?;
    sweep()?;
    let mut figures = Vec::new();
    let jobs = [
        ("64-byte UDP, local socket, 1,000 rules", Job::Accept, "kpps", 1.0),
        ("forwarded TCP, MTU frames, state", Job::Forward, "Mbit/s", 1.0),
        ("forwarded TCP, MTU frames, state + NAT", Job::Masquerade, "Mbit/s", FORWARD_TARGET),
    ];
    for (case, job, unit, factor) in jobs {
        let [none, nftables, nightgate] = medians(job)?;
        let figure = |who: &str, value, target: Option<f64>| Figure {
            suite: "firewall".into(),
            case: case.into(),
            metric: who.into(),
            value,
            unit: unit.into(),
            peer: target.map(|_| "nftables".into()),
            target,
            holds: target.map(|target| value >= target),
        };
        figures.push(figure("no filter", none, None));
        figures.push(figure("nftables", nftables, None));
        figures.push(figure("nightgate", nightgate, Some(nftables * factor)));
    }
    Ok(figures)
}

/// Medians of the contenders, each in a network of its own.
fn medians(job: Job) -> Result<[f64; 3]> {
    let contenders = [Contender::Nothing, Contender::Nftables, Contender::Nightgate];
    let mut lanes = Vec::new();
    for contender in contenders {
        let topology = Topology::new()?;
        let filter = Filter::install(contender, job, &topology)
            .with_context(|| format!("install {contender:?}"))?;
        let source = match (job, contender) {
            (Job::Masquerade, Contender::Nftables | Contender::Nightgate) => Source::Translated,
            (Job::Masquerade, Contender::Nothing) | (Job::Accept | Job::Forward, _) => {
                Source::Plain
            }
        };
        lanes.push((topology, filter, source, Vec::new()));
    }
    for _ in 0..ROUNDS {
        for (topology, _, source, values) in &mut lanes {
            if interrupted() {
                bail!("interrupted");
            }
            values.push(match job {
                Job::Accept => datagrams::measure(topology)?,
                Job::Forward | Job::Masquerade => stream::measure(topology, *source)?,
            });
        }
    }
    let mut medians = lanes.into_iter().map(|(_, _, _, values)| median(values));
    Ok([(); 3].map(|()| medians.next().unwrap_or_default()))
}

/// How long the calling thread has had a core, in seconds, with what the kernel carried for it: what others do on the
/// machine does not count. The first number of /proc/PID/schedstat, in nanoseconds.
fn time_on_core() -> Result<f64> {
    let text =
        fs::read_to_string("/proc/thread-self/schedstat").context("read the time on core")?;
    let nanoseconds = text.split_whitespace().next().context("no time on core")?;
    Ok(nanoseconds.parse::<f64>()? / 1e9)
}

/// Keeps the calling thread on the first core; what it sends is carried there as well.
fn stay_on_one_core() -> Result<()> {
    let mut core = CpuSet::new();
    core.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &core).context("stay on one core")
}
