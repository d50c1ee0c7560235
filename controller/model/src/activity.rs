//! What routers carry, and what became of dials: told to the controller afterwards, never asked of it.

use serde::{Deserialize, Serialize};

use crate::id::{IdentityId, RouterId, ServiceId};

/// Most circuits that one router tells of.
pub const MAX_CIRCUITS: usize = 2_000;

/// Most services and outcomes that one router counts; dials of others are not counted.
pub const MAX_OUTCOMES: usize = 4_096;

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
