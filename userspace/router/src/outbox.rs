//! What the actor has for a link, and the link's writer takes.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
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
    traffic: Arc<Traffic>,
}

/// Bytes of frames that a connection has carried, and TCP's segments for it.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) segments: AtomicU64,
    pub(crate) repeated: AtomicU64,
}

/// What a connection has carried, and what waits for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// Bytes that wait.
    pub(crate) queued: usize,
    /// Frames that were dropped for want of room.
    pub(crate) dropped: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// TCP's segments, and those of them that were sent again.
    pub(crate) segments: u64,
    pub(crate) repeated: u64,
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

    /// What there is to say of the connection.
    pub(crate) fn load(&self) -> Load {
        let traffic = &self.0.traffic;
        let queue = self.0.lock();
        Load {
            queued: queue.bytes(),
            dropped: queue.dropped(),
            sent: traffic.sent.load(Ordering::Relaxed),
            received: traffic.received.load(Ordering::Relaxed),
            segments: traffic.segments.load(Ordering::Relaxed),
            repeated: traffic.repeated.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.0.closed.cancel();
        self.0.filled.notify_one();
    }
}

impl Outgoing {
    /// Where to count what the connection carries.
    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.0.traffic)
    }

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
        let load = outbox.load();
        assert_eq!((load.queued, load.dropped), (0, 0));
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
