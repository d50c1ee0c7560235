//! What there is to say of a running router.

use nightgate_fabric::{CircuitInfo, LinkInfo, MemoryInfo};
use nightgate_model::{entity::Terminator, id::RouterId};
use serde::Serialize;

use crate::outbox::Load;

/// What a router does right now.
#[derive(Clone, Debug, Serialize)]
pub struct RouterStatus {
    /// Its id.
    pub id: RouterId,
    /// Position of its replica in the controller's history of changes; 0 before the first.
    pub replica_index: u64,
    /// Its links.
    pub links: Vec<LinkStatus>,
    /// Circuits that end here or pass through.
    pub circuits: Vec<CircuitInfo>,
    /// What is hosted behind it.
    pub terminators: Vec<Terminator>,
    /// What it keeps for circuits.
    pub memory: MemoryInfo,
}

/// One connection of a link.
#[derive(Clone, Debug, Serialize)]
pub struct LinkStatus {
    /// Whose, and how far away.
    #[serde(flatten)]
    pub info: LinkInfo,
    /// Bytes that wait to be written to it.
    pub queued: usize,
    /// Frames that it lost since it stands, because too many waited.
    pub dropped: u64,
    /// Bytes of frames sent.
    pub sent: u64,
    /// Bytes of frames received.
    pub received: u64,
    /// TCP's segments sent, as of the last look, every [`crate::LOOK_EVERY`].
    pub segments: u64,
    /// Those of them that were sent again: what the way to the neighbour has lost, or has delayed for too long. A queue
    /// at this end counts for nothing here.
    pub repeated: u64,
}

impl LinkStatus {
    pub(crate) fn new(info: LinkInfo, load: Option<Load>) -> Self {
        let Load { queued, dropped, sent, received, segments, repeated } = load.unwrap_or_default();
        Self { info, queued, dropped, sent, received, segments, repeated }
    }
}
