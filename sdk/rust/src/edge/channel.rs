//! What circuits see of a channel: ports to receive on, requests and messages to send.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use nightgate_wire::{
    channel::Message,
    edge::{ROUTER_CONN_IDS, content, header},
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::queue::{Closed, PollSender, Receiver, Sender, queue};

/// Bytes that may wait to be written to one router, of all circuits together. Writers wait beyond.
pub(super) const OUTGOING: u32 = 1024 * 1024;

/// Bytes that may wait to be read on one port.
const INCOMING: u32 = 4 * 1024 * 1024;

/// What an entry weighs in a queue beside its body: more than its bookkeeping takes in memory.
const OVERHEAD: u32 = 256;

/// Unanswered requests beyond which those that nobody waits for any more are forgotten.
const MANY_REQUESTS: usize = 256;

/// An open channel to an edge router. Clones share it; it closes when the last one is gone.
#[derive(Clone)]
pub(crate) struct Channel {
    pub(super) outgoing: Sender<Outgoing>,
    pub(super) shared: Arc<Shared>,
}

/// What a channel's handles and its driver share.
pub(super) struct Shared {
    /// `host:port` of the router.
    pub(super) router: String,
    /// Time the hello took.
    pub(super) latency: Duration,
    pub(super) closed: CancellationToken,
    requests: Mutex<HashMap<i32, oneshot::Sender<Message>>>,
    ports: Mutex<Ports>,
}

#[derive(Default)]
struct Ports {
    last: u32,
    open: HashMap<u32, PortEntry>,
}

#[derive(Clone)]
pub(super) struct PortEntry {
    pub(super) queue: Sender<Event>,
    pub(super) kind: PortKind,
    gone: Arc<AtomicBool>,
}

/// A message on its way out.
pub(super) struct Outgoing {
    pub(super) message: Message,
    pub(super) awaited: Awaited,
}

/// What the sender of a message waits for.
pub(super) enum Awaited {
    Nothing,
    /// That the system has taken the message.
    Written(oneshot::Sender<()>),
    /// The router's answer.
    Answer(oneshot::Sender<Message>),
}

/// What a port is for. The values are those of the ConnType header (1022).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PortKind {
    /// One circuit.
    Circuit = 1,
    /// A hosted service.
    Binding = 2,
}

/// What arrives on a port.
#[derive(Debug)]
pub(crate) enum Event {
    /// A Data message.
    Data {
        /// Header 1010.
        flags: u32,
        /// Payload.
        body: Bytes,
    },
    /// Somebody dials the hosted service.
    Dial(Message),
    /// The other side closed; nothing follows.
    Closed {
        /// Why; empty for an ordinary close.
        reason: String,
    },
}

/// A connection id on a channel, and the way to send on it. Tells the router when dropped.
pub(crate) struct Port {
    channel: Channel,
    id: u32,
    farewell: i32,
    gone: Arc<AtomicBool>,
}

impl Channel {
    pub(super) fn new(router: String, latency: Duration) -> (Self, Receiver<Outgoing>) {
        let (outgoing, to_write) = queue(OUTGOING);
        let shared = Shared {
            router,
            latency,
            closed: CancellationToken::new(),
            requests: Mutex::default(),
            ports: Mutex::default(),
        };
        (Self { outgoing, shared: Arc::new(shared) }, to_write)
    }

    /// `host:port` of the router.
    pub(crate) fn router(&self) -> &str {
        &self.shared.router
    }

    /// Time the router took to answer the hello.
    pub(crate) fn latency(&self) -> Duration {
        self.shared.latency
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.shared.closed.is_cancelled()
    }

    /// Waits until the channel is lost.
    pub(crate) async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }

    /// Opens a port under an id of our own choice.
    pub(crate) fn open_port(&self, kind: PortKind) -> Result<(Port, Receiver<Event>), Closed> {
        let id = {
            let mut ports = self.shared.ports();
            let mut id = ports.last;
            loop {
                id = if id + 1 < ROUTER_CONN_IDS { id + 1 } else { 1 };
                if !ports.open.contains_key(&id) {
                    break;
                }
            }
            ports.last = id;
            id
        };
        self.open_port_as(id, kind)
    }

    /// Opens a port under an id that the router chose.
    pub(crate) fn open_port_as(
        &self,
        id: u32,
        kind: PortKind,
    ) -> Result<(Port, Receiver<Event>), Closed> {
        let (queue, events) = queue(INCOMING);
        let gone = Arc::new(AtomicBool::new(false));
        let entry = PortEntry { queue, kind, gone: Arc::clone(&gone) };
        if let Some(replaced) = self.shared.ports().open.insert(id, entry) {
            replaced.gone.store(true, Ordering::Release);
        }
        let farewell = match kind {
            PortKind::Circuit => content::STATE_CLOSED,
            PortKind::Binding => content::UNBIND,
        };
        let port = Port { channel: self.clone(), id, farewell, gone };
        // After the insertion: a driver that ends from here on closes the port itself.
        if self.is_open() { Ok((port, events)) } else { Err(Closed) }
    }

    async fn request(&self, message: Message) -> Result<Message, Closed> {
        let (answer, answered) = oneshot::channel();
        let weight = weight(&message.body);
        self.outgoing.send(Outgoing { message, awaited: Awaited::Answer(answer) }, weight).await?;
        answered.await.map_err(|_dropped| Closed)
    }
}

