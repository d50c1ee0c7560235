//! Hosting a service behind this router.

use bytes::Bytes;
use nightgate_fabric::{DialRefusal, EndId, FailureCause, KeyShare, Lane, Offer};
use nightgate_model::{
    entity::{Precedence, Terminator},
    id::IdentityId,
};
use tokio::sync::{mpsc, oneshot};

use crate::{Circuit, CircuitClosed, actor::Event, mailbox::Mailbox, terminators::Taken};

/// A hosted service: yields dials until it is dropped or the model no longer allows it.
#[derive(Debug)]
pub struct Binding {
    terminator: Terminator,
    incoming: mpsc::UnboundedReceiver<Incoming>,
    events: Mailbox,
    /// Given back when the router has been told that the binding is over.
    _taken: Taken,
}

/// Somebody dials. Dropping it refuses.
#[derive(Debug)]
pub struct Incoming {
    end: EndId,
    lane: Lane,
    offer: Offer,
    events: Mailbox,
    answered: bool,
}

impl Binding {
    pub(crate) fn new(
        (terminator, taken): (Terminator, Taken),
        incoming: mpsc::UnboundedReceiver<Incoming>,
        events: Mailbox,
    ) -> Self {
        Self { terminator, incoming, events, _taken: taken }
    }

    /// The next dial; `None` when the model no longer allows the hosting or the router stops.
    pub async fn accept(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }

    /// As the other routers see it.
    pub fn terminator(&self) -> &Terminator {
        &self.terminator
    }

    /// Changes what dialers choose this host by, from now on. Circuits go on.
    pub fn update(&mut self, precedence: Precedence, cost: u16) {
        if (self.terminator.precedence, self.terminator.cost) != (precedence, cost) {
            self.terminator = Terminator { precedence, cost, ..self.terminator.clone() };
            self.events.tell(Event::Rebind(self.terminator.clone()));
        }
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        self.events.tell(Event::Unbind(self.terminator.id.clone()));
    }
}

impl Incoming {
    pub(crate) fn new((end, lane): (EndId, Lane), offer: Offer, events: Mailbox) -> Self {
        Self { end, lane, offer, events, answered: false }
    }

    /// What is offered.
    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The dialing identity, as the routers on both sides authorized it.
    pub fn dialer(&self) -> &IdentityId {
        &self.offer.dial.dialer
    }

    /// Where its frames come and go.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// What the dialer calls itself.
    pub fn caller(&self) -> &str {
        &self.offer.dial.caller
    }

    /// The dialer's part of the agreement on keys.
    pub fn key_share(&self) -> &KeyShare {
        &self.offer.dial.key_share
    }

    /// Opaque data from the dialer.
    pub fn app_data(&self) -> &Bytes {
        &self.offer.dial.app_data
    }

    /// Accepts; `share` is the host's part of the agreement on keys.
    ///
    /// # Errors
    /// The dialer has gone in the meantime.
    pub async fn accept(mut self, share: KeyShare) -> Result<Circuit, CircuitClosed> {
        self.answered = true;
        let (reply, circuit) = oneshot::channel();
        let peer = self.offer.dial.key_share.clone();
        let event = Event::Accept { end: self.end, share, peer, reply };
        self.events.send(event).map_err(|_stopped| CircuitClosed)?;
        circuit.await.map_err(|_gone| CircuitClosed)
    }

    /// Refuses, and tells the dialer why.
    pub fn refuse(mut self, cause: FailureCause, detail: &str) {
        self.answer_no(DialRefusal::new(cause, detail));
    }

    fn answer_no(&mut self, refusal: DialRefusal) {
        self.answered = true;
        self.events.tell(Event::Refuse { end: self.end, refusal });
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.answered {
            let detail = "the host did not take the call";
            self.answer_no(DialRefusal::new(FailureCause::HostRefused, detail));
        }
    }
}
