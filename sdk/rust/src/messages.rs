//! A circuit as messages: what one end sends at once, the other receives at once.

use std::{
    fmt,
    future::poll_fn,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;

use crate::stream::Stream;

/// Longest message in bytes: the longest datagram of UDP over IPv4 (65,535 less the headers of RFC 791
/// and RFC 768).
pub const MAX_MESSAGE: usize = 65_507;

/// A circuit that keeps the boundaries of messages, as UDP does; made by [`Stream::into_messages`].
///
/// Messages arrive complete, once and in order. Several tasks may use it at the same time: one message
/// goes to one receiver. An OpenZiti tunneler that carries UDP does the same at its end: one datagram is
/// one message. Empty messages need another end that takes them: [`Messages::takes_empty`].
pub struct Messages {
    stream: Mutex<Stream>,
    // One waiting task at a time in each direction: a stream remembers one waker.
    sending: tokio::sync::Mutex<()>,
    receiving: tokio::sync::Mutex<()>,
}

impl Messages {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream: Mutex::new(stream),
            sending: tokio::sync::Mutex::default(),
            receiving: tokio::sync::Mutex::default(),
        }
    }

    /// Sends one message of 1 to [`MAX_MESSAGE`] bytes, or an empty one to an end that takes such, when there is room for
    /// it. Cancel safe: all of it is sent, or nothing.
    ///
    /// # Errors
    /// `InvalidInput` if it is too long, or empty and the other end does not take that; otherwise as for writing to a
    /// [`Stream`].
    pub async fn send(&self, message: &[u8]) -> io::Result<()> {
        let shortest = usize::from(!self.takes_empty());
        if !(shortest..=MAX_MESSAGE).contains(&message.len()) {
            let length = message.len();
            let text = format!("a message of {length} bytes, expected {shortest} to {MAX_MESSAGE}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let _turn = self.sending.lock().await;
        poll_fn(|context| self.stream().poll_send(context, message)).await
    }

    /// The next message; none when the other end has ended its half. Cancel safe.
    ///
    /// # Errors
    /// As for reading from a [`Stream`].
    pub async fn recv(&self) -> io::Result<Option<Bytes>> {
        let _turn = self.receiving.lock().await;
        poll_fn(|context| self.stream().poll_message(context)).await
    }

    /// Ends this half: the other end receives everything sent before, and then the end.
    ///
    /// # Errors
    /// As for [`shutdown`](tokio::io::AsyncWriteExt::shutdown) of a [`Stream`].
    pub async fn shutdown(&self) -> io::Result<()> {
        let _turn = self.sending.lock().await;
        poll_fn(|context| {
            let mut stream = self.stream();
            let mut shutdown = std::pin::pin!(stream.shutdown());
            shutdown.as_mut().poll(context)
        })
        .await
    }

    /// Whether the other end takes empty messages: one that is ours and proves its identity
    /// ([`Method::Native`](crate::Method::Native)) always does, one of OpenZiti when it has said in a message that it takes several
    /// in one.
    pub fn takes_empty(&self) -> bool {
        self.stream().takes_empty()
    }

    /// Whether the two ends encrypt what passes between them.
    pub fn is_encrypted(&self) -> bool {
        self.stream().is_encrypted()
    }

    /// Never held over a wait.
    fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("stream", &*self.stream()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use nightgate_wire::{
        datagrams::EMPTY,
        edge::{flag, header},
    };

    use super::*;
    use crate::scripted::{channel, circuit, is_fin};

    #[tokio::test]
    async fn boundaries_are_kept_both_ways() {
        for encrypted in [true, false] {
            let (channel, mut router) = channel().await;
            let (stream, mut host) = circuit(&channel, &mut router, encrypted).await;
            let messages = stream.into_messages();
            let longest = vec![7; MAX_MESSAGE];

            for message in [&b"a"[..], b"bc", &longest] {
                let (sent, received) = tokio::join!(messages.send(message), router.recv());
                sent.unwrap();
                assert_eq!(host.open(&received), message);
            }
            for message in [&b"one"[..], b"two"] {
                router.send(host.data(message)).await;
            }
            assert_eq!(messages.recv().await.unwrap().unwrap(), "one");
            assert_eq!(messages.recv().await.unwrap().unwrap(), "two");
            messages.shutdown().await.unwrap();
            assert!(is_fin(&router.recv().await));
            router.send(host.fin()).await;
            assert_eq!(messages.recv().await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn empty_messages_are_for_an_end_that_takes_them() {
        for encrypted in [true, false] {
            let (channel, mut router) = channel().await;
            let (stream, mut host) = circuit(&channel, &mut router, encrypted).await;
            let messages = stream.into_messages();
            assert!(!messages.takes_empty());

            let mut first = host.data(b"first");
            first.headers.put_u32(header::FLAGS, flag::MULTIPART);
            router.send(first).await;
            assert_eq!(messages.recv().await.unwrap().unwrap(), "first");
            messages.send(b"").await.unwrap();
            let sent = router.recv().await;
            assert_eq!(sent.headers.u32(header::FLAGS), Some(flag::MULTIPART_MESSAGE));
            assert_eq!(host.open(&sent), EMPTY);

            let mut parts = host.data(b"\x01\0a\0\0\x02\0bc");
            parts.headers.put_u32(header::FLAGS, flag::MULTIPART_MESSAGE);
            router.send(parts).await;
            router.send(host.fin()).await;
            for expected in ["a", "", "bc"] {
                assert_eq!(messages.recv().await.unwrap().unwrap(), expected);
            }
            assert_eq!(messages.recv().await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn empty_and_too_long_messages_are_refused() {
        let (channel, mut router) = channel().await;
        let (stream, _host) = circuit(&channel, &mut router, true).await;
        let messages = stream.into_messages();

        for length in [0, MAX_MESSAGE + 1] {
            let refused = messages.send(&vec![0; length]).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[tokio::test]
    async fn a_receiver_and_a_sender_wait_at_the_same_time() {
        let (channel, mut router) = channel().await;
        let (stream, mut host) = circuit(&channel, &mut router, true).await;
        let messages = stream.into_messages();

        let (received, ()) = tokio::join!(messages.recv(), async {
            messages.send(b"ping").await.unwrap();
            assert_eq!(host.open(&router.recv().await), b"ping");
            router.send(host.data(b"pong")).await;
        });

        assert_eq!(received.unwrap().unwrap(), "pong");
    }
}
