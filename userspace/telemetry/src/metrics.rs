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

/// Datagrams of intercepted and hosted flows that were lost here.
pub const DATAGRAMS_LOST: CounterMetric = CounterMetric {
    name: "nightgate_lost_datagrams_total",
    help: "Datagrams of intercepted and hosted flows that were lost here, by cause",
    labels: &["cause"],
};

/// Bytes carried for intercepted and hosted connections.
pub const CIRCUIT_BYTES: CounterMetric = CounterMetric {
    name: "nightgate_circuit_plaintext_bytes_total",
    help: "Bytes of plaintext sent into circuits and received from them",
    labels: &["direction"],
};

/// Bytes that went with dials.
pub const EARLY_DATA: CounterMetric = CounterMetric {
    name: "nightgate_early_data_bytes_total",
    help: "Bytes of plaintext that went with dials and were taken, by the end this process is",
    labels: &["end"],
};

/// Private DNS answers.
pub const DNS_ANSWERS: CounterMetric = CounterMetric {
    name: "nightgate_dns_answers_total",
    help: "Queries at the private DNS, by what became of them",
    labels: &["result"],
};

/// Records of flows.
pub const FLOW_RECORDS: CounterMetric = CounterMetric {
    name: "nightgate_flow_records_total",
    help: "Records of flows, by output and by what became of them: delivered or lost",
    labels: &["output", "result"],
};

/// Frames for capture files.
pub const CAPTURED_FRAMES: CounterMetric = CounterMetric {
    name: "nightgate_captured_frames_total",
    help: "Frames for capture files, by what became of them: delivered or lost",
    labels: &["result"],
};

/// Copies of mirror sessions.
pub const MIRROR_COPIES: CounterMetric = CounterMetric {
    name: "nightgate_mirror_copies_total",
    help: "Frames that a mirror session was due (matched, of which all others are parts), by what became of them",
    labels: &["session", "outcome"],
};

/// Sensors in order.
pub const SENSOR_UP: GaugeMetric = GaugeMetric {
    name: "nightgate_sensor_up",
    help: "Whether a sensor is in order: 1, or 0 while it gets no copies",
    labels: &["sensor"],
};

/// Changes of sensors' state.
pub const SENSOR_CHANGES: CounterMetric = CounterMetric {
    name: "nightgate_sensor_changes_total",
    help: "How often a sensor was taken out or came back",
    labels: &["sensor"],
};

/// Copies for sensors.
pub const SENSOR_COPIES: CounterMetric = CounterMetric {
    name: "nightgate_sensor_copies_total",
    help: "Frames that have left for a sensor",
    labels: &["sensor"],
};

/// Bytes for sensors.
pub const SENSOR_BYTES: CounterMetric = CounterMetric {
    name: "nightgate_sensor_bytes_total",
    help: "Bytes of the frames that have left for a sensor, without what they are put into",
    labels: &["sensor"],
};

