//! A queue bounded by what its entries weigh, not by their number.
//!
//! Senders wait in the order they came while the queue is full. Entries that must never wait, such
//! as the notice that a connection is closed, weigh nothing; each user sends a bounded number of
//! those.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};
use tokio_util::sync::PollSemaphore;

/// Makes a queue that holds entries of `capacity` weight in all.
pub(crate) fn queue<T>(capacity: u32) -> (Sender<T>, Receiver<T>) {
    let room = Arc::new(Semaphore::new(capacity as usize));
    let (entries, received) = mpsc::unbounded_channel();
    let sender = Sender { room: Arc::clone(&room), entries, capacity };
    (sender, Receiver { room, entries: received })
}

/// The other end of the queue is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Closed;

/// Why an entry was not taken at once. The entry comes back when it would only have to wait.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum TrySendError<T> {
    Full(T),
    Closed,
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    room: Arc<Semaphore>,
    entries: mpsc::UnboundedSender<Entry<T>>,
    capacity: u32,
}

/// The receiving end. Closes the queue when dropped.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    room: Arc<Semaphore>,
    entries: mpsc::UnboundedReceiver<Entry<T>>,
}

/// A sending end for poll functions; remembers its place among the waiting senders.
pub(crate) struct PollSender<T> {
    room: PollSemaphore,
    sender: Sender<T>,
}

/// Room taken in a queue for one entry.
#[derive(Debug)]
pub(crate) struct Room {
    _returned_on_drop: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Entry<T> {
    item: T,
    // Returns the room when the entry is taken out or the queue is dropped.
    _room: Option<Room>,
}

impl<T> Sender<T> {
    /// Waits for room and sends.
    pub(crate) async fn send(&self, item: T, weight: u32) -> Result<(), Closed> {
        let room = Arc::clone(&self.room).acquire_many_owned(self.clamp(weight)).await;
        self.enqueue(item, Some(Room { _returned_on_drop: room.map_err(|_closed| Closed)? }))
    }

    /// Sends if there is room right now.
    pub(crate) fn try_send(&self, item: T, weight: u32) -> Result<(), TrySendError<T>> {
        match Arc::clone(&self.room).try_acquire_many_owned(self.clamp(weight)) {
            Ok(room) => self
                .enqueue(item, Some(Room { _returned_on_drop: room }))
                .map_err(|Closed| TrySendError::Closed),
            Err(TryAcquireError::NoPermits) => Err(TrySendError::Full(item)),
            Err(TryAcquireError::Closed) => Err(TrySendError::Closed),
        }
    }

    /// Sends an entry that weighs nothing.
    pub(crate) fn send_weightless(&self, item: T) -> Result<(), Closed> {
        self.enqueue(item, None)
    }

    /// The same sending end for poll functions.
    pub(crate) fn polling(&self) -> PollSender<T> {
        PollSender { room: PollSemaphore::new(Arc::clone(&self.room)), sender: self.clone() }
    }

    /// An entry heavier than the whole queue waits until the queue is empty.
    fn clamp(&self, weight: u32) -> u32 {
        weight.min(self.capacity)
    }

    fn enqueue(&self, item: T, room: Option<Room>) -> Result<(), Closed> {
        self.entries.send(Entry { item, _room: room }).map_err(|_closed| Closed)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            room: Arc::clone(&self.room),
            entries: self.entries.clone(),
            capacity: self.capacity,
        }
    }
}

impl<T> PollSender<T> {
    /// Waits for room. Ask for the same weight until it is ready.
    pub(crate) fn poll_room(
        &mut self,
        context: &mut Context<'_>,
        weight: u32,
    ) -> Poll<Result<Room, Closed>> {
        let weight = self.sender.clamp(weight);
        let room = ready!(self.room.poll_acquire_many(context, weight)).ok_or(Closed)?;
        Poll::Ready(Ok(Room { _returned_on_drop: room }))
    }

    /// Sends into room that was waited for.
    pub(crate) fn send(&self, item: T, room: Room) -> Result<(), Closed> {
        self.sender.enqueue(item, Some(room))
    }
}

impl<T> Receiver<T> {
    /// The next entry; none when every sender is gone.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        self.entries.recv().await.map(|entry| entry.item)
    }

    /// The next entry if there is one already.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        self.entries.try_recv().ok().map(|entry| entry.item)
    }

    /// The next entry; none when every sender is gone.
    pub(crate) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.entries.poll_recv(context).map(|entry| entry.map(|entry| entry.item))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn full_queue_takes_more_when_an_entry_is_taken_out() {
        let (sender, mut receiver) = queue(10);
        sender.try_send('a', 6).unwrap();
        assert_eq!(sender.try_send('b', 6), Err(TrySendError::Full('b')));

        let (sent, first) = tokio::join!(sender.send('b', 6), receiver.recv());

        assert_eq!((sent, first), (Ok(()), Some('a')));
        assert_eq!(receiver.try_recv(), Some('b'));
    }

    #[tokio::test]
    async fn weightless_entry_enters_a_full_queue_in_its_place() {
        let (sender, mut receiver) = queue(10);
        sender.try_send('a', 10).unwrap();
        sender.send_weightless('z').unwrap();

        assert_eq!([receiver.recv().await, receiver.recv().await], [Some('a'), Some('z')]);
    }

    #[tokio::test]
    async fn entry_heavier_than_the_queue_passes_when_it_is_empty() {
        let (sender, mut receiver) = queue(10);
        sender.send('a', 1000).await.unwrap();
        assert_eq!(sender.try_send('b', 1), Err(TrySendError::Full('b')));
        assert_eq!(receiver.recv().await, Some('a'));
    }

    #[tokio::test]
    async fn waiting_sender_learns_that_the_receiver_is_gone() {
        let (sender, receiver) = queue(10);
        sender.try_send('a', 10).unwrap();
        let (sent, ()) = tokio::join!(sender.send('b', 1), async { drop(receiver) });
        assert_eq!(sent, Err(Closed));
        assert_eq!(sender.try_send('c', 1), Err(TrySendError::Closed));
        assert_eq!(sender.send_weightless('d'), Err(Closed));
    }

    #[tokio::test]
    async fn receiver_learns_that_every_sender_is_gone() {
        let (sender, mut receiver) = queue::<char>(10);
        drop(sender);
        assert_eq!(receiver.recv().await, None);
    }
}
