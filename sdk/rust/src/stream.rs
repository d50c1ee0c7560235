//! A circuit as the application sees it: a stream of bytes in each direction.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use nightgate_e2ee::{Inbound, Outbound, SealError, SessionKeys};
use nightgate_wire::{
    channel::Message,
    edge::{content, flag, header},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use crate::edge::{Closed, Event, PayloadSender, Port, Receiver};

/// Longest plaintext of one Data message, in bytes. OpenZiti's C SDK merges writes up to the same
/// length and pools buffers of 32 KiB.
const MAX_PLAINTEXT: usize = 31 * 1024;

/// Data flag (header 1010): the body holds several length-prefixed messages. Only a peer that was
/// told we understand it may set it, and we never say so.
const MULTIPART_MESSAGE: u32 = 16;

/// A circuit to another endpoint of the overlay, end-to-end encrypted if the service requires it.
///
/// Use it like a TCP stream. [`shutdown`](tokio::io::AsyncWriteExt::shutdown) ends the writing
/// half: the peer reads everything sent before and then the end of the stream, and can still send.
/// It waits until all that was written has left this process, so do it before the process exits.
/// Dropping closes both halves; what was written before is still delivered while the runtime lives,
/// what the peer has sent and nobody has read is lost.
///
/// # Flow control
/// Writers wait while 1 MiB of all streams to the same router waits to be sent. Up to 4 MiB may
/// wait to be read on each stream; beyond that the whole connection to the router stands still until
/// the application reads on. A stream that keeps it standing for 30 seconds is closed, so that the
/// others go on: an application that wants to pause a large transfer for longer has to open
/// another [`Context`](crate::Context) for it.
///
/// # End of the stream
/// Neither the end of a half nor a close is authenticated by OpenZiti's encryption: a router that
/// forwards the circuit could cut it short. Protocols that say how much is to come, as HTTP and TLS
/// do, notice.
pub struct Stream {
    port: Port,
    events: Receiver<Event>,
    payload: PayloadSender,
    seal: Option<Outbound>,
    open: Option<Inbound>,
    unread: Bytes,
    reading: Reading,
    writing: Writing,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reading {
    Open,
    Ended,
    Failed,
}

#[derive(Debug)]
enum Writing {
    Open,
    /// The end is on its way out of this process.
    Ending(oneshot::Receiver<()>),
    Ended,
}

/// Why a stream could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the channel to the router was lost")]
    ChannelLost,
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Stream {
    /// Starts a stream on a circuit that stands: with session keys, it is encrypted.
    pub(crate) fn start(
        port: Port,
        events: Receiver<Event>,
        keys: Option<SessionKeys>,
    ) -> Result<Self, StartError> {
        let (seal, open) = keys.map(SessionKeys::into_streams).transpose()?.unzip();
        if let Some(seal) = &seal {
            let mut message = port.message(content::DATA);
            message.body = Bytes::copy_from_slice(&seal.header());
            port.send_weightless(message).map_err(|Closed| StartError::ChannelLost)?;
        }
        Ok(Self {
            payload: port.payload_sender(),
            port,
            events,
            seal,
            open,
            unread: Bytes::new(),
            reading: Reading::Open,
            writing: Writing::Open,
        })
    }

    /// Whether the two ends encrypt what passes between them.
    pub fn is_encrypted(&self) -> bool {
        self.seal.is_some()
    }

    /// `host:port` of the edge router this end uses.
    pub fn router(&self) -> &str {
        self.port.router()
    }

    fn receive(&mut self, event: Option<Event>) -> io::Result<()> {
        match event {
            Some(Event::Data { flags, body }) => self.receive_data(flags, body),
            Some(Event::Closed { reason }) if reason.is_empty() => {
                self.reading = Reading::Ended;
                Ok(())
            }
            Some(Event::Closed { reason }) => {
                let text = format!("closed by the router {}: {reason}", self.router());
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, text))
            }
            Some(Event::Dial(_)) => Err(invalid("a dial arrived on a circuit")),
            None => Err(self.channel_lost()),
        }
    }

    fn receive_data(&mut self, flags: u32, body: Bytes) -> io::Result<()> {
        if flags & MULTIPART_MESSAGE != 0 {
            return Err(invalid("the peer sent a multipart message that was not agreed on"));
        }
        self.unread = match &mut self.open {
            None => body,
            Some(open) => open
                .open(&body)
                .map_err(|refused| io::Error::new(io::ErrorKind::InvalidData, refused))?
                .map_or_else(Bytes::new, Bytes::from),
        };
        if flags & flag::FIN != 0 {
            self.reading = Reading::Ended;
        }
        Ok(())
    }

    fn data(&mut self, plaintext: &[u8]) -> io::Result<Message> {
        let mut message = self.port.message(content::DATA);
        message.body = match &mut self.seal {
            None => Bytes::copy_from_slice(plaintext),
            Some(seal) => seal.seal(plaintext).map_err(io::Error::other)?.into(),
        };
        Ok(message)
    }

    fn channel_lost(&self) -> io::Error {
        let text = format!("the channel to the router {} was lost", self.router());
        io::Error::new(io::ErrorKind::ConnectionReset, text)
    }

    /// Sends the end of this half, unless that has been done or the circuit is closed.
    fn end_writing(&mut self) {
        if matches!(self.writing, Writing::Open) {
            let mut fin = self.port.message(content::DATA);
            fin.headers.put_u32(header::FLAGS, flag::FIN);
            self.writing = if self.port.is_gone() {
                Writing::Ended
            } else {
                Writing::Ending(self.port.send_last(fin))
            };
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        if !matches!(self.writing, Writing::Open) {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "this half was shut down"));
        }
        if self.port.is_gone() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the circuit is closed"));
        }
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.unread.is_empty() {
                let length = this.unread.len().min(buffer.remaining());
                buffer.put_slice(&this.unread[..length]);
                this.unread.advance(length);
                return Poll::Ready(Ok(()));
            }
            match this.reading {
                Reading::Ended => return Poll::Ready(Ok(())),
                Reading::Failed => return Poll::Ready(Err(invalid("an earlier read failed"))),
                Reading::Open => {}
            }
            let event = ready!(this.events.poll_recv(context));
            if let Err(error) = this.receive(event) {
                this.reading = Reading::Failed;
                return Poll::Ready(Err(error));
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_writable()?;
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let plaintext = &buffer[..buffer.len().min(MAX_PLAINTEXT)];
        let room = ready!(self.payload.poll_room(context, plaintext.len()))
            .map_err(|Closed| self.channel_lost())?;
        let message = self.data(plaintext)?;
        self.payload.send(message, room).map_err(|Closed| self.channel_lost())?;
        Poll::Ready(Ok(plaintext.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written is on its way: the channel waits for nothing.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end_writing();
        if let Writing::Ending(written) = &mut self.writing {
            let outcome = ready!(Pin::new(written).poll(context));
            self.writing = Writing::Ended;
            outcome.map_err(|_lost| self.channel_lost())?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    /// Ends the writing half in order, so that the peer can tell it from a loss; then the port
    /// closes the circuit.
    fn drop(&mut self) {
        self.end_writing();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("port", &self.port)
            .field("encrypted", &self.is_encrypted())
            .field("reading", &self.reading)
            .finish_non_exhaustive()
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;
    use crate::scripted::{channel, circuit, is_fin};

    #[tokio::test]
    async fn bytes_pass_both_ways_encrypted_and_plain() {
        for encrypted in [true, false] {
            let (channel, mut router) = channel().await;
            let (mut stream, mut host) = circuit(&channel, &mut router, encrypted).await;
            assert_eq!(stream.is_encrypted(), encrypted);

            stream.write_all(b"question").await.unwrap();
            let sent = router.recv().await;
            assert_eq!(sent.body == "question", !encrypted, "plaintext only where agreed");
            assert_eq!(host.open(&sent), b"question");

            router.send(host.data(b"answer")).await;
            let mut answer = [0; 6];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"answer");
        }
    }

    #[tokio::test]
    async fn long_write_becomes_records_of_at_most_31_kib() {
        let (channel, mut router) = channel().await;
        let (mut stream, mut host) = circuit(&channel, &mut router, true).await;
        let plaintext: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();

        let (written, received) = tokio::join!(stream.write_all(&plaintext), async {
            let mut received = Vec::new();
            while received.len() < plaintext.len() {
                let message = router.recv().await;
                assert!(message.body.len() <= MAX_PLAINTEXT + nightgate_e2ee::RECORD_OVERHEAD);
                received.extend(host.open(&message));
            }
            received
        });

        written.unwrap();
        assert_eq!(received, plaintext);
    }

    #[tokio::test]
    async fn each_half_ends_by_itself() {
        let (channel, mut router) = channel().await;
        let (mut stream, mut host) = circuit(&channel, &mut router, true).await;

        stream.write_all(b"all").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(host.open(&router.recv().await), b"all");
        assert!(is_fin(&router.recv().await));
        assert_eq!(stream.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);

        router.send(host.data(b"late answer")).await;
        router.send(host.fin()).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "late answer");
    }

    #[tokio::test]
    async fn dropped_stream_delivers_what_was_written_then_ends_then_closes() {
        let (channel, mut router) = channel().await;
        let (mut stream, mut host) = circuit(&channel, &mut router, true).await;

        stream.write_all(b"last words").await.unwrap();
        drop(stream);
        drop(channel);

        assert_eq!(host.open(&router.recv().await), b"last words");
        assert!(is_fin(&router.recv().await));
        let closed = router.recv().await;
        assert_eq!(closed.content_type, content::STATE_CLOSED);
        assert_eq!(closed.headers.u32(header::CONN_ID), Some(host.id));
        assert!(router.is_left().await, "the channel ends with its last user");
    }

    #[tokio::test]
    async fn close_without_reason_is_the_end_and_with_reason_an_error() {
        let (channel, mut router) = channel().await;
        let (mut stream, host) = circuit(&channel, &mut router, false).await;
        router.send(host.closed("")).await;
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);

        let (mut stream, host) = circuit(&channel, &mut router, false).await;
        router.send(host.closed("policy withdrawn")).await;
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(error.to_string().contains("policy withdrawn"), "{error}");
        let error = stream.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn altered_record_fails_the_stream_for_good() {
        let (channel, mut router) = channel().await;
        let (mut stream, mut host) = circuit(&channel, &mut router, true).await;
        let mut message = host.data(b"pay 10");
        let mut body = message.body.to_vec();
        body[4] ^= 1;
        message.body = body.into();

        router.send(message).await;
        router.send(host.data(b"genuine")).await;

        for _ in 0..2 {
            let error = stream.read(&mut [0; 8]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[tokio::test]
    async fn multipart_message_that_was_not_agreed_on_is_refused() {
        let (channel, mut router) = channel().await;
        let (mut stream, mut host) = circuit(&channel, &mut router, false).await;
        let mut message = host.data(b"\x01\0x");
        message.headers.put_u32(header::FLAGS, MULTIPART_MESSAGE);

        router.send(message).await;

        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn lost_channel_fails_reads_and_writes() {
        let (channel, mut router) = channel().await;
        let (mut stream, _) = circuit(&channel, &mut router, true).await;

        drop(router);
        let error = stream.read(&mut [0; 8]).await.unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(stream.write(b"x").await.is_err());
        assert!(!channel.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn writer_waits_while_the_router_does_not_read() {
        let (channel, mut router) = channel().await;
        let (mut stream, mut host) = circuit(&channel, &mut router, false).await;
        let plenty = vec![7; 4 * 1024 * 1024];

        let mut writing = Box::pin(stream.write_all(&plenty));
        let unread = timeout(Duration::from_secs(5), &mut writing).await;
        assert!(unread.is_err(), "4 MiB do not fit into the queue");

        let mut received = 0;
        let reading = async {
            while received < plenty.len() {
                received += host.open(&router.recv().await).len();
            }
        };
        let (written, ()) = tokio::join!(writing, reading);
        written.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn stream_nobody_reads_is_closed_and_the_others_go_on() {
        let (channel, mut router) = channel().await;
        let (mut idle, mut idle_host) = circuit(&channel, &mut router, false).await;
        let (mut busy, mut busy_host) = circuit(&channel, &mut router, false).await;
        let started = tokio::time::Instant::now();

        let mut received = [0; 5];
        let flood = async {
            for _ in 0..200 {
                router.send(idle_host.data(&[0; 31 * 1024])).await;
            }
            router.send(busy_host.data(b"hello")).await;
            router.recv().await
        };
        let (notice, read) = tokio::join!(flood, busy.read_exact(&mut received));

        read.unwrap();
        assert_eq!(&received, b"hello");
        assert!(started.elapsed() >= Duration::from_secs(30), "it was given time");
        assert_eq!(notice.content_type, content::STATE_CLOSED);
        assert_eq!(notice.headers.u32(header::CONN_ID), Some(idle_host.id));
        let mut kept = Vec::new();
        let error = idle.read_to_end(&mut kept).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(kept.len() <= 4 * 1024 * 1024, "{} bytes were kept", kept.len());
    }
}
