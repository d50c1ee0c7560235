//! What routers carry, and what became of dials: told to the controller afterwards, never asked of it.

use serde::{Deserialize, Serialize};

use crate::{
    event::CircuitChange,
    id::{IdentityId, RouterId, ServiceId},
};

/// Most circuits that one router tells of.
pub const MAX_CIRCUITS: usize = 2_000;

/// Most services and outcomes that one router counts; dials of others are not counted.
pub const MAX_OUTCOMES: usize = 4_096;

/// Most events of circuits in one message.
pub const MAX_NOTES: usize = 1_024;

/// Most lines of usage in one message.
pub const MAX_USAGE: usize = 4_096;

/// Time between two reports, in seconds.
pub const REPORT_EVERY: u64 = 5;

/// What one router carries, and what became of the dials at it since it started.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Activity {
    /// Circuits that end here or pass through, at most [`MAX_CIRCUITS`].
    pub circuits: Vec<CircuitReport>,
    /// How many there are.
    pub circuit_count: u64,
    /// What became of dials, at most [`MAX_OUTCOMES`] entries.
    pub dials: Vec<DialOutcomes>,
}

/// A circuit as one router of its path sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitReport {
    /// The same at every router of the path.
    pub id: String,
    /// Which end is here.
    pub role: CircuitRole,
    /// Service; unknown in transit.
    pub service: Option<ServiceId>,
    /// Dialing identity; unknown in transit.
    pub dialer: Option<IdentityId>,
    /// Hosting identity; unknown in transit.
    pub host: Option<IdentityId>,
    /// Routers from dialer to host; in transit, this one between its neighbours.
    pub path: Vec<RouterId>,
    /// Bytes sent by the end that is here.
    pub sent: u64,
    /// Bytes received by it.
    pub received: u64,
}

/// A router's part in a circuit.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CircuitRole {
    /// The dialer is connected here.
    Dialer,
    /// The host is connected here.
    Host,
    /// Only forwards ciphertext.
    Transit,
}

/// Dials of a service that went the same way.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DialOutcomes {
    /// Which service was dialed.
    pub service: ServiceId,
    /// The word of the cause for which they failed; none of those that succeeded.
    pub cause: Option<String>,
    /// How many.
    pub count: u64,
    /// Time until the answer, all together, in milliseconds.
    pub milliseconds: u64,
}

/// What happened to a circuit. The dialer's router tells of it, the first of its path; that it was lost, the host's
/// router tells too.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitNote {
    /// What happened.
    pub change: CircuitChange,
    /// Milliseconds since then: clocks of routers need not be right.
    pub ago: u64,
    /// Id of the circuit; none if it never was one.
    pub circuit: Option<String>,
    /// Service.
    pub service: ServiceId,
    /// Dialing identity.
    pub dialer: IdentityId,
    /// Hosting identity; none if the dial failed.
    pub host: Option<IdentityId>,
    /// Routers from dialer to host.
    pub path: Vec<RouterId>,
    /// The word of the cause for which it failed or ended.
    pub cause: Option<String>,
    /// Bytes sent by the dialer's end.
    pub sent: u64,
    /// Bytes received by it.
    pub received: u64,
    /// How often it has moved.
    pub moves: u32,
    /// Milliseconds that the dial took, or that the circuit stood.
    pub milliseconds: u64,
}

/// What circuits have carried since it was last told.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UsageDelta {
    /// Which service.
    pub service: ServiceId,
    /// Who dialed.
    pub dialer: IdentityId,
    /// Who hosts.
    pub host: IdentityId,
    /// Circuits that were opened.
    pub circuits: u64,
    /// Bytes from dialer to host.
    pub sent: u64,
    /// Bytes from host to dialer.
    pub received: u64,
}
