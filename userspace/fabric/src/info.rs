//! What a router tells people about itself.

use std::time::Duration;

pub use nightgate_model::activity::CircuitRole as Role;
use nightgate_model::{
    entity::Terminator,
    id::{IdentityId, RouterId, ServiceId},
};
use nightgate_wire::link::CircuitId;
use serde::Serialize;

use crate::{
    LinkId, Router,
    end::{End, EndState, Hop},
    link::Link,
};

/// Bytes of messages that one router keeps at most for the ends of circuits.
pub(crate) const BUDGET: u64 = 1024 * 1024 * 1024;

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
    /// Which connection.
    #[serde(skip)]
    pub link: LinkId,
    /// Neighbour.
    pub peer: RouterId,
    /// Shortest of the latest round trips, in microseconds; none before the first.
    pub round_trip_us: Option<u64>,
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

impl Router {
    /// What is hosted behind this router.
    pub fn terminators(&self) -> Vec<Terminator> {
        self.hosted.values().cloned().collect()
    }

    /// Links for people.
    pub fn links(&self) -> Vec<LinkInfo> {
        let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let info = |(id, link): (&LinkId, &Link)| LinkInfo {
            link: *id,
            peer: link.peer.clone(),
            round_trip_us: link.round_trip().map(microseconds),
            cost: link.cost,
        };
        self.links.iter().map(info).collect()
    }

    /// Circuits for people: those that end here and those that pass through.
    pub fn circuits(&self) -> Vec<CircuitInfo> {
        let stands = |end: &&End| !matches!(end.state, EndState::Waiting(_));
        let ends = self.ends.values().filter(stands).map(End::info);
        // A transit path has a route from each side; the one from the smaller link stands for both.
        let transit = self.routes.iter().filter_map(|((from, _), route)| match route.hop {
            Hop::Link(to) if *from < to => Some(self.transit_info(route.circuit, *from, to)),
            Hop::Link(_) | Hop::End(_) => None,
        });
        ends.chain(transit).collect()
    }

    fn transit_info(&self, circuit: CircuitId, from: LinkId, to: LinkId) -> CircuitInfo {
        let peer = |link| self.links.get(&link).map(|link| link.peer.clone());
        CircuitInfo {
            id: circuit.to_string(),
            role: Role::Transit,
            service: None,
            dialer: None,
            host: None,
            path: [peer(from), Some(self.id.clone()), peer(to)].into_iter().flatten().collect(),
            sent: 0,
            received: 0,
            window: 0,
            moves: 0,
        }
    }

    /// What this router keeps.
    pub fn memory(&self) -> MemoryInfo {
        let (ends, routes) = (self.ends.len(), self.routes.len());
        MemoryInfo { ends, routes, bytes: self.bytes, budget: BUDGET }
    }
}
