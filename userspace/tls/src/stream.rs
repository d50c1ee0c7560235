//! A connection after its handshake, as a stream of bytes.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    ops::Range,
    os::fd::AsFd as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use rustls::Error;
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::io::poll_read_buf;

use crate::{
    handshake::{Peer, failed},
    records::{Opened, Records, record_length},
};

/// Bytes that are read at once; a few records of 16 KiB, and more than one of any length.
const READ: usize = 64 * 1024;

/// Bytes that are taken at once to be sealed and written by one system call, more or less.
const WRITE: usize = 256 * 1024;

/// Records that are given to one system call; as many as bytes above make, and some to spare.
const SLICES: usize = 32;

/// A connection with TLS. It keeps no buffer while it waits for the other end to begin a record.
pub struct TlsStream {
    tcp: TcpStream,
    peer: Peer,
    pub(crate) records: Records,
    /// What has come; it begins with the record that is read at the moment.
    incoming: BytesMut,
    /// What that record still has to give.
    data: Range<usize>,
    /// Where that record ends, or 0.
    end: usize,
    /// Whether the other end says nothing more.
    ended: bool,
    /// What is wrong with the record after the last data.
    failure: Option<Error>,
    /// Sealed, and not written.
    outgoing: VecDeque<Bytes>,
    /// Whether this end says nothing more.
    closed: bool,
}

impl TlsStream {
    pub(crate) fn new(tcp: TcpStream, records: Records, incoming: BytesMut, peer: Peer) -> Self {
        Self {
            tcp,
            peer,
            records,
            incoming,
            data: 0..0,
            end: 0,
            ended: false,
            failure: None,
            outgoing: VecDeque::new(),
            closed: false,
        }
    }

    /// The socket.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// The certificate that the other end proved to be its own, if it showed one.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.peer.certificate.as_ref()
    }

    /// The application protocol that both agreed on (ALPN, RFC 7301).
    pub fn protocol(&self) -> Option<&[u8]> {
        self.peer.protocol.as_deref()
    }

    /// Waits for bytes in the current runtime from now on.
    ///
    /// # Errors
    /// There are too many open files, or the runtime's driver refuses the socket.
    pub fn move_here(&mut self) -> io::Result<()> {
        let socket = self.tcp.as_fd().try_clone_to_owned()?;
        self.tcp = TcpStream::from_std(socket.into())?;
        Ok(())
    }

    /// Gives what has come, as far as it goes.
    fn deliver(&mut self, out: &mut ReadBuf<'_>) -> Result<(), Error> {
        while out.remaining() > 0 {
            if self.data.is_empty() && !self.open_next()? {
                break;
            }
            let length = self.data.len().min(out.remaining());
            out.put_slice(&self.incoming[self.data.start..][..length]);
            self.data.start += length;
        }
        Ok(())
    }

    /// Opens records up to the next that has data; gives whether there is one.
    fn open_next(&mut self) -> Result<bool, Error> {
        while !self.ended {
            self.incoming.advance(std::mem::take(&mut self.end));
            let Some(end) =
                record_length(&self.incoming)?.filter(|end| *end <= self.incoming.len())
            else {
                break;
            };
            self.end = end;
            match self.records.open(&mut self.incoming[..end])? {
                Opened::Data(data) => {
                    self.data = data;
                    return Ok(true);
                }
                Opened::Nothing => {}
                Opened::End => self.ended = true,
            }
        }
        Ok(false)
    }

    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.incoming.reserve(READ - self.incoming.len());
        let read = poll_read_buf(Pin::new(&mut self.tcp), context, &mut self.incoming);
        if read.is_pending() && self.incoming.is_empty() {
            self.incoming = BytesMut::new();
        }
        if ready!(read)? == 0 {
            let error = "the other end did not say that it was all";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)));
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the other end what is wrong, if it can be told at once.
    fn fail(&mut self, error: Error, context: &mut Context<'_>) -> io::Error {
        if !self.closed {
            self.closed = true;
            self.outgoing.extend(self.records.complain(&error));
            drop(self.poll_drain(context));
        }
        failed(error)
    }

    /// Writes everything that is sealed.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let both = slices.iter_mut().zip(&self.outgoing);
            let count = both.map(|(slice, record)| *slice = IoSlice::new(record)).count();
            let tcp = Pin::new(&mut self.tcp);
            let mut written = ready!(tcp.poll_write_vectored(context, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            while let Some(record) = self.outgoing.front_mut() {
                if written < record.len() {
                    record.advance(written);
                    break;
                }
                written -= record.len();
                self.outgoing.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = out.remaining();
        loop {
            if let Some(error) = self.failure.clone() {
                return Poll::Ready(Err(self.fail(error, context)));
            }
            self.failure = self.deliver(out).err();
            if out.remaining() < room || room == 0 || self.ended {
                return Poll::Ready(Ok(()));
            }
            if self.failure.is_none() {
                ready!(self.poll_more(context))?;
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_drain(context))?;
        if this.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let (mut chunks, mut taken) = (Vec::with_capacity(slices.len()), 0);
        for slice in slices {
            let length = slice.len().min(WRITE - taken);
            chunks.push(&slice[..length]);
            taken += length;
        }
        this.records.seal(&chunks, &mut this.outgoing).map_err(failed)?;
        // What is not written now is by the next call, or when the stream is flushed.
        match this.poll_drain(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drain(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            self.closed = true;
            let close = self.records.close().map_err(failed)?;
            self.outgoing.push_back(close);
        }
        ready!(self.poll_drain(context))?;
        match ready!(Pin::new(&mut self.tcp).poll_shutdown(context)) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}
