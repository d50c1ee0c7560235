//! Frames on their way into one write, without copying their bodies.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use nightgate_wire::link::Frame;

/// A body of fewer bytes is copied: that costs less than another piece.
const COPIED: usize = 512;

/// Encoded frames in pieces.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Prefixes and small frames that are not among the pieces yet.
    open: BytesMut,
    pieces: VecDeque<Bytes>,
}

impl Batch {
    pub(super) fn push(&mut self, frame: Frame) {
        let body = frame.encode_head(&mut self.open);
        if body.len() < COPIED {
            self.open.extend_from_slice(&body);
        } else {
            self.close();
            self.pieces.push_back(body);
        }
    }

    /// Everything pushed so far is among the pieces; to be called before it is written.
    pub(super) fn close(&mut self) {
        if !self.open.is_empty() {
            self.pieces.push_back(self.open.split().freeze());
        }
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.len() {
                return piece.advance(count);
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let both = slices.iter_mut().zip(&self.pieces);
        both.map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }
}

#[cfg(test)]
mod tests {
    use nightgate_wire::link::{Ack, Numbered, PathId, Payload};

    use super::*;

    #[test]
    fn a_batch_is_the_frames_one_after_the_other() {
        let payload = |sequence, length| {
            let body = Bytes::from(vec![7; length]);
            let payload = Payload { flags: 1, uuid: Bytes::from_static(b"u"), body };
            Frame::Payload(PathId(1), Numbered { sequence, echo: 0, payload })
        };
        let frames = [
            payload(1, 0),
            Frame::Ping(1),
            payload(2, 10_000),
            payload(3, COPIED - 1),
            Frame::Ack(PathId(1), Ack::default()),
            payload(4, COPIED),
            Frame::Close(PathId(2)),
        ];
        let (mut batch, mut expected) = (Batch::default(), BytesMut::new());
        for frame in frames {
            frame.encode(&mut expected);
            batch.push(frame);
        }
        batch.close();
        assert_eq!(batch.remaining(), expected.len());
        let mut slices = [IoSlice::new(&[]); 3];
        assert_eq!(batch.chunks_vectored(&mut slices), 3);
        assert_eq!(&expected[..slices[0].len()], &*slices[0]);
        let mut written = Vec::new();
        while batch.has_remaining() {
            let length = batch.chunk().len().min(700);
            written.extend_from_slice(&batch.chunk()[..length]);
            batch.advance(length);
        }
        assert!(written == expected);
    }
}
