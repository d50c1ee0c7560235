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
    help: "Connections, and flows of datagrams, that the kernel handed to an intercept listener",
    labels: &[],
};

/// Intercepted datagrams, and answers to them, that were lost here.
pub const DATAGRAMS_LOST: CounterMetric = CounterMetric {
    name: "nightgate_lost_datagrams_total",
    help: "Datagrams of intercepted flows that were lost here, by cause",
    labels: &["cause"],
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

/// One declared gauge.
#[derive(Clone, Copy, Debug)]
pub struct GaugeMetric {
    /// Name, with the unit as its last word if it has one.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Label names.
    pub labels: &'static [&'static str],
}

/// Refused packets.
pub const DROPPED_PACKETS: CounterMetric = CounterMetric {
    name: "nightgate_dropped_packets_total",
    help: "Packets refused on an interface that is attached now, by reason and side",
    labels: &["reason", "interface", "side"],
};

/// Packets that rules decided.
pub const RULE_PACKETS: CounterMetric = CounterMetric {
    name: "nightgate_rule_packets_total",
    help: "Packets of a rule's flows, or that it refused; the rules in force only",
    labels: &["rule"],
};

/// Bytes that rules decided.
pub const RULE_BYTES: CounterMetric = CounterMetric {
    name: "nightgate_rule_bytes_total",
    help: "Bytes of a rule's flows, or that it refused; the rules in force only",
    labels: &["rule"],
};

/// Tracked flows.
pub const FLOWS: GaugeMetric =
    GaugeMetric { name: "nightgate_flows", help: "Tracked flows, by state", labels: &["state"] };

/// Epoch of the rules.
pub const RULES_EPOCH: GaugeMetric = GaugeMetric {
    name: "nightgate_rules_epoch",
    help: "Grows with every change of what packets are judged by",
    labels: &[],
};

/// Kernel memory.
pub const KERNEL_MEMORY: GaugeMetric = GaugeMetric {
    name: "nightgate_kernel_memory_bytes",
    help: "Memory that a map of the kernel programs takes",
    labels: &["map"],
};
