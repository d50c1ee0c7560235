//! A dial that waits for its host's answer.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use nightgate_e2ee::{Protection, Share};
use nightgate_wire::{
    FailureCause,
    edge::{content, header},
};

use crate::{
    edge::{Closed, Port, PortKind},
    listen::Caller,
    stream::Stream,
};

/// Somebody dials, and waits up to ten seconds for the answer. Dropping it refuses.
pub struct Offer {
    caller: Caller,
    waiting: Option<Waiting>,
}

/// The dialer has gone, or the way to it is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the host lost its router")]
pub struct OfferLost;

/// What the answer needs.
pub(crate) struct Waiting {
    /// The binding that was dialed.
    pub(crate) port: Arc<Port>,
    /// Sequence of the dial.
    pub(crate) sequence: i32,
    /// Connection id that its router chose for the circuit.
    pub(crate) id: u32,
    /// This end's part of the agreement on keys.
    pub(crate) share: Share,
    /// What comes of it; none if the service is not encrypted.
    pub(crate) protection: Option<Protection>,
}

impl Offer {
    pub(crate) fn new(caller: Caller, waiting: Waiting) -> Self {
        Self { caller, waiting: Some(waiting) }
    }

    /// Who dials.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Takes the circuit.
    ///
    /// # Errors
    /// The connection to the router is lost. That the dialer has gone shows in the stream, which ends.
    pub async fn accept(mut self) -> Result<Stream, OfferLost> {
        match self.waiting.take() {
            Some(waiting) => waiting.accept().await.map_err(|Closed| OfferLost),
            None => Err(OfferLost),
        }
    }

    /// Refuses, and tells the dialer why. Of causes, it learns those that a host can know: `HostRefused`,
    /// `ConnectionRefused`, `HostUnreachable`, `ConnectTimeout`, `Capacity` and `Encryption`.
    pub fn refuse(mut self, cause: FailureCause, reason: &str) {
        if let Some(waiting) = self.waiting.take() {
            // Without the channel there is nobody left to tell.
            let _unneeded = waiting.refuse(&format!("{cause}: {reason}"));
        }
    }
}

impl Waiting {
    async fn accept(self) -> Result<Stream, Closed> {
        let Self { port, sequence, id, share, protection } = self;
        let (circuit, events) = port.channel().open_port_as(id, PortKind::Circuit)?;
        let mut answer = port.message(content::DIAL_SUCCESS).in_reply_to(sequence);
        answer.body = Bytes::copy_from_slice(&id.to_le_bytes());
        for (key, part) in
            [(header::PUBLIC_KEY, share.public_key), (header::HANDSHAKE, share.handshake)]
        {
            if !part.is_empty() {
                answer.headers.put(key, part);
            }
        }
        if protection.as_ref().is_some_and(|it| it.early_data.is_some()) {
            answer.headers.put(header::EARLY_DATA, vec![1]);
        }
        port.send(answer).await?;
        Stream::start(circuit, events, protection)
    }

    fn refuse(self, reason: &str) -> Result<(), Closed> {
        let answer = self.port.message(content::DIAL_FAILED).in_reply_to(self.sequence);
        self.port.send_weightless(answer.with_body(reason.to_owned()))
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            let _unneeded = waiting.refuse("host-refused: the host did not take the call");
        }
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").field("caller", &self.caller).finish_non_exhaustive()
    }
}
