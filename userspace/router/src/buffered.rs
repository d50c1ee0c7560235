//! A TCP connection that is read in large pieces. rustls asks for 4 KiB at a time (`DeframerVecBuffer`), which
//! would be four or five system calls for each record.

use std::{
    io::{self, IoSlice},
    os::fd::AsFd as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::io::poll_read_buf;

/// Bytes that are read at once; a few records of 16 KiB.
const READ: usize = 64 * 1024;

/// A connection, and what was read from it and not asked for yet. One that waits keeps no buffer.
#[derive(Debug)]
pub(crate) struct Buffered {
    tcp: TcpStream,
    ahead: BytesMut,
}

impl Buffered {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, ahead: BytesMut::new() }
    }

    /// Waits for bytes in the current runtime from now on.
    pub(crate) fn move_here(&mut self) -> io::Result<()> {
        let socket = self.tcp.as_fd().try_clone_to_owned()?;
        self.tcp = TcpStream::from_std(socket.into())?;
        Ok(())
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }
}

impl AsyncRead for Buffered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { tcp, ahead } = &mut *self;
        if ahead.is_empty() {
            ahead.reserve(READ);
            let read = poll_read_buf(Pin::new(tcp), context, ahead);
            if read.is_pending() {
                *ahead = BytesMut::new();
            }
            ready!(read)?;
        }
        let length = ahead.len().min(out.remaining());
        out.put_slice(&ahead[..length]);
        ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Buffered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn everything_comes_in_order_however_little_is_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut receiver = Buffered::new(listener.accept().await.unwrap().0);
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(3 * READ + 7).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move {
            sender.write_all(&sent).await.unwrap();
            sender.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        let mut piece = [0; 1_000];
        loop {
            match receiver.read(&mut piece).await.unwrap() {
                0 => break,
                length => received.extend_from_slice(&piece[..length]),
            }
        }
        assert!(received == expected);
        assert_eq!(receiver.read(&mut piece).await.unwrap(), 0, "an end stays an end");
        sending.await.unwrap();
    }
}
