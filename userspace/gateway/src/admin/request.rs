//! What can be asked at the socket.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::report::Scope;
pub use crate::rule_file::RuleFile;

/// A request line.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Tell about something.
    Show(Topic),
    /// Tell what an [`Request::Apply`] would change; change nothing.
    Plan(RuleFile),
    /// Put the rules of a file in force.
    Apply(Apply),
    /// Keep the rules that wait for it.
    Confirm,
    /// Go back to the rules that were in force before.
    Rollback,
    /// Tell what would become of a packet, and why.
    Explain(Explain),
    /// Accept and record for a while what no rule matches.
    Learn(Learn),
    /// End that before its time.
    StopLearning,
    /// Tell what has been recorded.
    Learned,
    /// Tell about packets as they come.
    Trace(TraceRequest),
    /// Tell about tracked flows.
    Flows(FlowRequest),
    /// Remove tracked flows.
    KillFlows(KillRequest),
    /// Cut an address off for a while, or limit it.
    Quarantine(AddressQuarantine),
    /// Release an address, or an identity that is limited, by its name.
    Release(String),
    /// Show the controller this code of the identity's second factor.
    SecondFactor(String),
}

/// Which flows are told about.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FlowRequest {
    /// Conditions in the language of [`crate::filter`]; all have to hold.
    pub filter: Vec<String>,
    /// Which come first.
    pub sort: FlowOrder,
    /// So many at most; `None` for any number.
    pub limit: Option<usize>,
}

/// An order of flows.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowOrder {
    /// The least idle first.
    #[default]
    Idle,
    /// The oldest first.
    Age,
    /// Those with the most bytes first.
    Bytes,
}

/// Which flows are removed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KillRequest {
    /// Conditions in the language of [`crate::filter`]; all have to hold.
    pub filter: Vec<String>,
    /// Only find out how many they are.
    pub dry_run: bool,
}

/// An address to cut off.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AddressQuarantine {
    /// Which.
    pub address: IpAddr,
    /// For how long, in seconds.
    pub seconds: u64,
    /// Packets that still pass, as `100/s`; none, if nothing does.
    #[serde(default)]
    pub rate: Option<String>,
}

/// Which packets are told about, and how long.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// Conditions in the language of [`crate::filter`]; all have to hold.
    pub filter: Vec<String>,
    /// One of so many packets, at random; at least 1.
    pub sample: u32,
    /// So many packets at most; `None` for any number.
    pub count: Option<u64>,
    /// So many seconds at most; at least 1.
    pub seconds: u32,
}

/// What an operator may ask for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// The router: links, circuits, hosted services.
    Router,
    /// Packets by what became of them.
    Counters,
    /// Refused packets by reason and interface.
    Drops,
    /// Packets by the rule that decided.
    Rules,
    /// Tracked flows.
    Flows,
    /// Copies made for the sensors.
    Mirror,
    /// The sensors.
    Sensors,
    /// Intercepted host names and their addresses.
    Names,
    /// Alerts, and what was done about them.
    Verdicts,
    /// Addresses that are cut off.
    Quarantine,
    /// Metrics in Prometheus' text format.
    Metrics,
    /// The tunneler: what its hooks are attached to.
    Tunnel,
}

impl From<Topic> for Request {
    fn from(topic: Topic) -> Self {
        Self::Show(topic)
    }
}

/// A change of the rules.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The rules.
    pub file: RuleFile,
    /// Seconds after which the rules before come back, unless a [`Request::Confirm`] arrives; `None` for never.
    pub confirm_within: Option<u32>,
    /// The operator's own session, which must not be cut; `None` for none, or if it does not matter.
    pub session: Option<Session>,
}

/// A packet to explain.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// Its [`nightgate_ruleset::Description`].
    pub packet: String,
    /// Which rules to tell about.
    pub scope: Scope,
}

/// For how long, and between which zones, what no rule matches is accepted and recorded.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Learn {
    /// Seconds.
    pub seconds: u32,
    /// Names of zones; none for every zone and the gateway itself.
    pub zones: Vec<String>,
}

/// A TCP connection to this host.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The end that opened it.
    pub client: std::net::SocketAddr,
    /// This host's end.
    pub server: std::net::SocketAddr,
}
