//! Frames on one connection.

use bytes::BytesMut;
use nightgate_fabric::LinkId;
use nightgate_wire::link::Frame;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

use super::LinkError;
use crate::{Router, actor::Event};

/// Frames are gathered up to this many bytes before they are written.
const WRITE_BATCH: usize = 64 * 1024;

/// Gives every frame to the actor.
pub(super) async fn read<R: AsyncRead + Unpin>(
    router: &Router,
    link: LinkId,
    mut reader: FrameReader<R>,
) -> Result<(), LinkError> {
    loop {
        let frame = reader.next().await?;
        router.tell(Event::Frame(link, frame));
    }
}

/// Writes every frame of the actor.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    mut frames: mpsc::UnboundedReceiver<Frame>,
    mut writer: W,
) -> Result<(), LinkError> {
    let mut wire = BytesMut::with_capacity(WRITE_BATCH);
    while let Some(frame) = frames.recv().await {
        frame.encode(&mut wire);
        while wire.len() < WRITE_BATCH
            && let Ok(frame) = frames.try_recv()
        {
            frame.encode(&mut wire);
        }
        writer.write_all_buf(&mut wire).await?;
        writer.flush().await?;
    }
    Err(LinkError::Closed)
}

/// The frames of one connection, as they come.
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(WRITE_BATCH) }
    }

    pub(super) async fn next(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer)? {
                return Ok(frame);
            }
            self.buffer.reserve(WRITE_BATCH);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(LinkError::Closed);
            }
        }
    }
}
