//! Two gateways between a client and a server: Nightgate with everything on, plain forwarding, and what others
//! would put there, in turn.

pub mod applications;
pub mod bare;
mod contender;
pub mod cut_off;
pub mod datagrams;
pub mod fabric;
pub mod idle;
mod load;
mod nightgate;
mod peers;
mod server;
mod topology;
mod tunnels;
mod verdict;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use nightgate_lab::{Figure, catch_interrupts, interrupted, sweep};

use self::{
    contender::{Contender, Round},
    nightgate::Way,
    topology::Topology,
    verdict::figures,
};

/// Each contender is measured so often, in turn; medians count.
const ROUNDS: usize = 3;

/// How long anything may take that happens once.
const PATIENCE: Duration = Duration::from_secs(20);

/// The name of ours in results.
const OURS: &str = "nightgate";

/// Environment variable: another `nightgate` binary to measure in the same rounds, called `before` in results.
const BEFORE: &str = "NIGHTGATE_BENCH_BEFORE";

/// Environment variable: the `nightgate` binary to measure, if not the one beside this program.
const BINARY: &str = "NIGHTGATE_BENCH_BINARY";

/// Environment variable: names of contenders, separated by commas; others are left out.
const ONLY: &str = "NIGHTGATE_BENCH_ONLY";

type Start = fn() -> Result<Contender>;

/// Who is measured. Where a program is missing, the suite fails and says so.
const CONTENDERS: [(&str, Start); 11] = [
    (verdict::PLAIN, plain),
    (verdict::RELAY, peers::haproxy_tcp),
    (verdict::TLS, peers::haproxy_tls),
    ("stunnel", peers::stunnel),
    ("nebula", tunnels::nebula),
    ("wireguard-go", tunnels::wireguard_go),
    ("boringtun", tunnels::boringtun),
    ("bare relay", peers::bare),
    (OURS, ours),
    ("nightgate by a router", ours_by_router),
    ("SDK by a router", applications_by_router),
];

/// All that was measured of a contender.
struct Measured {
    name: &'static str,
    rounds: Vec<Round>,
    /// MiB of the larger gateway.
    memory: f64,
}

/// Measures streams, requests and connections through two gateways.
///
/// # Errors
/// The process is not root, a program is missing, traffic does not get through, or the user interrupts.
pub fn run() -> Result<Vec<Figure>> {
    catch_interrupts()?;
    sweep()?;
    let mut lanes = Vec::new();
    for (name, start) in contenders() {
        let lane = start().with_context(|| format!("start {name}"))?;
        lane.wait().with_context(|| format!("wait for {name}"))?;
        lanes.push((name, lane, Vec::new()));
    }
    for _ in 0..ROUNDS {
        for (name, lane, rounds) in &mut lanes {
            if interrupted() {
                bail!("interrupted");
            }
            rounds.push(lane.round().with_context(|| format!("measure {name}"))?);
        }
    }
    let measured = lanes
        .into_iter()
        .map(|(name, lane, rounds)| Ok(Measured { name, rounds, memory: lane.memory()? }));
    Ok(figures(&measured.collect::<Result<Vec<_>>>()?))
}

fn contenders() -> Vec<(&'static str, Start)> {
    let before: Option<(&str, Start)> =
        std::env::var_os(BEFORE).map(|_| ("before", before as Start));
    before.into_iter().chain(contenders_of(&CONTENDERS)).collect()
}

/// Those that are wanted.
fn contenders_of(all: &[(&'static str, Start)]) -> Vec<(&'static str, Start)> {
    let only = std::env::var(ONLY).ok();
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|it| it == name));
    all.iter().copied().filter(|(name, _)| wanted(name)).collect()
}

fn plain() -> Result<Contender> {
    peers::plain(None)
}

fn ours() -> Result<Contender> {
    nightgate::start(&binary()?, Topology::new()?, Way::Direct)
}

fn ours_with_datagrams() -> Result<Contender> {
    nightgate::start_with_datagrams(&binary()?, Topology::new()?)
}

fn ours_by_router() -> Result<Contender> {
    nightgate::start(&binary()?, Topology::new()?, Way::Routers(1))
}

fn applications_by_router() -> Result<Contender> {
    applications::start(&binary()?, Topology::new()?)
}

fn before() -> Result<Contender> {
    let binary = PathBuf::from(std::env::var_os(BEFORE).context("no binary")?);
    nightgate::start(&binary, Topology::new()?, Way::Direct)
}

/// The product, built beside this program unless another is named.
fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(BINARY) {
        return Ok(named.into());
    }
    let running = std::env::current_exe().context("find the running program")?;
    Ok(running.with_file_name("nightgate"))
}
