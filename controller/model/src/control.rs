//! Messages between a router and its controller, on the control channel (ALPN [`ALPN`]).
//!
//! Each message is one channel frame (`wire::channel`) of content type [`CONTENT_TYPE`] whose body is
//! the JSON of [`RouterMessage`] or [`ControllerMessage`]. The router dials; both ends present certificates.

use serde::{Deserialize, Serialize};

use crate::{
    activity::{Activity, CircuitNote, UsageDelta},
    entity::Terminator,
    id::{IdentityId, RouterId, TerminatorId},
    quarantine::QuarantineRequest,
    replica::{ChangeSet, Digest, LinkReport, Replica},
};

/// Application protocol (RFC 7301) of the control channel on the controller's one TLS port.
pub const ALPN: &[u8] = b"nightgate-ctrl";

/// Channel content type of every control message; outside the ranges that OpenZiti uses.
pub const CONTENT_TYPE: i32 = 70_000;

/// Version of the message set. Both ends refuse another one.
pub const VERSION: u32 = 12;

/// Time between two messages of the controller, if only [`ControllerMessage::Alive`], in seconds.
pub const ALIVE_EVERY: u64 = 15;

/// A controller that is silent for this long, in seconds, is away: three messages are missing.
pub const SILENCE: u64 = 3 * ALIVE_EVERY;

/// From a router to its controller.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RouterMessage {
    /// First message on the channel.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The router's id; must be the one its certificate was enrolled for.
        router: RouterId,
        /// `host:port` where it accepts clients and links; none if it only dials out.
        address: Option<String>,
        /// What is hosted behind it right now: replaces whatever the controller remembers.
        terminators: Vec<Terminator>,
        /// Its links right now.
        links: Vec<LinkReport>,
        /// The replica that it has: it is told what changed since, if the controller still knows.
        holds: Option<Holding>,
    },
    /// What it carries, and what became of dials; replaces the earlier report.
    Activity(Box<Activity>),
    /// What happened to circuits, in that order.
    Circuits {
        /// At most [`crate::activity::MAX_NOTES`].
        notes: Vec<CircuitNote>,
        /// How many were left out before them, because too many waited.
        lost: u64,
    },
    /// What circuits of dialers at this router have carried since it was last told.
    Usage {
        /// At most [`crate::activity::MAX_USAGE`].
        deltas: Vec<UsageDelta>,
    },
    /// Changes did not fit: the whole replica has to be sent.
    WholeWanted,
    /// A service is hosted behind this router; or the terminator of this id, which it told of before, is
    /// another now.
    TerminatorAdded(Terminator),
    /// A service is hosted there no longer.
    TerminatorRemoved {
        /// Which.
        id: TerminatorId,
    },
    /// Asks for a certificate that follows the present one: a signing request (PKCS #10, RFC 2986) in PEM. The
    /// answer is [`ControllerMessage::Certificate`] or [`ControllerMessage::NoCertificate`].
    Renew {
        /// The request.
        request: String,
    },
    /// An alert of an intrusion detection system asks to cut an identity off. The answer is
    /// [`ControllerMessage::QuarantineBegun`], unless it is refused.
    Quarantine(QuarantineRequest),
    /// All links of this router, after one came, went or changed cost.
    Links {
        /// Replaces the earlier report.
        links: Vec<LinkReport>,
    },
}

/// Which replica a router has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Holding {
    /// Its index.
    pub index: u64,
    /// Its digest: controllers that were restored from a backup use an index again.
    pub digest: Digest,
}

/// From the controller to a router.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ControllerMessage {
    /// The hello was refused; the channel closes after this.
    Refused {
        /// Why, for the operator.
        reason: String,
    },
    /// The model as it is now; sent after a hello without a replica that the controller knows, and when wanted.
    Replica(Box<Replica>),
    /// What changed since the replica or the changes that were sent before.
    Changes(Box<ChangeSet>),
    /// The certificate that was asked for. Other routers know it by now, and the present one counts until the new one
    /// has been used on this channel.
    Certificate {
        /// The certificate, then its issuer; PEM.
        certificate: String,
        /// Certificates to trust, PEM.
        ca: String,
    },
    /// No certificate could be issued.
    NoCertificate {
        /// Why.
        reason: String,
    },
    /// The identity that the router asked to cut off is in quarantine.
    QuarantineBegun {
        /// Which.
        identity: IdentityId,
        /// Index of the model from which on that is so, unless somebody has released it.
        index: u64,
    },
    /// Nothing has changed, and the controller is there.
    Alive,
}
