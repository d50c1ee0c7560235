//! Medians, and what ours has to reach beside the others of the same run.

use nightgate_lab::Figure;

use super::{Measured, OURS, Round};
use crate::statistics;

/// The limit of the machine.
pub(super) const PLAIN: &str = "plain forwarding";
/// Without encryption.
pub(super) const RELAY: &str = "haproxy TCP relay";
/// With encryption between the gateways, but none from end to end.
pub(super) const TLS: &str = "haproxy mTLS";

/// A column of the table.
struct Metric {
    name: &'static str,
    unit: &'static str,
    value: fn(&Measured) -> f64,
    /// What ours has to reach: at least with throughput and rates, else at most.
    target: f64,
    better: Better,
    /// The same as a part of what others reach in the same run.
    ratios: &'static [(&'static str, f64)],
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Better {
    More,
    Less,
}

const METRICS: [Metric; 9] = [
    Metric {
        name: "1 stream",
        unit: "Gbit/s",
        value: |own| median(own, |round| round.streams[0]),
        target: 6.0,
        better: Better::More,
        ratios: &[(PLAIN, 0.45), (TLS, 1.0)],
    },
    Metric {
        name: "4 streams",
        unit: "Gbit/s",
        value: |own| median(own, |round| round.streams[1]),
        target: 6.6,
        better: Better::More,
        ratios: &[(TLS, 1.05)],
    },
    Metric {
        name: "16 streams",
        unit: "Gbit/s",
        value: |own| median(own, |round| round.streams[2]),
        target: 6.6,
        better: Better::More,
        ratios: &[(TLS, 1.05)],
    },
    Metric {
        name: "CPU",
        unit: "s/GB",
        value: |own| median(own, |round| round.cost),
        target: 1.8,
        better: Better::Less,
        ratios: &[(TLS, 0.95)],
    },
    Metric {
        name: "RTT p50",
        unit: "us",
        value: |own| median(own, |round| round.latency.p50),
        target: 115.0,
        better: Better::Less,
        ratios: &[(RELAY, 1.0)],
    },
    Metric {
        name: "RTT p99",
        unit: "us",
        value: |own| median(own, |round| round.latency.p99),
        target: 180.0,
        better: Better::Less,
        ratios: &[(RELAY, 1.0)],
    },
    Metric {
        name: "16 conns",
        unit: "req/s",
        value: |own| median(own, |round| round.requests),
        target: 45_000.0,
        better: Better::More,
        ratios: &[(RELAY, 1.0)],
    },
    Metric {
        name: "connect",
        unit: "1/s",
        value: |own| median(own, |round| round.connections),
        target: 12_000.0,
        better: Better::More,
        ratios: &[(RELAY, 1.0), (TLS, 10.0)],
    },
    Metric {
        name: "RSS",
        unit: "MiB",
        value: |own| own.memory,
        target: 48.0,
        better: Better::Less,
        ratios: &[],
    },
];

/// All medians, then ours as parts of others'.
pub(super) fn figures(measured: &[Measured]) -> Vec<Figure> {
    let all = measured.iter().flat_map(|own| METRICS.iter().map(|metric| absolute(own, metric)));
    let ours = measured.iter().filter(|own| own.name == OURS);
    let ratios = ours.flat_map(|ours| METRICS.iter().flat_map(|it| ratios(ours, it, measured)));
    all.chain(ratios).collect()
}

fn absolute(own: &Measured, metric: &Metric) -> Figure {
    let target = (own.name == OURS).then_some(metric.target);
    figure(own.name.to_owned(), metric, ((metric.value)(own), metric.unit), (None, target))
}

fn ratios(ours: &Measured, metric: &Metric, measured: &[Measured]) -> Vec<Figure> {
    let ratio = |(peer, target): &(&str, f64)| {
        let other = measured.iter().find(|other| other.name == *peer)?;
        let value = (metric.value)(ours) / (metric.value)(other);
        let case = format!("{OURS} / {peer}");
        Some(figure(case, metric, (value, "x"), (Some(peer), Some(*target))))
    };
    metric.ratios.iter().filter_map(ratio).collect()
}

fn figure(
    case: String,
    metric: &Metric,
    (value, unit): (f64, &str),
    (peer, target): (Option<&str>, Option<f64>),
) -> Figure {
    Figure {
        suite: "gateway".to_owned(),
        case,
        metric: metric.name.to_owned(),
        value,
        unit: unit.to_owned(),
        peer: peer.map(str::to_owned),
        target,
        holds: target.map(|target| match metric.better {
            Better::More => value >= target,
            Better::Less => value <= target,
        }),
    }
}

fn median(own: &Measured, value: impl Fn(&Round) -> f64) -> f64 {
    statistics::median(own.rounds.iter().map(value).collect())
}
