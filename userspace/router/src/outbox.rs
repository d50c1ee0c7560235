//! What the actor has for a link, and the link's writer takes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nightgate_fabric::LinkQueue;
use nightgate_wire::link::Frame;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Time for what waits when a link ends. A neighbour that does not read then gets no more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The actor's side; dropping it ends the link.
#[derive(Debug)]
pub(crate) struct Outbox(Arc<Shared>);

/// The writer's side.
#[derive(Debug)]
pub(crate) struct Outgoing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<LinkQueue>,
    filled: Notify,
    closed: CancellationToken,
}

impl Outbox {
    pub(crate) fn new() -> (Self, Outgoing) {
        let shared = Arc::new(Shared::default());
        (Self(Arc::clone(&shared)), Outgoing(shared))
    }

    pub(crate) fn push(&self, frame: Frame) {
        // After that, the link is about to end.
        if self.0.closed.is_cancelled() {
            return;
        }
        let mut queue = self.0.lock();
        let was_empty = queue.is_empty();
        queue.push(frame);
        if queue.is_overrun() {
            *queue = LinkQueue::default();
            self.0.closed.cancel();
        }
        drop(queue);
        if was_empty {
            self.0.filled.notify_one();
        }
    }

    /// Bytes that wait, and frames that were dropped for want of room.
    pub(crate) fn load(&self) -> (usize, u64) {
        let queue = self.0.lock();
        (queue.bytes(), queue.dropped())
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.0.closed.cancel();
        self.0.filled.notify_one();
    }
}

impl Outgoing {
    /// Moves the next frames into `batch`, until they are so many bytes; waits for the first. `false` when
    /// there will be no more.
    pub(crate) async fn take(&self, batch: &mut Vec<Frame>, bytes: usize) -> bool {
        loop {
            let filled = self.0.filled.notified();
            if self.0.take(batch, bytes) {
                return true;
            }
            if self.0.closed.is_cancelled() {
                return false;
            }
            filled.await;
        }
    }

    /// Ends when the link should have.
    pub(crate) async fn overdue(&self) {
        self.0.closed.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    }
}

impl Shared {
    fn take(&self, batch: &mut Vec<Frame>, bytes: usize) -> bool {
        let mut queue = self.lock();
        let mut taken = 0;
        while taken < bytes
            && let Some(frame) = queue.pop()
        {
            taken += frame.encoded_len();
            batch.push(frame);
        }
        taken > 0
    }

    fn lock(&self) -> MutexGuard<'_, LinkQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use nightgate_wire::{Headers, link::PathId};

    use super::*;

    #[tokio::test]
    async fn a_link_whose_neighbour_does_not_read_ends_by_itself() {
        let (outbox, outgoing) = Outbox::new();
        for path in 0..300_000 {
            outbox.push(Frame::Unroute(PathId(path), Headers::new()));
        }
        assert_eq!(outbox.load(), (0, 0));
        assert!(!outgoing.take(&mut Vec::new(), 1).await);
        outgoing.overdue().await;
    }

    #[tokio::test]
    async fn what_waits_when_a_link_ends_is_written_if_the_neighbour_reads() {
        let (outbox, outgoing) = Outbox::new();
        outbox.push(Frame::Close(PathId(1)));
        drop(outbox);
        let mut batch = Vec::new();
        assert!(outgoing.take(&mut batch, 1).await && !outgoing.take(&mut batch, 1).await);
        assert_eq!(batch, [Frame::Close(PathId(1))]);
        outgoing.overdue().await;
    }
}
