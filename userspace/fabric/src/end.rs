//! A circuit's end at this router.

use std::time::Instant;

use nightgate_model::id::{IdentityId, RouterId, ServiceId};
use nightgate_wire::link::CircuitId;

use crate::{
    EndId, LinkId, Offer, Role,
    flow::{ReceiveWindow, SendWindow},
};

/// Where frames of a circuit go next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Hop {
    /// To a neighbour.
    Link(LinkId),
    /// To an end at this very router.
    End(EndId),
}

/// How far an end has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EndState {
    /// The other side has until then to answer.
    Waiting(Instant),
    /// Messages flow.
    Open,
}

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) circuit: CircuitId,
    pub(crate) next: Hop,
    pub(crate) role: Role,
    pub(crate) state: EndState,
    pub(crate) service: ServiceId,
    pub(crate) dialer: IdentityId,
    pub(crate) host: IdentityId,
    pub(crate) path: Vec<RouterId>,
    pub(crate) send: SendWindow,
    pub(crate) receive: ReceiveWindow,
}

impl End {
    /// An end that waits for the other side.
    pub(crate) fn waiting(
        (circuit, next): (CircuitId, Hop),
        (role, offer, host): (Role, &Offer, IdentityId),
        path: Vec<RouterId>,
        until: Instant,
    ) -> Self {
        Self {
            circuit,
            next,
            role,
            state: EndState::Waiting(until),
            service: offer.dial.service.clone(),
            dialer: offer.dial.dialer.clone(),
            host,
            path,
            send: SendWindow::default(),
            receive: ReceiveWindow::default(),
        }
    }
}
