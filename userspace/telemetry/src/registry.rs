//! The counters of one process.

use std::sync::Arc;

use prometheus::{IntCounterVec, Opts, Registry, TextEncoder};

use crate::metrics::{
    CIRCUIT_BYTES, CIRCUITS_OPENED, CIRCUITS_REFUSED, CounterMetric, DNS_ANSWERS,
    INTERCEPTED_CONNECTIONS, KERNEL_PACKETS,
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
    bytes: IntCounterVec,
    dns: IntCounterVec,
    kernel: IntCounterVec,
}

/// Which end of a circuit this process is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// It dialed.
    Dialer,
    /// It hosts.
    Host,
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
    /// The query is not one this server answers.
    Refused,
    /// The message was no DNS query; it was answered with an error or not at all.
    Malformed,
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
            bytes: register(&registry, CIRCUIT_BYTES)?,
            dns: register(&registry, DNS_ANSWERS)?,
            kernel: register(&registry, KERNEL_PACKETS)?,
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

    /// Counts bytes of plaintext sent into a circuit.
    pub fn bytes_sent(&self, bytes: usize) {
        self.0.bytes.with_label_values(&["sent"]).inc_by(bytes as u64);
    }

    /// Counts bytes of plaintext received from a circuit.
    pub fn bytes_received(&self, bytes: usize) {
        self.0.bytes.with_label_values(&["received"]).inc_by(bytes as u64);
    }

    /// Counts a query at the private DNS.
    pub fn dns_answered(&self, outcome: DnsOutcome) {
        self.0.dns.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Takes over the kernel's counter of one reason: `packets` since the programs were loaded.
    pub fn set_kernel_packets(&self, reason: &str, packets: u64) {
        let counter = self.0.kernel.with_label_values(&[reason]);
        counter.inc_by(packets.saturating_sub(counter.get()));
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

impl DnsOutcome {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::NoData => "no_data",
            Self::UnknownName => "unknown_name",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
        }
    }
}

fn register(registry: &Registry, metric: CounterMetric) -> Result<IntCounterVec, MetricsError> {
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
        metrics.set_kernel_packets("no_rule", 10);
        metrics.set_kernel_packets("no_rule", 12);

        let text = metrics.render().unwrap();

        assert!(text.contains("nightgate_kernel_packets_total{reason=\"no_rule\"} 12"), "{text}");
    }
}
