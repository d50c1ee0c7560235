//! Alerts, and what was done about them.

use std::net::IpAddr;

use nightgate_mirror::verdict::{Alert, Decision};
use serde::Serialize;

/// An alert and what followed from it.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictReport {
    /// When it was judged (RFC 3339).
    #[serde(rename = "judged_at")]
    pub at: String,
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
    /// Name of the service that the flow was of.
    pub service: Option<String>,
    /// Name of the identity that began it.
    pub identity: Option<String>,
    /// Address that began it, where it is connected to this gateway.
    pub source: Option<IpAddr>,
    /// What the policy says.
    #[serde(flatten)]
    pub decision: Decision,
    /// What was done.
    pub done: String,
}

/// An address that is cut off.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct QuarantineReport {
    /// The address.
    pub address: IpAddr,
    /// For how much longer, in milliseconds; 0 if it is over.
    pub left_ms: u64,
}
