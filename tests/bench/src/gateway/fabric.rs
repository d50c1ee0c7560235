//! The same two gateways with routers between them, and with a wire that delays and loses: what the fabric costs
//! and how it shares.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nightgate_lab::{Figure, Impairment, catch_interrupts, interrupted, sweep};

use super::{
    ROUNDS, binary,
    contender::Contender,
    load::{Load, latency},
    nightgate::{self, Way},
    peers,
    topology::Topology,
};
use crate::statistics::median;

/// Streams at the same time through the middle router.
const STREAMS: [usize; 5] = [1, 2, 4, 8, 16];

/// Of one stream's throughput, what any number of them has together at least.
const SUM: f64 = 0.9;
/// Jain's index at least.
const FAIRNESS: f64 = 0.9;
/// What a relayed hop adds at most, in microseconds.
const HOP: f64 = 100.0;
/// Of one hop's throughput per CPU second, what three hops reach at least.
const THREE_HOPS: f64 = 0.6;
/// Of plain TCP's throughput over a bad wire.
const LOSSY: f64 = 0.7;

/// Half of the round trip between the gateways, in milliseconds.
const DELAY: u64 = 25;
/// Part of the frames that is lost, each way.
const LOSS: f64 = 0.001;
/// On such a wire, windows take long to grow.
const LONG: Load =
    Load { streams: 1, run_up: Duration::from_secs(3), time: Duration::from_secs(6) };

/// What was measured in each round.
#[derive(Default)]
struct Rounds {
    /// By number of streams: Gbit/s and Jain's index.
    sums: [Vec<f64>; STREAMS.len()],
    fairness: [Vec<f64>; STREAMS.len()],
    /// Round trip of a request over no router and over one.
    direct: Vec<f64>,
    relayed: Vec<f64>,
    /// CPU seconds for a gigabyte over one hop and over three.
    one_hop: Vec<f64>,
    three_hops: Vec<f64>,
    /// Gbit/s over the bad wire.
    plain: Vec<f64>,
    lossy: Vec<f64>,
}

/// Measures sharing, hops, and loss.
///
/// # Errors
/// The process is not root, traffic does not get through, or the user interrupts.
pub fn run() -> Result<Vec<Figure>> {
    catch_interrupts()?;
    sweep()?;
    let binary = binary()?;
    let start = |way, impairment| -> Result<Contender> {
        let own = nightgate::start(&binary, Topology::with(impairment)?, way)?;
        own.wait()?;
        Ok(own)
    };
    let bad =
        Impairment { delay: Duration::from_millis(DELAY), loss: LOSS, ..Impairment::default() };
    let direct = start(Way::Direct, None).context("start two gateways")?;
    let relayed = start(Way::Routers(1), None).context("start them with a router")?;
    let chain = start(Way::Routers(2), None).context("start them with two routers")?;
    let lossy = start(Way::Direct, Some(bad)).context("start them with a bad wire")?;
    let plain = peers::plain(Some(bad)).context("start the bad wire alone")?;
    plain.wait()?;
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        if interrupted() {
            bail!("interrupted");
        }
        for (number, streams) in STREAMS.into_iter().enumerate() {
            let carried = relayed.carry(Load::of(streams))?;
            rounds.sums[number].push(carried.rate);
            rounds.fairness[number].push(carried.fairness);
        }
        rounds.direct.push(latency(&direct.topology.client, direct.target)?.p50);
        rounds.relayed.push(latency(&relayed.topology.client, relayed.target)?.p50);
        rounds.one_hop.push(direct.carry(Load::of(1))?.cost);
        rounds.three_hops.push(chain.carry(Load::of(1))?.cost);
        rounds.plain.push(plain.carry(LONG)?.rate);
        rounds.lossy.push(lossy.carry(LONG)?.rate);
    }
    Ok(rounds.figures())
}

impl Rounds {
    fn figures(self) -> Vec<Figure> {
        let mut figures = Vec::new();
        let one = median(self.sums[0].clone());
        for (number, (sums, fairness)) in self.sums.into_iter().zip(self.fairness).enumerate() {
            let case = format!("{} streams, one router", STREAMS[number]);
            let least = (number > 0).then_some(SUM * one);
            figures.push(at_least(&case, "together", (median(sums), "Gbit/s"), least));
            figures.push(at_least(&case, "Jain", (median(fairness), ""), Some(FAIRNESS)));
        }
        let (direct, relayed) = (median(self.direct), median(self.relayed));
        figures.push(at_least("request, no router", "p50", (direct, "us"), None));
        let hop = at_least("request, one router more", "p50", (relayed - direct, "us"), None);
        figures.push(Figure { target: Some(HOP), holds: Some(hop.value <= HOP), ..hop });
        let (one, three) = (median(self.one_hop), median(self.three_hops));
        figures.push(at_least("1 hop", "CPU", (one, "s/GB"), None));
        figures.push(at_least("3 hops", "CPU", (three, "s/GB"), None));
        let ratio = (one / three, "x 1 hop");
        figures.push(at_least("3 hops", "per CPU second", ratio, Some(THREE_HOPS)));
        let (plain, lossy) = (median(self.plain) * 1e3, median(self.lossy) * 1e3);
        let case = "50 ms, 0.1 % loss";
        figures.push(at_least(case, "plain TCP", (plain, "Mbit/s"), None));
        figures.push(at_least(case, "circuit", (lossy, "Mbit/s"), Some(LOSSY * plain)));
        figures
    }
}

fn at_least(case: &str, metric: &str, (value, unit): (f64, &str), target: Option<f64>) -> Figure {
    Figure {
        suite: "fabric".to_owned(),
        case: case.to_owned(),
        metric: metric.to_owned(),
        value,
        unit: unit.to_owned(),
        peer: None,
        target,
        holds: target.map(|target| value >= target),
    }
}
