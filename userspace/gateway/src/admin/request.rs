//! What can be asked at the socket.

use serde::{Deserialize, Serialize};

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
}

/// What an operator may ask for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// The router: links, circuits, hosted services.
    Router,
    /// Packets by what became of them.
    Counters,
    /// Packets by the rule that decided.
    Rules,
    /// Tracked flows.
    Flows,
    /// Copies made for the sensors.
    Mirror,
    /// Intercepted host names and their addresses.
    Names,
    /// Metrics in Prometheus' text format.
    Metrics,
}

impl From<Topic> for Request {
    fn from(topic: Topic) -> Self {
        Self::Show(topic)
    }
}

/// A configuration file whose rules are meant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// Its name, for messages.
    pub name: String,
    /// What is in it.
    pub text: String,
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

/// A TCP connection to this host.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The end that opened it.
    pub client: std::net::SocketAddr,
    /// This host's end.
    pub server: std::net::SocketAddr,
}
