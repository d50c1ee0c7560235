//! What the core asks its shell to do.

use bytes::Bytes;
use nightgate_model::id::{IdentityId, RouterId, ServiceId, TerminatorId};
use nightgate_wire::{
    Headers,
    link::{CircuitId, Frame, Payload},
};

use crate::{DialRefusal, EndId, FailureCause, LinkId};

/// What one end sends the other so that they agree on keys. Routers pass it on unread; all parts are
/// empty without end-to-end encryption.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyShare {
    /// Public key of OpenZiti's key exchange.
    pub public_key: Bytes,
    /// Message of our own handshake.
    pub handshake: Bytes,
    /// Sealed data that goes with the dial; from the host, that it took it. Mostly empty.
    pub early_data: Bytes,
}

/// A wish for a circuit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dial {
    /// To what.
    pub service: ServiceId,
    /// By whom; the shell has authenticated it.
    pub dialer: IdentityId,
    /// Instance among the service's terminators; empty for those that were bound without one.
    pub instance: String,
    /// What the dialer calls itself towards the host.
    pub caller: String,
    /// The dialer's part of the agreement on keys.
    pub key_share: KeyShare,
    /// Opaque data for the host.
    pub app_data: Bytes,
    /// The service session token that proves to other routers who dials; empty where this router does, as itself.
    pub session: Bytes,
}

/// A circuit offered to a hosting endpoint of this router.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offer {
    /// Where it is hosted.
    pub terminator: TerminatorId,
    /// The dialer's wish.
    pub dial: Dial,
    /// The request as it came over a link: the shell has to make sure that it is the dialer's, before anybody
    /// hears of it. None if the shell has authenticated the dialer itself.
    pub request: Option<Headers>,
}

/// What the shell must do, in this order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Write a frame to a link.
    Send(LinkId, Frame),
    /// Close a link: its neighbour is silent or broke the protocol.
    DropLink(LinkId, FailureCause),
    /// Ask the hosting endpoint; answer with [`crate::Router::accept`] or [`crate::Router::refuse`].
    Offer(EndId, CircuitId, Box<Offer>),
    /// The dial succeeded; the host's part of the agreement on keys.
    Opened(EndId, CircuitId, KeyShare),
    /// The dial failed; the end is gone.
    Refused(EndId, DialRefusal),
    /// Give a message to the end's client; report it with [`crate::Router::consumed`].
    Deliver(EndId, Payload),
    /// The end's client may send this many more bytes of bodies.
    Credit(EndId, u64),
    /// The circuit takes another path now: these routers, the dialer's first. Its messages go on.
    Moved(EndId, Vec<RouterId>),
    /// The circuit is over; the end is gone.
    Closed(EndId, FailureCause),
    /// The hosting endpoint may host no longer.
    Unbind(TerminatorId),
    /// The set of links or their cost changed: tell the controller.
    LinksChanged,
}
