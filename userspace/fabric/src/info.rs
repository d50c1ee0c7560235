//! What a router tells people about itself.

use nightgate_model::id::{IdentityId, RouterId, ServiceId};
use serde::Serialize;

/// This router's part in a circuit.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The dialer is connected here.
    Dialer,
    /// The host is connected here.
    Host,
    /// Only forwards ciphertext.
    Transit,
}

/// A circuit as this router sees it.
#[derive(Clone, Debug, Serialize)]
pub struct CircuitInfo {
    /// Sixteen hexadecimal digits, the same at every router of the path.
    pub id: String,
    /// This router's part.
    pub role: Role,
    /// Service; unknown to a router that only forwards.
    pub service: Option<ServiceId>,
    /// Dialing identity; unknown to a router that only forwards.
    pub dialer: Option<IdentityId>,
    /// Hosting identity; unknown to a router that only forwards.
    pub host: Option<IdentityId>,
    /// Routers from dialer to host; at a router that only forwards, its two neighbours and itself.
    pub path: Vec<RouterId>,
    /// Bytes sent by this end, overhead of the window included; 0 in transit.
    pub sent: u64,
    /// Bytes received by this end, overhead of the window included; 0 in transit.
    pub received: u64,
}

/// A link as this router sees it.
#[derive(Clone, Debug, Serialize)]
pub struct LinkInfo {
    /// Neighbour.
    pub peer: RouterId,
    /// 1 and the round trip in milliseconds.
    pub cost: u32,
}
