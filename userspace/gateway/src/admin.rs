//! The local socket where an operator looks into a running router or gateway.
//!
//! One request is one line of JSON, such as `{"show":"circuits"}`; the answer is one line,
//! `{"ok": ...}` or `{"error": "..."}`, and the connection closes.

mod client;
mod server;

pub use client::{AdminClientError, ask};
pub use server::{AdminServer, AdminSocketError, Query};

use serde::{Deserialize, Serialize};

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

/// A request line.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Request {
    show: Topic,
}

/// An answer line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Ok(serde_json::Value),
    Error(String),
}
