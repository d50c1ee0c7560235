//! A circuit as its local client sees it.

use std::sync::{Arc, OnceLock};

use nightgate_fabric::{EndId, FailureCause, INITIAL_WINDOW, KeyShare, weight};
use nightgate_model::id::TerminatorId;
use nightgate_wire::link::{CircuitId, Payload};
use tokio::sync::{Semaphore, mpsc};

use crate::{actor::Event, mailbox::Mailbox};

/// The circuit is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the circuit is closed")]
pub struct CircuitClosed;

/// An open circuit. It ends when both halves are dropped, or the sender is closed.
#[derive(Debug)]
pub struct Circuit {
    /// The same at every router of the path.
    pub id: CircuitId,
    /// The other end's part of the agreement on keys.
    pub peer: KeyShare,
    /// At the dialer of a sticky service, the terminator that it has reached ([`DialRequest::sticky`]).
    ///
    /// [`DialRequest::sticky`]: crate::DialRequest::sticky
    pub sticky: Option<TerminatorId>,
    /// Sends messages.
    pub sender: CircuitSender,
    /// Receives messages.
    pub receiver: CircuitReceiver,
}

/// The sending half.
#[derive(Debug)]
pub struct CircuitSender {
    credit: Arc<Semaphore>,
    owner: Arc<Owner>,
}

/// The receiving half.
#[derive(Debug)]
pub struct CircuitReceiver {
    messages: mpsc::UnboundedReceiver<Payload>,
    cause: Arc<OnceLock<FailureCause>>,
    owner: Arc<Owner>,
}

/// Closes the circuit when the last half goes.
#[derive(Debug)]
struct Owner {
    end: EndId,
    events: Mailbox,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.events.tell(Event::Close(self.end));
    }
}

/// What the actor keeps of a circuit: the other side of both halves.
#[derive(Debug)]
pub(crate) struct EndIo {
    messages: mpsc::UnboundedSender<Payload>,
    credit: Arc<Semaphore>,
    cause: Arc<OnceLock<FailureCause>>,
}

impl Circuit {
    /// Which end of it is here.
    pub(crate) fn end(&self) -> EndId {
        self.sender.owner.end
    }

    pub(crate) fn new(
        (end, id): (EndId, CircuitId),
        peer: KeyShare,
        events: Mailbox,
    ) -> (Self, EndIo) {
        // Unbounded, but never longer than the window that flow control grants the other side.
        let (writer, messages) = mpsc::unbounded_channel();
        let credit =
            Arc::new(Semaphore::new(usize::try_from(INITIAL_WINDOW).unwrap_or(usize::MAX)));
        let owner = Arc::new(Owner { end, events });
        let sender = CircuitSender { credit: Arc::clone(&credit), owner: Arc::clone(&owner) };
        let cause = Arc::default();
        let receiver = CircuitReceiver { messages, cause: Arc::clone(&cause), owner };
        (
            Self { id, peer, sticky: None, sender, receiver },
            EndIo { messages: writer, credit, cause },
        )
    }
}

impl CircuitSender {
    /// Sends a message; waits while the window is full. A cancelled call has sent nothing.
    ///
    /// # Errors
    /// The circuit is over.
    pub async fn send(&self, payload: Payload) -> Result<(), CircuitClosed> {
        let weight = u32::try_from(weight(&payload)).unwrap_or(u32::MAX);
        let credit = self.credit.acquire_many(weight).await.map_err(|_closed| CircuitClosed)?;
        credit.forget();
        let event = Event::Send { end: self.owner.end, payload };
        self.owner.events.send(event).map_err(|_stopped| CircuitClosed)
    }

    /// Ends the circuit; messages sent before still arrive.
    pub fn close(self) {
        self.owner.events.tell(Event::Close(self.owner.end));
    }
}

impl CircuitReceiver {
    /// The next message; `None` when the circuit is over. Taking a message allows the other end to
    /// send as much again, so take one only when there is room for it.
    pub async fn recv(&mut self) -> Option<Payload> {
        let payload = self.messages.recv().await?;
        let event = Event::Consumed { end: self.owner.end, weight: weight(&payload) };
        self.owner.events.tell(event);
        Some(payload)
    }

    /// Why the circuit ended, after [`Self::recv`] gave `None`; `None` when this side closed it.
    pub fn cause(&self) -> Option<FailureCause> {
        self.cause.get().copied()
    }
}

impl EndIo {
    pub(crate) fn deliver(&self, payload: Payload) {
        // A receiver that was dropped wants nothing more; its circuit is about to close.
        drop(self.messages.send(payload));
    }

    pub(crate) fn credit(&self, bytes: u64) {
        self.credit.add_permits(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    /// Ends the circuit for its client, after the messages already delivered.
    pub(crate) fn close(self, cause: FailureCause) {
        // Set before the halves see the end; an end happens once.
        self.cause.get_or_init(|| cause);
    }
}

impl Drop for EndIo {
    fn drop(&mut self) {
        self.credit.close();
    }
}