impl Shared {
    pub(super) fn port(&self, id: u32) -> Option<PortEntry> {
        self.ports().open.get(&id).cloned()
    }

    /// Remembers who waits for the answer to the request of this sequence.
    pub(super) fn expect_answer(&self, sequence: i32, answer: oneshot::Sender<Message>) {
        let mut requests = self.requests();
        if requests.len() >= MANY_REQUESTS {
            requests.retain(|_, waiting| !waiting.is_closed());
        }
        requests.insert(sequence, answer);
    }

    /// Whoever waits for the answer to the request of this sequence.
    pub(super) fn answered(&self, sequence: i32) -> Option<oneshot::Sender<Message>> {
        self.requests().remove(&sequence)
    }

    /// Forgets a port because the router or the driver ended it.
    pub(super) fn end_port(&self, id: u32, reason: String) {
        let mut ports = self.ports();
        if let Some(entry) = ports.open.remove(&id) {
            entry.gone.store(true, Ordering::Release);
            // A receiver that is gone already needs no notice.
            let _unneeded = entry.queue.send_weightless(Event::Closed { reason });
        }
    }

    /// Marks the channel closed and lets everybody who waits on it know.
    pub(super) fn close(&self) {
        self.closed.cancel();
        for (_, entry) in self.ports().open.drain() {
            entry.gone.store(true, Ordering::Release);
        }
        self.requests().clear();
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<i32, oneshot::Sender<Message>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    /// `host:port` of the router.
    pub(crate) fn router(&self) -> &str {
        self.channel.router()
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// A message of this type on this port.
    pub(crate) fn message(&self, content_type: i32) -> Message {
        let mut message = Message::new(content_type);
        message.headers.put_u32(header::CONN_ID, self.id);
        message
    }

    /// Sends and waits for the answer.
    pub(crate) async fn request(&self, message: Message) -> Result<Message, Closed> {
        self.channel.request(message).await
    }

    /// Sends, waiting for room.
    pub(crate) async fn send(&self, message: Message) -> Result<(), Closed> {
        let weight = weight(&message.body);
        self.channel.outgoing.send(Outgoing { message, awaited: Awaited::Nothing }, weight).await
    }

    /// Sends without waiting; for the few messages that end something.
    pub(crate) fn send_weightless(&self, message: Message) -> Result<(), Closed> {
        self.channel.outgoing.send_weightless(Outgoing { message, awaited: Awaited::Nothing })
    }

    /// Sends without waiting for room. The receiver hears when the system has taken the message,
    /// or that it never will.
    pub(crate) fn send_last(&self, message: Message) -> oneshot::Receiver<()> {
        let (written, taken) = oneshot::channel();
        let last = Outgoing { message, awaited: Awaited::Written(written) };
        // On a lost channel the receiver hears just that.
        let _unneeded = self.channel.outgoing.send_weightless(last);
        taken
    }

    /// The way to send payload from a poll function.
    pub(crate) fn payload_sender(&self) -> PayloadSender {
        PayloadSender(self.channel.outgoing.polling())
    }

    /// Whether the router or the channel has ended the port.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// The router ended or never opened it, so it needs no notice.
    pub(crate) fn mark_gone(&self) {
        let mut ports = self.channel.shared.ports();
        if !self.gone.swap(true, Ordering::AcqRel) {
            ports.open.remove(&self.id);
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        {
            // A port that is gone has no entry any more; its id may be somebody else's by now.
            let mut ports = self.channel.shared.ports();
            if self.is_gone() {
                return;
            }
            ports.open.remove(&self.id);
        }
        // A closed channel needs no notice.
        let _unneeded = self.send_weightless(self.message(self.farewell));
    }
}

/// Sends payload from a poll function.
pub(crate) struct PayloadSender(PollSender<Outgoing>);

impl PayloadSender {
    /// Waits for room for a body of `length` bytes. Ask for the same length until it is ready.
    pub(crate) fn poll_room(
        &mut self,
        context: &mut std::task::Context<'_>,
        length: usize,
    ) -> std::task::Poll<Result<super::queue::Room, Closed>> {
        self.0.poll_room(context, weight_of(length))
    }

    /// Sends into room that was waited for.
    pub(crate) fn send(&self, message: Message, room: super::queue::Room) -> Result<(), Closed> {
        self.0.send(Outgoing { message, awaited: Awaited::Nothing }, room)
    }
}

/// What a message with this body weighs in a queue.
pub(super) fn weight(body: &[u8]) -> u32 {
    weight_of(body.len())
}

fn weight_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX).saturating_add(OVERHEAD)
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("router", &self.router()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("router", &self.router())
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
