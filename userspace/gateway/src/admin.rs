//! The local socket where an operator looks into a running router or gateway.
//!
//! One request is one line of JSON, such as `{"show":"flows"}` or `"confirm"`; the answer is one line,
//! `{"ok": ...}` or `{"error": "..."}`, and the connection closes. A trace tells any number of lines
//! `{"event": ...}` before; whoever does not want more closes the connection.

mod client;
mod request;
mod server;

pub use client::{AdminClientError, ask, follow};
pub use request::{
    AddressQuarantine, Apply, Explain, FlowOrder, FlowRequest, KillRequest, Learn, Request,
    RuleFile, Session, Topic, TraceRequest,
};
pub use server::{AdminServer, AdminSocketError, Audience, Query};

use serde::{Deserialize, Serialize};

/// An answer line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Event(serde_json::Value),
    Ok(serde_json::Value),
    Error(String),
}
