//! The counters of one process.

use std::sync::Arc;

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::metrics::{
    CAPTURED_FRAMES, CIRCUIT_BYTES, CIRCUITS_OPENED, CIRCUITS_REFUSED, CounterMetric,
    DATAGRAMS_LOST, DNS_ANSWERS, DROPPED_PACKETS, EARLY_DATA, FLOW_RECORDS, FLOWS, GaugeMetric,
    INTERCEPTED_CONNECTIONS, KERNEL_MEMORY, KERNEL_PACKETS, RULE_BYTES, RULE_PACKETS, RULES_EPOCH,
};

/// The counters of one process. Clones count into the same registry.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    registry: Registry,
    opened: IntCounterVec,
    refused: IntCounterVec,
    intercepted: IntCounterVec,
    lost: IntCounterVec,
    bytes: IntCounterVec,
    early: IntCounterVec,
    dns: IntCounterVec,
    records: IntCounterVec,
    captured: IntCounterVec,
    kernel: IntCounterVec,
    dropped: IntCounterVec,
    rule_packets: IntCounterVec,
    rule_bytes: IntCounterVec,
    flows: IntGaugeVec,
    epoch: IntGaugeVec,
    memory: IntGaugeVec,
}

/// What the kernel programs count, at one time.
#[derive(Clone, Debug, Default)]
pub struct KernelSnapshot {
    /// Packets by reason.
    pub reasons: Vec<(String, u64)>,
    /// Refused packets by reason, interface and side.
    pub drops: Vec<([String; 3], u64)>,
    /// Packets and bytes by rule.
    pub rules: Vec<(String, [u64; 2])>,
    /// Flows by state.
    pub flows: Vec<(String, u64)>,
    /// Bytes of memory by map.
    pub memory: Vec<(String, u64)>,
    /// Epoch of the rules.
    pub epoch: u32,
}

/// Which end of a circuit this process is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// It dialed.
    Dialer,
    /// It hosts.
    Host,
}

/// Why a datagram was lost here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DatagramLoss {
    /// Too many wait.
    Queue,
    /// It is empty, and the other end has not said that it takes such.
    Empty,
    /// Its flow was refused.
    Refused,
    /// An answer could not be sent to the client.
    Send,
}

/// What became of a query at the private DNS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DnsOutcome {
    /// Answered with an address.
    Address,
    /// The name exists, but has no record of the wanted type.
    NoData,
    /// The name is none that may be dialed.
    UnknownName,
    /// Other servers are asked.
    Forwarded,
    /// The query is not one this server answers, or not its sender's to ask.
    Refused,
    /// The sender asks too fast, or too many ask for names of other servers.
    Limited,
    /// The message was no DNS query; it was answered with an error or not at all.
    Malformed,
}

/// What became of records, or of frames.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecordFate {
    /// They are where they should be.
    Delivered,
    /// There was no room for them, or their output did not take them.
    Lost,
}

/// Metrics that could not be registered or rendered.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A metric's declaration is not valid.
    #[error("register metric {name}: {source}")]
    Register {
        /// The metric.
        name: &'static str,
        /// What is wrong with it.
        source: prometheus::Error,
    },
    /// The text could not be produced.
    #[error("render metrics as text: {0}")]
    Render(#[from] prometheus::Error),
}

impl Metrics {
    /// Registers every metric of [`crate::metrics`] in a registry of its own.
    ///
    /// # Errors
    /// A metric's declaration is not valid.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let counters = Counters {
            opened: register(&registry, CIRCUITS_OPENED)?,
            refused: register(&registry, CIRCUITS_REFUSED)?,
            intercepted: register(&registry, INTERCEPTED_CONNECTIONS)?,
            lost: register(&registry, DATAGRAMS_LOST)?,
            bytes: register(&registry, CIRCUIT_BYTES)?,
            early: register(&registry, EARLY_DATA)?,
            dns: register(&registry, DNS_ANSWERS)?,
            records: register(&registry, FLOW_RECORDS)?,
            captured: register(&registry, CAPTURED_FRAMES)?,
            kernel: register(&registry, KERNEL_PACKETS)?,
            dropped: register(&registry, DROPPED_PACKETS)?,
            rule_packets: register(&registry, RULE_PACKETS)?,
            rule_bytes: register(&registry, RULE_BYTES)?,
            flows: register_gauge(&registry, FLOWS)?,
            epoch: register_gauge(&registry, RULES_EPOCH)?,
            memory: register_gauge(&registry, KERNEL_MEMORY)?,
            registry,
        };
        Ok(Self(Arc::new(counters)))
    }

    /// Counts an opened circuit.
    pub fn circuit_opened(&self, end: End) {
        self.0.opened.with_label_values(&[end.as_str()]).inc();
    }

    /// Counts a refused circuit; `cause` is a word of a closed list.
    pub fn circuit_refused(&self, end: End, cause: &str) {
        self.0.refused.with_label_values(&[end.as_str(), cause]).inc();
    }

    /// Counts a connection that reached an intercept listener.
    pub fn connection_intercepted(&self) {
        self.0.intercepted.with_label_values::<&str>(&[]).inc();
    }

    /// Counts datagrams of intercepted or hosted flows that were lost here.
    pub fn datagrams_lost(&self, loss: DatagramLoss, count: usize) {
        if count > 0 {
            self.0.lost.with_label_values(&[loss.as_str()]).inc_by(count as u64);
        }
    }

    /// Counts bytes of plaintext sent into a circuit.
    pub fn bytes_sent(&self, bytes: usize) {
        self.0.bytes.with_label_values(&["sent"]).inc_by(bytes as u64);
    }

    /// Counts bytes of plaintext received from a circuit.
    pub fn bytes_received(&self, bytes: usize) {
        self.0.bytes.with_label_values(&["received"]).inc_by(bytes as u64);
    }

    /// Counts bytes of plaintext that went with a dial, and were taken.
    pub fn early_data(&self, end: End, bytes: usize) {
        self.0.early.with_label_values(&[end.as_str()]).inc_by(bytes as u64);
    }

    /// Counts a query at the private DNS.
    pub fn dns_answered(&self, outcome: DnsOutcome) {
        self.0.dns.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Counts records of flows; `output` is a word of a closed list.
    pub fn flow_records(&self, output: &str, fate: RecordFate, records: u64) {
        self.0.records.with_label_values(&[output, fate.as_str()]).inc_by(records);
    }

    /// Counts frames for capture files.
    pub fn captured_frames(&self, fate: RecordFate, frames: u64) {
        self.0.captured.with_label_values(&[fate.as_str()]).inc_by(frames);
    }

    /// Takes over what the kernel programs count, in place of an earlier snapshot.
    pub fn set_kernel(&self, kernel: &KernelSnapshot) {
        let counters = &self.0;
        set(&counters.kernel, kernel.reasons.iter().map(|(reason, n)| ([reason], *n)));
        set(&counters.dropped, kernel.drops.iter().map(|(labels, n)| (labels.each_ref(), *n)));
        set(&counters.rule_packets, kernel.rules.iter().map(|(rule, n)| ([rule], n[0])));
        set(&counters.rule_bytes, kernel.rules.iter().map(|(rule, n)| ([rule], n[1])));
        set_gauge(&counters.flows, &kernel.flows);
        set_gauge(&counters.memory, &kernel.memory);
        counters.epoch.with_label_values::<&str>(&[]).set(kernel.epoch.into());
    }

    /// Renders every metric in Prometheus' text format.
    ///
    /// # Errors
    /// A metric cannot be written as text.
    pub fn render(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.0.registry.gather())?)
    }
}

