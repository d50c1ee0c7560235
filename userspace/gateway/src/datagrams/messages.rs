//! Datagrams in a circuit's messages ([`nightgate_router::datagrams`]): as many in one as wait, to a peer that has proven its
//! identity, which is one of our own ends; one in each to others.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use nightgate_e2ee::{MAX_NATIVE_PLAINTEXT, RecordError, SealError};
use nightgate_router::{
    Circuit, CircuitClosed, CircuitReceiver, CircuitSender, FailureCause, Payload,
    datagrams::{Bundle, Datagrams, EMPTY, datagrams},
    flag::{FIN, MULTIPART, MULTIPART_MESSAGE},
};

use crate::protection::{Opener, Protected, Sealer};

/// Bytes of a bundle that make one message; a longer datagram goes alone.
pub(crate) const MESSAGE: usize = MAX_NATIVE_PLAINTEXT;

/// Why datagrams are carried no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    /// The circuit carried something that its peer did not seal.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The circuit is over.
    #[error(transparent)]
    Closed(#[from] CircuitClosed),
}

/// The half that sends.
#[derive(Debug)]
pub(crate) struct Outward {
    circuit: CircuitSender,
    sealer: Sealer,
    /// Whether the peer is one of our own ends.
    is_ours: bool,
    takes_parts: Arc<AtomicBool>,
}

/// The half that receives.
#[derive(Debug)]
pub(crate) struct Inward {
    circuit: CircuitReceiver,
    opener: Opener,
    /// Told to the half that sends.
    takes_parts: Arc<AtomicBool>,
}

/// Datagrams that came in one message.
#[derive(Debug)]
pub(crate) struct Message {
    plaintext: Bytes,
    flags: u32,
}

/// Both halves of a circuit.
pub(crate) fn halves(circuit: Circuit, protection: Protected) -> (Outward, Inward) {
    let Protected { sealer, opener, peer, .. } = protection;
    let Circuit { sender, receiver, .. } = circuit;
    let is_ours = peer.is_some();
    let takes_parts = Arc::new(AtomicBool::new(is_ours));
    let inward = Inward { circuit: receiver, opener, takes_parts: Arc::clone(&takes_parts) };
    (Outward { circuit: sender, sealer, is_ours, takes_parts }, inward)
}

impl Outward {
    /// Sends what the method of encryption begins with.
    pub(crate) async fn begin(&self) -> Result<(), MessageError> {
        match self.sealer.header() {
            Some(header) => self.send_body(header, 0).await,
            None => Ok(()),
        }
    }

    /// Sends datagrams; waits while the circuit takes no more. Gives how many were lost: empty ones, if the peer takes none.
    pub(crate) async fn send(&mut self, bundle: Bundle) -> Result<usize, MessageError> {
        let is_one = bundle.count() == 1;
        let body = bundle.into_body();
        if self.is_ours && !is_one {
            self.seal(body, MULTIPART_MESSAGE).await?;
            return Ok(0);
        }
        let mut lost = 0;
        for datagram in datagrams(body.into(), MULTIPART_MESSAGE) {
            if !datagram.is_empty() {
                self.seal(datagram.to_vec(), 0).await?;
            } else if self.takes_parts.load(Ordering::Relaxed) {
                self.seal(EMPTY.to_vec(), MULTIPART_MESSAGE).await?;
            } else {
                lost += 1;
            }
        }
        Ok(lost)
    }

    /// Tells the peer that nothing more comes.
    pub(crate) async fn end(mut self) -> Result<(), MessageError> {
        self.seal(Vec::new(), FIN).await
    }

    async fn seal(&mut self, mut plaintext: Vec<u8>, flags: u32) -> Result<(), MessageError> {
        let body = self.sealer.seal(&mut plaintext, flags)?;
        self.send_body(body, flags).await
    }

    async fn send_body(&self, body: Bytes, flags: u32) -> Result<(), MessageError> {
        Ok(self.circuit.send(Payload { flags, uuid: Bytes::new(), body }).await?)
    }
}

impl Inward {
    /// The next message; `None` when the circuit is over. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, MessageError> {
        let Some(Payload { flags, body, .. }) = self.circuit.recv().await else { return Ok(None) };
        let plaintext = self.opener.open(body, flags)?;
        if flags & MULTIPART != 0 {
            self.takes_parts.store(true, Ordering::Relaxed);
        }
        Ok(Some(Message { plaintext, flags }))
    }

    /// Why the circuit is over, if not by this end.
    pub(crate) fn cause(&self) -> Option<FailureCause> {
        self.circuit.cause()
    }
}

impl Message {
    /// Whether nothing more comes after it.
    pub(crate) const fn is_last(&self) -> bool {
        self.flags & FIN != 0
    }

    /// The datagrams, in their order.
    pub(crate) fn datagrams(self) -> Datagrams {
        datagrams(self.plaintext, self.flags)
    }
}
