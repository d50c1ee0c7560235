//! What a router tells people about itself.

pub use nightgate_model::activity::CircuitRole as Role;
use nightgate_model::id::{IdentityId, RouterId, ServiceId};
use serde::Serialize;

/// A circuit as this router sees it.
#[derive(Clone, Debug, Serialize)]
pub struct CircuitInfo {
    /// Sixteen hexadecimal digits, the same at every router of its paths.
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
    /// Bytes that may be under way to this end; 0 in transit.
    pub window: u64,
    /// How often it has changed its path, as far as this end knows; 0 in transit.
    pub moves: u32,
}

/// A link as this router sees it.
#[derive(Clone, Debug, Serialize)]
pub struct LinkInfo {
    /// Neighbour.
    pub peer: RouterId,
    /// 1 and the round trip in milliseconds.
    pub cost: u32,
}

/// What a router keeps for circuits.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct MemoryInfo {
    /// Ends of circuits.
    pub ends: usize,
    /// Paths that pass through, each counted once in each direction, and those that end here.
    pub routes: usize,
    /// Bytes of messages that have not arrived, or that a client has not taken yet.
    pub bytes: u64,
    /// Beyond that many bytes, the circuit that keeps most is ended.
    pub budget: u64,
}
