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

/// Who is cut off or limited by a gateway: an address, or an identity.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct QuarantineReport {
    /// The address.
    pub address: Option<IpAddr>,
    /// Name of the identity.
    pub identity: Option<String>,
    /// Packets that still pass, as `100/s`; none, if nothing does.
    pub rate: Option<String>,
    /// For how much longer, in milliseconds; 0 if it is over.
    pub left_ms: u64,
}
