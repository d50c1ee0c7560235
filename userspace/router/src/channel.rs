//! Channel messages over a byte stream.

use std::io;

use bytes::BytesMut;
use nightgate_wire::channel::{FrameError, Limits, Message};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A channel that cannot be read or written any further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the peer sent no channel message")]
    Frame(#[from] FrameError),
    #[error("the peer closed the connection")]
    Closed,
}

/// Reads messages.
#[derive(Debug)]
pub(crate) struct MessageReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Bytes of the next message that have come.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next message. A cancelled call loses nothing.
    pub(crate) async fn next(&mut self, limits: Limits) -> Result<Message, ChannelError> {
        loop {
            if let Some(message) = Message::decode(&mut self.buffer, limits)? {
                return Ok(message);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ChannelError::Closed);
            }
        }
    }
}

/// Writes messages and numbers them.
#[derive(Debug)]
pub(crate) struct MessageWriter<W> {
    stream: W,
    buffer: BytesMut,
    sequence: i32,
}

impl<W: AsyncWrite + Unpin> MessageWriter<W> {
    pub(crate) fn new(stream: W) -> Self {
        Self { stream, buffer: BytesMut::new(), sequence: 0 }
    }

    /// The number that the next queued message gets.
    pub(crate) fn next_sequence(&self) -> i32 {
        self.sequence.wrapping_add(1)
    }

    /// Appends a message to what [`Self::flush`] writes.
    pub(crate) fn queue(&mut self, mut message: Message) {
        self.sequence = self.next_sequence();
        message.sequence = self.sequence;
        message.encode(&mut self.buffer);
    }

    /// Writes everything queued.
    pub(crate) async fn flush(&mut self) -> Result<(), ChannelError> {
        self.stream.write_all_buf(&mut self.buffer).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Writes one message.
    pub(crate) async fn send(&mut self, message: Message) -> Result<(), ChannelError> {
        self.queue(message);
        self.flush().await
    }
}
