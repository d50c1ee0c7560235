//! Every metric of the product: its name, its help text and its labels.

/// One declared counter.
#[derive(Clone, Copy, Debug)]
pub struct CounterMetric {
    /// Name, with the unit as its last word and `_total` after it.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Label names; every label's values are a closed list.
    pub labels: &'static [&'static str],
}

/// Circuits opened.
pub const CIRCUITS_OPENED: CounterMetric = CounterMetric {
    name: "nightgate_circuits_opened_total",
    help: "Circuits opened, by the end this process is",
    labels: &["end"],
};

/// Circuits refused.
pub const CIRCUITS_REFUSED: CounterMetric = CounterMetric {
    name: "nightgate_circuits_refused_total",
    help: "Circuits refused, by the end this process is and by the cause",
    labels: &["end", "cause"],
};

/// Connections taken over.
pub const INTERCEPTED_CONNECTIONS: CounterMetric = CounterMetric {
    name: "nightgate_intercepted_connections_total",
    help: "Connections that the kernel handed to an intercept listener",
    labels: &[],
};

/// Bytes carried for intercepted and hosted connections.
pub const CIRCUIT_BYTES: CounterMetric = CounterMetric {
    name: "nightgate_circuit_plaintext_bytes_total",
    help: "Bytes of plaintext sent into circuits and received from them",
    labels: &["direction"],
};

/// Private DNS answers.
pub const DNS_ANSWERS: CounterMetric = CounterMetric {
    name: "nightgate_dns_answers_total",
    help: "Queries at the private DNS, by what became of them",
    labels: &["result"],
};

/// Packets the kernel programs saw.
pub const KERNEL_PACKETS: CounterMetric = CounterMetric {
    name: "nightgate_kernel_packets_total",
    help: "Packets at the kernel programs, by what became of them and why",
    labels: &["reason"],
};
