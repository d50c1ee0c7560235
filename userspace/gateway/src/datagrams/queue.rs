//! Datagrams of a flow that wait: for its dial, or for room in its circuit.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use nightgate_router::datagrams::Bundle;
use tokio::sync::Notify;

use super::messages::MESSAGE;

/// Bytes of one flow that wait, with what their bundles add; more are lost.
const FLOW_BYTES: usize = 4 << 20;

/// Bytes of all flows that wait.
const ALL_BYTES: usize = 64 << 20;

/// What datagrams of all flows take.
#[derive(Debug, Default)]
pub(super) struct Room(AtomicUsize);

/// The end that fills a queue.
#[derive(Debug)]
pub(super) struct Queue(Arc<Shared>);

/// The end that empties it.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Shared>);

/// A bundle that has left its queue, and still takes its room.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) bundle: Bundle,
    _held: Held,
}

#[derive(Debug)]
struct Held {
    room: Arc<Room>,
    bytes: usize,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Bundles>,
    filled: Notify,
    is_closed: AtomicBool,
    room: Arc<Room>,
}

#[derive(Debug, Default)]
struct Bundles {
    bundles: VecDeque<Bundle>,
    bytes: usize,
}

impl Queue {
    /// An empty one.
    pub(super) fn new(room: &Arc<Room>) -> (Self, Waiting) {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            filled: Notify::new(),
            is_closed: AtomicBool::new(false),
            room: Arc::clone(room),
        });
        (Self(Arc::clone(&shared)), Waiting(shared))
    }

    /// Whether nobody empties it any more.
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Acquire)
    }

    /// Puts datagrams in. Gives how many found no room.
    pub(super) fn push<'a>(&self, datagrams: impl Iterator<Item = &'a [u8]>) -> usize {
        let mut waiting = self.0.lock();
        let was_empty = waiting.bundles.is_empty();
        let mut lost = 0;
        for datagram in datagrams {
            if !waiting.push(datagram, &self.0.room) {
                lost += 1;
            }
        }
        let wakes = was_empty && !waiting.bundles.is_empty();
        drop(waiting);
        if wakes {
            self.0.filled.notify_one();
        }
        lost
    }
}

impl Waiting {
    /// Waits for what comes next. Cancel safe.
    pub(super) async fn take(&self) -> Taken {
        loop {
            let filled = self.0.filled.notified();
            if let Some(taken) = self.0.take() {
                return taken;
            }
            filled.await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Release);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.room.give(self.lock().bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.give(self.bytes);
    }
}

impl Shared {
    fn take(&self) -> Option<Taken> {
        let mut waiting = self.lock();
        let bundle = waiting.bundles.pop_front()?;
        waiting.bytes -= bundle.size();
        let held = Held { room: Arc::clone(&self.room), bytes: bundle.size() };
        Some(Taken { bundle, _held: held })
    }

    fn lock(&self) -> MutexGuard<'_, Bundles> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    fn take(&self, bytes: usize) -> bool {
        let taken = self.0.fetch_add(bytes, Ordering::Relaxed) + bytes <= ALL_BYTES;
        if !taken {
            self.give(bytes);
        }
        taken
    }

    fn give(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Bundles {
    /// Puts a datagram in, if there is room.
    fn push(&mut self, datagram: &[u8], room: &Room) -> bool {
        let bytes = Bundle::size_of(datagram);
        if self.bytes + bytes > FLOW_BYTES || !room.take(bytes) {
            return false;
        }
        self.bytes += bytes;
        match self.bundles.back_mut().filter(|last| last.size() + bytes <= MESSAGE) {
            Some(last) => last.push(datagram),
            None => self.bundles.push_back(Bundle::from(datagram)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use nightgate_router::{datagrams::datagrams, flag};

    use super::*;

    #[tokio::test]
    async fn datagrams_that_wait_leave_together_and_in_their_order() {
        let (queue, waiting) = Queue::new(&Arc::default());
        let long = vec![7; MESSAGE - 10];
        assert_eq!(queue.push([&b"a"[..], b"", b"bc", &long].into_iter()), 0);
        assert_eq!(queue.push([&b"d"[..]].into_iter()), 0);
        let first = waiting.take().await;
        assert_eq!(parts(first), [&b"a"[..], b"", b"bc"]);
        let second = waiting.take().await;
        assert_eq!(parts(second), [&long[..], b"d"]);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_for_a_flow_and_for_all() {
        let room = Arc::<Room>::default();
        let datagram = [7; 60_000];
        let many = || std::iter::repeat_n(&datagram[..], 100);
        let queues: Vec<_> = (0..20).map(|_| Queue::new(&room)).collect();
        let kept = |lost: usize| (100 - lost) * Bundle::size_of(&datagram);
        let kept: Vec<_> = queues.iter().map(|(queue, _)| kept(queue.push(many()))).collect();
        assert!(kept[0] <= FLOW_BYTES && kept[0] > FLOW_BYTES - 70_000);
        assert!(kept.iter().sum::<usize>() <= ALL_BYTES);
        assert!(kept.iter().sum::<usize>() > ALL_BYTES - 70_000);
        drop(queues[0].1.take().await);
        assert_eq!(queues[0].0.push(many()), 99, "room for one");
        drop(queues);
        assert_eq!(room.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_queue_is_closed_when_its_flow_is() {
        let (queue, waiting) = Queue::new(&Arc::default());
        assert!(!queue.is_closed());
        drop(waiting);
        assert!(queue.is_closed());
    }

    fn parts(taken: Taken) -> Vec<Vec<u8>> {
        let body = taken.bundle.into_body().into();
        datagrams(body, flag::MULTIPART_MESSAGE).map(Vec::from).collect()
    }
}