/// Queues towards sensors.
pub const SENSOR_QUEUE_DROPS: CounterMetric = CounterMetric {
    name: "nightgate_sensor_queue_drops_total",
    help: "Packets that the queue of the interface towards a sensor has dropped, of whatever kind",
    labels: &["sensor"],
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

/// Links of a router.
pub const LINK_CONNECTIONS: GaugeMetric = GaugeMetric {
    name: "nightgate_link_connections",
    help: "Connections of the link to a neighbour",
    labels: &["peer"],
};

/// How far a neighbour is.
pub const LINK_ROUND_TRIP: GaugeMetric = GaugeMetric {
    name: "nightgate_link_round_trip_microseconds",
    help: "Shortest of the latest round trips to a neighbour, without what waits in queues; of its fastest connection",
    labels: &["peer"],
};

/// Cost of a link.
pub const LINK_COST: GaugeMetric = GaugeMetric {
    name: "nightgate_link_cost",
    help: "Cost by which paths over the link to a neighbour are chosen, of its cheapest connection",
    labels: &["peer"],
};

/// What waits for a link.
pub const LINK_QUEUE: GaugeMetric = GaugeMetric {
    name: "nightgate_link_queued_bytes",
    help: "Bytes that wait to be written to the link to a neighbour",
    labels: &["peer"],
};

/// What a link could not take.
pub const LINK_DROPS: CounterMetric = CounterMetric {
    name: "nightgate_link_dropped_frames_total",
    help: "Frames that the link to a neighbour lost since it stands, because too many waited",
    labels: &["peer"],
};

/// What a link has carried.
pub const LINK_BYTES: CounterMetric = CounterMetric {
    name: "nightgate_link_bytes_total",
    help: "Bytes of frames over the link to a neighbour since it stands",
    labels: &["peer", "direction"],
};

/// What TCP has sent for a link.
pub const LINK_SEGMENTS: CounterMetric = CounterMetric {
    name: "nightgate_link_segments_total",
    help: "TCP segments sent over the link to a neighbour since it stands",
    labels: &["peer"],
};

/// What was lost on the way.
pub const LINK_REPEATED: CounterMetric = CounterMetric {
    name: "nightgate_link_repeated_segments_total",
    help: "Of them those that were sent again, because the way lost or delayed them",
    labels: &["peer"],
};

/// Circuits that stand.
pub const CIRCUITS: GaugeMetric = GaugeMetric {
    name: "nightgate_circuits",
    help: "Circuits that stand, by this router's part in them",
    labels: &["role"],
};

/// Circuits that took another way.
pub const CIRCUITS_MOVED: CounterMetric = CounterMetric {
    name: "nightgate_circuits_moved_total",
    help: "Moves of circuits of this router's dialers to another path",
    labels: &[],
};

/// Circuits that ended.
pub const CIRCUITS_CLOSED: CounterMetric = CounterMetric {
    name: "nightgate_circuits_closed_total",
    help: "Circuits of this router's dialers that ended, by cause; closed-by-dialer is the usual one",
    labels: &["cause"],
};

/// Dials.
pub const DIALS: CounterMetric = CounterMetric {
    name: "nightgate_dials_total",
    help: "Dials at this router, by service and by what became of them: opened, or the cause of the failure",
    labels: &["service", "outcome"],
};

/// Time of dials.
pub const DIAL_TIME: CounterMetric = CounterMetric {
    name: "nightgate_dial_milliseconds_total",
    help: "Time until the answers to dials at this router, all together, by service and outcome",
    labels: &["service", "outcome"],
};

/// What hosts say of their servers.
pub const HEALTH_EVENTS: CounterMetric = CounterMetric {
    name: "nightgate_health_events_total",
    help: "Health events that SDKs at this router sent of what they host, by service and outcome: passed or failed",
    labels: &["service", "outcome"],
};

/// What is hosted at a router.
pub const TERMINATORS: GaugeMetric = GaugeMetric {
    name: "nightgate_terminators",
    help: "Places where services are hosted, behind this router or, at the controller, behind all",
    labels: &[],
};

/// Position of the model.
pub const MODEL_INDEX: GaugeMetric = GaugeMetric {
    name: "nightgate_model_index",
    help: "Position of the model in the controller's history of changes, as this process has it",
    labels: &[],
};

/// Whether the controller is there.
pub const CONTROLLER_SILENCE: GaugeMetric = GaugeMetric {
    name: "nightgate_controller_silence_seconds",
    help: "Time since this router last heard of the controller; 0 while the channel stands",
    labels: &[],
};

/// Memory for circuits.
pub const CIRCUIT_MEMORY: GaugeMetric = GaugeMetric {
    name: "nightgate_circuit_memory_bytes",
    help: "Bytes of messages that this router keeps for the ends of circuits (kept), and most that it may (limit)",
    labels: &["bound"],
};

/// Ends and routes.
pub const CIRCUIT_PLACES: GaugeMetric = GaugeMetric {
    name: "nightgate_circuit_places",
    help: "Ends of circuits and routes of paths that this router holds",
    labels: &["kind"],
};

/// Events that wait for the controller.
pub const EVENTS_WAITING: GaugeMetric = GaugeMetric {
    name: "nightgate_events_waiting",
    help: "Events of circuits that the controller has not been told of yet",
    labels: &[],
};

/// Entities of the model.
pub const ENTITIES: GaugeMetric = GaugeMetric {
    name: "nightgate_entities",
    help: "Entities of the controller's model, by kind",
    labels: &["kind"],
};

/// Sessions.
pub const SESSIONS: GaugeMetric = GaugeMetric {
    name: "nightgate_sessions",
    help: "API sessions (api) and service sessions (service) at the controller",
    labels: &["kind"],
};

/// Routers at the controller.
pub const ROUTERS_CONNECTED: GaugeMetric = GaugeMetric {
    name: "nightgate_routers_connected",
    help: "Routers that are connected to the controller",
    labels: &[],
};

/// Links that routers report.
pub const LINKS_REPORTED: GaugeMetric = GaugeMetric {
    name: "nightgate_links_reported",
    help: "Links that connected routers report, each end by itself",
    labels: &[],
};

/// Circuits that routers report.
pub const CIRCUITS_REPORTED: GaugeMetric = GaugeMetric {
    name: "nightgate_circuits_reported",
    help: "Circuits that connected routers report, by router: its own ends and what it forwards",
    labels: &["router"],
};

/// Dials that routers report.
pub const DIALS_REPORTED: GaugeMetric = GaugeMetric {
    name: "nightgate_dials_reported",
    help: "Dials that connected routers report, each since its start, by service and outcome",
    labels: &["service", "outcome"],
};

/// REST.
pub const API_REQUESTS: CounterMetric = CounterMetric {
    name: "nightgate_api_requests_total",
    help: "Requests at the controller's REST interfaces, by interface and status",
    labels: &["interface", "status"],
};

/// Events.
pub const EVENTS: CounterMetric = CounterMetric {
    name: "nightgate_events_total",
    help: "Events since the controller's start",
    labels: &[],
};

/// Memory for events.
pub const EVENT_MEMORY: GaugeMetric = GaugeMetric {
    name: "nightgate_event_memory_bytes",
    help: "Bytes of events that are kept for readers (kept), and most that may be (limit)",
    labels: &["bound"],
};

/// What routers have been told.
pub const PUBLISHED_INDEX: GaugeMetric = GaugeMetric {
    name: "nightgate_published_index",
    help: "Position in the history of changes that routers have been told of",
    labels: &[],
};
