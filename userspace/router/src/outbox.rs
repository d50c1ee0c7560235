//! What the actor has for a link, and the link's writer takes.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use nightgate_fabric::LinkQueue;
use nightgate_wire::link::Frame;
use tokio::sync::Notify;

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
    closed: AtomicBool,
}

impl Outbox {
    pub(crate) fn new() -> (Self, Outgoing) {
        let shared = Arc::new(Shared::default());
        (Self(Arc::clone(&shared)), Outgoing(shared))
    }

    pub(crate) fn push(&self, frame: Frame) {
        let mut queue = self.0.lock();
        let was_empty = queue.is_empty();
        queue.push(frame);
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
        self.0.closed.store(true, Ordering::Release);
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
            if self.0.closed.load(Ordering::Acquire) {
                return false;
            }
            filled.await;
        }
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
