//! Frames on one connection.

use std::sync::{Arc, atomic::Ordering};

use bytes::{Buf as _, BufMut as _, BytesMut};
use nightgate_fabric::LinkId;
use nightgate_wire::link::Frame;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::Semaphore,
};

use super::{LinkError, batch::Batch};
use crate::{
    Router,
    actor::Event,
    outbox::{Outgoing, Traffic},
};

/// Frames are gathered up to this many bytes before they are written; TLS takes more at once, so that a batch and the frame
/// that exceeds it are one system call.
const WRITE_BATCH: usize = 128 * 1024;

/// Bytes that are read at once where a frame may begin: many small ones, or the first piece of a large one, whose rest is
/// then read by itself. It lies alone in its memory, and is opened there.
const READ: usize = 4 * 1024;

/// Bytes of one connection that the actor has not handled yet, at most: a neighbour that floods this router
/// waits, and nobody else.
const UNHANDLED: usize = 8 * 1024 * 1024;

/// Gives every frame to the actor.
pub(super) async fn read<R: AsyncRead + Unpin>(
    router: &Router,
    (link, traffic): (LinkId, Arc<Traffic>),
    mut reader: FrameReader<R>,
) -> Result<(), LinkError> {
    let room = Arc::new(Semaphore::new(UNHANDLED));
    loop {
        let Some(frame) = reader.step().await? else {
            router.tell(Event::Heard(link));
            continue;
        };
        let length = u32::try_from(frame.encoded_len()).unwrap_or(u32::MAX);
        traffic.received.fetch_add(length.into(), Ordering::Relaxed);
        let taken = Arc::clone(&room).acquire_many_owned(length).await;
        let room = taken.map_err(|_never_closed| LinkError::Closed)?;
        router.tell(Event::Frame { link, frame, room });
    }
}

/// Writes every frame of the actor, until it closes the link.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    outgoing: Outgoing,
    writer: W,
) -> Result<(), LinkError> {
    tokio::select! {
        ended = write_all(&outgoing, writer) => ended,
        () = outgoing.overdue() => Err(LinkError::Closed),
    }
}

async fn write_all<W: AsyncWrite + Unpin>(
    outgoing: &Outgoing,
    mut writer: W,
) -> Result<(), LinkError> {
    let (mut frames, mut batch) = (Vec::new(), Batch::default());
    let traffic = outgoing.traffic();
    while outgoing.take(&mut frames, WRITE_BATCH).await {
        frames.drain(..).for_each(|frame| batch.push(frame));
        batch.close();
        traffic.sent.fetch_add(batch.remaining() as u64, Ordering::Relaxed);
        writer.write_all_buf(&mut batch).await?;
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
        Self { stream, buffer: BytesMut::new() }
    }

    pub(super) async fn next(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = self.step().await? {
                return Ok(frame);
            }
        }
    }

    /// The next frame, or none when only a part of it has come.
    async fn step(&mut self) -> Result<Option<Frame>, LinkError> {
        if let Some(frame) = Frame::decode(&mut self.buffer)? {
            return Ok(Some(frame));
        }
        let most = Frame::missing(&self.buffer)?.unwrap_or(READ);
        self.buffer.reserve(most);
        if self.stream.read_buf(&mut (&mut self.buffer).limit(most)).await? == 0 {
            return Err(LinkError::Closed);
        }
        Ok(Frame::decode(&mut self.buffer)?)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use nightgate_wire::link::{Numbered, PathId, Payload};

    use super::*;

    #[tokio::test]
    async fn frames_come_as_they_were_and_a_large_one_is_alone_in_its_memory() {
        let lengths = [0, 100, 70_000, 5_000, 1, 65_536, 30];
        let frames = lengths.map(|length| {
            let body = Bytes::from(vec![7; length]);
            let payload = Payload { flags: 0, uuid: Bytes::new(), body };
            Frame::Payload(PathId(1), Numbered { sequence: 1, echo: 0, payload })
        });
        let mut wire = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut wire));
        let mut reader = FrameReader::new(&wire[..]);
        for frame in frames {
            let read = reader.next().await.unwrap();
            assert_eq!(read, frame);
            let Frame::Payload(_, Numbered { payload, .. }) = read else { unreachable!() };
            assert!(payload.body.len() <= READ || payload.body.is_unique());
        }
        assert!(matches!(reader.next().await, Err(LinkError::Closed)));
    }
}
