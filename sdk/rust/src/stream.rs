//! A circuit as the application sees it: a stream of bytes in each direction.

mod trace;

use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use nightgate_e2ee::{Method, Opener, Protection, RecordError, Sealer};
use nightgate_identity::ProvenIdentity;
use nightgate_wire::{
    channel::Message,
    datagrams::{EMPTY, datagrams, flags_of},
    edge::{content, flag, header},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

pub use self::trace::TracedHop;
use crate::{
    edge::{Closed, Event, PayloadSender, Port, Receiver},
    messages::Messages,
};

/// Longest plaintext of one Data message, in bytes. OpenZiti's C SDK merges writes up to the same
/// length and pools buffers of 32 KiB.
const MAX_PLAINTEXT: usize = 31 * 1024;

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
/// Between ends that are both ours ([`Method::Native`]), only the other end can end its half. A stream
/// that is cut anywhere else fails with [`io::ErrorKind::UnexpectedEof`] and
/// [`RecordError::Truncated`] inside.
///
/// Neither the end of a half nor a close is authenticated by OpenZiti's encryption: a router that
/// forwards the circuit could cut it short. Protocols that say how much is to come, as HTTP and TLS
/// do, notice.
///
/// # Datagrams
/// A gateway that intercepts UDP puts several datagrams into one message, which a stream does not take apart: reading fails.
/// [`Self::into_messages`] takes them one by one.
pub struct Stream {
    port: Port,
    events: Receiver<Event>,
    payload: PayloadSender,
    seal: Option<Sealer>,
    open: Option<Opener>,
    method: Option<Method>,
    peer: Option<ProvenIdentity>,
    early_data: usize,
    unread: Bytes,
    datagrams: Option<Datagrams>,
    reading: Reading,
    writing: Writing,
}

/// What a circuit carries that keeps the boundaries of messages.
#[derive(Default)]
struct Datagrams {
    unread: VecDeque<Bytes>,
    /// The other end takes messages of parts.
    takes_parts: bool,
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

impl Stream {
    /// Starts a stream on a circuit that stands: with a protection, it is encrypted.
    pub(crate) fn start(
        port: Port,
        events: Receiver<Event>,
        protection: Option<Protection>,
    ) -> Result<Self, Closed> {
        if let Some(header) = protection.as_ref().and_then(|it| it.sealer.header()) {
            let mut message = port.message(content::DATA);
            message.body = Bytes::copy_from_slice(&header);
            port.send_weightless(message)?;
        }
        let method = protection.as_ref().map(|it| it.method);
        let (seal, open, peer, early) = match protection {
            Some(Protection { sealer, opener, peer, early_data, .. }) => {
                (Some(sealer), Some(opener), peer, early_data)
            }
            None => (None, None, None, None),
        };
        let early_data = early.as_ref().map_or(0, Vec::len);
        Ok(Self {
            payload: port.payload_sender(),
            port,
            events,
            seal,
            open,
            method,
            peer,
            early_data,
            unread: early.map_or_else(Bytes::new, Bytes::from),
            datagrams: None,
            reading: Reading::Open,
            writing: Writing::Open,
        })
    }

    /// Whether the two ends encrypt what passes between them.
    pub fn is_encrypted(&self) -> bool {
        self.seal.is_some()
    }

    /// How the two ends encrypt what passes between them; none if they do not.
    pub fn method(&self) -> Option<Method> {
        self.method
    }

    /// Who is at the other end, proven by its certificate and key; none if the ends do not use
    /// [`Method::Native`].
    pub fn peer(&self) -> Option<&ProvenIdentity> {
        self.peer.as_ref()
    }

    /// How many of the stream's first bytes went with the dial. A host may have had them before, in another stream
    /// ([`DialOptions::early_data`](crate::DialOptions::early_data)).
    pub fn early_data(&self) -> usize {
        self.early_data
    }

    /// So many of its first bytes went with the dial.
    pub(crate) fn begun_with(mut self, early_data: usize) -> Self {
        self.early_data = early_data;
        self
    }

    /// `host:port` of the edge router this end uses.
    pub fn router(&self) -> &str {
        self.port.router()
    }

    /// The same circuit as single messages, whose boundaries both ends see: for datagrams.
    pub fn into_messages(mut self) -> Messages {
        let first = std::mem::take(&mut self.unread);
        let unread = Some(first).filter(|first| !first.is_empty()).into_iter().collect();
        self.datagrams = Some(Datagrams { unread, takes_parts: self.peer.is_some() });
        Messages::new(self)
    }

    /// The next message, its boundaries kept; none at the end of the stream.
    pub(crate) fn poll_message(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            let next = self.datagrams.as_mut().and_then(|datagrams| datagrams.unread.pop_front());
            if next.is_some() || !ready!(self.poll_more(context))? {
                return Poll::Ready(Ok(next));
            }
        }
    }

    /// Whether the other end can be sent an empty message.
    pub(crate) fn takes_empty(&self) -> bool {
        self.datagrams.as_ref().is_some_and(|datagrams| datagrams.takes_parts)
    }

    /// Sends one message when there is room for it.
    pub(crate) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        plaintext: &[u8],
    ) -> Poll<io::Result<()>> {
        self.check_writable()?;
        let room = ready!(self.payload.poll_room(context, plaintext.len()))
            .map_err(|Closed| self.channel_lost())?;
        let flags = flags_of(plaintext);
        let message = self.data(if flags == 0 { plaintext } else { EMPTY }, flags)?;
        Poll::Ready(self.payload.send(message, room).map_err(|Closed| self.channel_lost()))
    }

    /// Waits until something is unread; nothing is at the end of the stream.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() && ready!(self.poll_more(context))? {}
        Poll::Ready(Ok(()))
    }

    /// Takes the next event; gives false at the end of the stream.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match self.reading {
            Reading::Ended => return Poll::Ready(Ok(false)),
            Reading::Failed => return Poll::Ready(Err(invalid("an earlier read failed"))),
            Reading::Open => {}
        }
        let event = ready!(self.events.poll_recv(context));
        if let Err(error) = self.receive(event) {
            self.reading = Reading::Failed;
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(true))
    }

    fn receive(&mut self, event: Option<Event>) -> io::Result<()> {
        match event {
            Some(Event::Data { flags, body }) => self.receive_data(flags, body),
            Some(Event::Closed { reason }) if reason.is_empty() => {
                self.open.as_ref().map_or(Ok(()), Opener::finish).map_err(refused)?;
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
        let has_parts = flags & flag::MULTIPART_MESSAGE != 0;
        if has_parts && self.datagrams.is_none() {
            return Err(invalid(
                "the peer sent datagrams, several in one message: Stream::into_messages takes them",
            ));
        }
        let plaintext = match &mut self.open {
            None => body,
            Some(open) => {
                open.open(&body, flags).map_err(refused)?.map_or_else(Bytes::new, Bytes::from)
            }
        };
        match &mut self.datagrams {
            None => self.unread = plaintext,
            Some(kept) => {
                kept.takes_parts |= flags & flag::MULTIPART != 0;
                kept.unread.extend(datagrams(plaintext, flags));
            }
        }
        if flags & flag::FIN != 0 {
            self.reading = Reading::Ended;
        }
        Ok(())
    }

    fn data(&mut self, plaintext: &[u8], flags: u32) -> io::Result<Message> {
        let mut message = self.port.message(content::DATA);
        if flags != 0 {
            message.headers.put_u32(header::FLAGS, flags);
        }
        message.body = match &mut self.seal {
            None => Bytes::copy_from_slice(plaintext),
            Some(seal) => seal.seal(plaintext, flags).map_err(io::Error::other)?.into(),
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
            if self.port.is_gone() {
                self.writing = Writing::Ended;
                return;
            }
            let mut fin = self.port.message(content::DATA);
            fin.headers.put_u32(header::FLAGS, flag::FIN);
            if let Some(Ok(end)) = self.seal.as_mut().map(|seal| seal.seal(&[], flag::FIN)) {
                fin.body = end.into();
            }
            self.writing = Writing::Ending(self.port.send_last(fin));
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
        ready!(self.poll_fill(context))?;
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let plaintext = &buffer[..buffer.len().min(MAX_PLAINTEXT)];
        ready!(self.poll_send(context, plaintext))?;
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

impl Stream {
    /// Closes the circuit at once, and not in order: the other end finds the stream cut, not complete.
    pub fn abort(mut self) {
        self.writing = Writing::Ended;
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

fn refused(error: RecordError) -> io::Error {
    let kind = match error {
        RecordError::Truncated => io::ErrorKind::UnexpectedEof,
        RecordError::HeaderLength { .. }
        | RecordError::Authentication { .. }
        | RecordError::Broken
        | RecordError::AfterEnd => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