impl End {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dialer => "dialer",
            Self::Host => "host",
        }
    }
}

impl DatagramLoss {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Empty => "empty",
            Self::Refused => "refused",
            Self::Send => "send",
        }
    }
}

impl RecordFate {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Lost => "lost",
        }
    }
}

impl DnsOutcome {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::NoData => "no_data",
            Self::UnknownName => "unknown_name",
            Self::Forwarded => "forwarded",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Malformed => "malformed",
        }
    }
}

fn set<'a, const N: usize>(
    counters: &IntCounterVec,
    rows: impl Iterator<Item = ([&'a String; N], u64)>,
) {
    counters.reset();
    for (labels, count) in rows {
        counters.with_label_values(&labels).inc_by(count);
    }
}

fn set_gauge(gauges: &IntGaugeVec, rows: &[(String, u64)]) {
    gauges.reset();
    for (label, value) in rows {
        gauges.with_label_values(&[label]).set(i64::try_from(*value).unwrap_or(i64::MAX));
    }
}

pub(crate) fn register_gauge(
    registry: &Registry,
    metric: GaugeMetric,
) -> Result<IntGaugeVec, MetricsError> {
    IntGaugeVec::new(Opts::new(metric.name, metric.help), metric.labels)
        .and_then(|gauge| {
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        })
        .map_err(|source| MetricsError::Register { name: metric.name, source })
}

pub(crate) fn register(
    registry: &Registry,
    metric: CounterMetric,
) -> Result<IntCounterVec, MetricsError> {
    IntCounterVec::new(Opts::new(metric.name, metric.help), metric.labels)
        .and_then(|counter| {
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        })
        .map_err(|source| MetricsError::Register { name: metric.name, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_appear_in_the_text_with_their_labels() {
        let metrics = Metrics::new().unwrap();
        metrics.circuit_opened(End::Dialer);
        metrics.circuit_refused(End::Host, "connection_refused");
        metrics.connection_intercepted();
        metrics.bytes_sent(5);
        metrics.bytes_received(7);
        metrics.dns_answered(DnsOutcome::UnknownName);

        let text = metrics.render().unwrap();

        for line in [
            "nightgate_circuits_opened_total{end=\"dialer\"} 1",
            "nightgate_circuits_refused_total{cause=\"connection_refused\",end=\"host\"} 1",
            "nightgate_intercepted_connections_total 1",
            "nightgate_circuit_plaintext_bytes_total{direction=\"sent\"} 5",
            "nightgate_circuit_plaintext_bytes_total{direction=\"received\"} 7",
            "nightgate_dns_answers_total{result=\"unknown_name\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_kernel_snapshot_replaces_the_earlier_one() {
        let metrics = Metrics::new().unwrap();
        let drops = vec![(["rule", "lan0", "ingress"].map(str::to_owned), 3)];
        let snapshot = |packets| KernelSnapshot {
            reasons: vec![("no-rule".into(), packets)],
            drops: drops.clone(),
            rules: vec![("web".into(), [5, 500])],
            flows: vec![("established".into(), 2)],
            memory: vec![("FLOWS".into(), 4_096)],
            epoch: 9,
        };
        metrics.set_kernel(&KernelSnapshot { drops: vec![], ..snapshot(20) });
        metrics.set_kernel(&snapshot(12));

        let text = metrics.render().unwrap();

        for line in [
            "nightgate_kernel_packets_total{reason=\"no-rule\"} 12",
            "nightgate_dropped_packets_total{interface=\"lan0\",reason=\"rule\",side=\"ingress\"} 3",
            "nightgate_rule_packets_total{rule=\"web\"} 5",
            "nightgate_rule_bytes_total{rule=\"web\"} 500",
            "nightgate_flows{state=\"established\"} 2",
            "nightgate_kernel_memory_bytes{map=\"FLOWS\"} 4096",
            "nightgate_rules_epoch 9",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
