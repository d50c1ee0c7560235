//! A client's connections: each is one end of a circuit.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nightgate_fabric::{EndId, FailureCause};
use nightgate_wire::{
    channel::Message,
    edge::{content, header},
};
use tokio::{sync::mpsc, time::timeout};

use super::client::Client;
use crate::{Circuit, CircuitReceiver, CircuitSender, Payload};

/// Messages of one connection waiting for the circuit's window. When they are as many, the client's
/// channel waits: the edge protocol has no flow control of its own.
const WAITING: usize = 64;

/// Longest time in which what a client sent before it left may still go to the other side.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(30);

/// Connections of one client that may be open at once.
const MAX_CONNECTIONS: usize = 10_000;

/// Connections by the id they have on the client's channel.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<Mutex<HashMap<u32, Connection>>>);

/// One connection.
struct Connection {
    sender: mpsc::Sender<Payload>,
    /// The circuit's end, once it stands.
    end: Option<EndId>,
}

/// A connection id in use, given back when dropped.
pub(super) struct Reservation {
    connections: Connections,
    conn: u32,
    messages: mpsc::Receiver<Payload>,
}

impl Connections {
    /// Reserves an id, so that messages that arrive before the circuit stands are kept; `None` when
    /// the id is taken or the client has too many connections.
    pub(super) fn reserve(&self, conn: u32) -> Option<Reservation> {
        let mut table = self.lock();
        if table.contains_key(&conn) || table.len() >= MAX_CONNECTIONS {
            return None;
        }
        let (sender, messages) = mpsc::channel(WAITING);
        table.insert(conn, Connection { sender, end: None });
        Some(Reservation { connections: self.clone(), conn, messages })
    }

    /// Gives a message to its connection; waits while the circuit's window is full.
    pub(super) async fn deliver(&self, client: &Client, conn: u32, message: Message) {
        let sender = self.lock().get(&conn).map(|known| known.sender.clone());
        let payload = Payload {
            flags: message.headers.u32(header::FLAGS).unwrap_or_default(),
            uuid: message.headers.bytes(header::UUID).cloned().unwrap_or_default(),
            body: message.body,
        };
        match sender {
            // The connection may end while this waits; its client hears of that by itself.
            Some(sender) => drop(sender.send(payload).await),
            None => client.send(state_closed(conn, "no such connection")).await,
        }
    }

    /// Forgets a connection; messages under way to the circuit still arrive. Gives whether it was
    /// known.
    pub(super) fn close(&self, conn: u32) -> bool {
        self.lock().remove(&conn).is_some()
    }

    /// The end of the connection's circuit, if one stands.
    pub(super) fn end(&self, conn: u32) -> Option<EndId> {
        self.lock().get(&conn)?.end
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// The reserved id.
    pub(super) fn conn(&self) -> u32 {
        self.conn
    }

    /// Joins the connection and its circuit until either ends.
    pub(super) fn join(mut self, client: &Client, circuit: Circuit) {
        let client = client.clone();
        if let Some(known) = self.connections.lock().get_mut(&self.conn) {
            known.end = Some(circuit.end());
        }
        client.router.clone().spawn(async move {
            let mut receiver = circuit.receiver;
            let mut sending = pin!(from_client(&mut self.messages, circuit.sender));
            tokio::select! {
                () = &mut sending => {}
                () = to_client(&client, self.conn, &mut receiver) => {}
                () = client.outgoing.closed() => {
                    // The client has left. What it sent before still goes to the other side.
                    self.connections.close(self.conn);
                    drop(timeout(DRAIN_TIME, sending).await);
                    return;
                }
            }
            if self.connections.close(self.conn) {
                client.send(state_closed(self.conn, farewell(&receiver))).await;
            }
        });
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.connections.close(self.conn);
    }
}

async fn from_client(messages: &mut mpsc::Receiver<Payload>, circuit: CircuitSender) {
    while let Some(payload) = messages.recv().await {
        if circuit.send(payload).await.is_err() {
            // The other side has closed; what it sent before is still on its way to the client.
            std::future::pending().await
        }
    }
    circuit.close();
}

async fn to_client(client: &Client, conn: u32, circuit: &mut CircuitReceiver) {
    while let Some(payload) = circuit.recv().await {
        let mut message = Message::new(content::DATA).with_body(payload.body);
        message.headers.put_u32(header::CONN_ID, conn);
        if payload.flags != 0 {
            message.headers.put_u32(header::FLAGS, payload.flags);
        }
        if !payload.uuid.is_empty() {
            message.headers.put(header::UUID, payload.uuid);
        }
        client.send(message).await;
    }
}

/// What the client is told of a circuit's end: nothing when the other side closed it in good order.
fn farewell(circuit: &CircuitReceiver) -> &'static str {
    match circuit.cause() {
        None | Some(FailureCause::ClosedByPeer) => "",
        Some(cause) => cause.as_str(),
    }
}

/// Tells the client that a connection or binding is gone.
pub(super) fn state_closed(conn: u32, reason: &str) -> Message {
    let mut message = Message::new(content::STATE_CLOSED).with_body(reason.to_owned());
    message.headers.put_u32(header::CONN_ID, conn);
    message
}
