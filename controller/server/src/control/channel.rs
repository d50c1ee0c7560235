//! Control messages as JSON in channel frames.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use nightgate_model::control::{CONTENT_TYPE, ControllerMessage, RouterMessage};
use nightgate_wire::channel::{FrameError, Limits, Message};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest message of a router: all its terminators at once fit.
const FROM_ROUTER: Limits = Limits { headers: 16_384, body: 32 * 1024 * 1024 };

/// A router that takes longer to take one replica is cut off.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a control channel cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    /// The router closed the connection.
    #[error("the router closed the connection")]
    Closed,
    /// The connection failed.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame of another protocol.
    #[error("frame of content type {0}, expected {CONTENT_TYPE}")]
    ContentType(i32),
    /// A frame that holds no message.
    #[error("control message: {0}")]
    Message(#[from] serde_json::Error),
    /// The router does not read.
    #[error("the router did not take a message within {} s", SEND_TIMEOUT.as_secs())]
    Stalled,
}

/// Reads a router's messages.
pub(super) struct Reader<R> {
    stream: R,
    buffer: BytesMut,
}

/// Writes messages to a router.
pub(super) struct Writer<W> {
    stream: W,
    sequence: i32,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Result<RouterMessage, ChannelError> {
        loop {
            if let Some(frame) = Message::decode(&mut self.buffer, FROM_ROUTER)? {
                if frame.content_type != CONTENT_TYPE {
                    return Err(ChannelError::ContentType(frame.content_type));
                }
                return Ok(serde_json::from_slice(&frame.body)?);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ChannelError::Closed);
            }
        }
    }
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(stream: W) -> Self {
        Self { stream, sequence: 0 }
    }

    pub(super) async fn send_message(
        &mut self,
        message: &ControllerMessage,
    ) -> Result<(), ChannelError> {
        self.send(serde_json::to_vec(message)?.into()).await
    }

    /// Sends a message that is JSON already.
    pub(super) async fn send(&mut self, body: Bytes) -> Result<(), ChannelError> {
        let mut message = Message::new(CONTENT_TYPE).with_body(body);
        message.sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        let mut frame = BytesMut::new();
        message.encode(&mut frame);
        let write = async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await
        };
        tokio::time::timeout(SEND_TIMEOUT, write).await.or(Err(ChannelError::Stalled))??;
        Ok(())
    }
}
