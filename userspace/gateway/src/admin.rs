//! The local socket where an operator looks into a running router or gateway.
//!
//! One request is one line of JSON, such as `{"show":"flows"}` or `"confirm"`; the answer is one line,
//! `{"ok": ...}` or `{"error": "..."}`, and the connection closes.

mod client;
mod request;
mod server;

pub use client::{AdminClientError, ask};
pub use request::{Apply, Request, RuleFile, Session, Topic};
pub use server::{AdminServer, AdminSocketError, Query};

use serde::{Deserialize, Serialize};

/// An answer line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Ok(serde_json::Value),
    Error(String),
}
