//! What is written to connections and read from them.

use std::hint::black_box;

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use nightgate_wire::{
    channel::{Limits, Message},
    edge::{content, header},
    link::{Ack, Frame, Numbered, PathId, Payload},
};

use crate::{Case, Run};

pub(crate) const CASES: &[Case] = &[
    Case { name: "link, write a frame of 16 KiB", prepare: write_frame },
    Case { name: "link, read a frame of 16 KiB", prepare: read_frame },
    Case { name: "link, write and read an acknowledgement", prepare: acknowledgement },
    Case { name: "edge, write a message of 16 KiB", prepare: write_message },
    Case { name: "edge, read a message of 16 KiB", prepare: read_message },
];

/// Bytes of a body.
const BODY: usize = 16 * 1_024;
/// Room for a message with all that goes before its body.
const ROOM: usize = BODY + 1_024;

fn frame() -> Frame {
    let payload = Payload { body: Bytes::from(vec![7; BODY]), ..Payload::default() };
    Frame::Payload(PathId(7), Numbered { sequence: 1, echo: 0, payload })
}

/// As links do it: the head into a buffer, the body by reference.
fn write_frame(_runs: usize) -> Result<Run> {
    let (frame, mut out) = (frame(), BytesMut::with_capacity(ROOM));
    Ok(Box::new(move || {
        out.clear();
        black_box(frame.clone().encode_head(&mut out));
        black_box(&out);
        Ok(())
    }))
}

fn read_frame(runs: usize) -> Result<Run> {
    let mut inputs: Vec<BytesMut> = (0..runs)
        .map(|_| {
            let mut input = BytesMut::with_capacity(ROOM);
            frame().encode(&mut input);
            input
        })
        .collect();
    Ok(Box::new(move || {
        let mut input = inputs.pop().context("no more input")?;
        black_box(Frame::decode(&mut input)?.context("half a frame")?);
        Ok(())
    }))
}

fn acknowledgement(_runs: usize) -> Result<Run> {
    let ack = Ack { received: 7, limit: 1 << 20, stamp: 5, ..Ack::default() };
    let (frame, mut wire) = (Frame::Ack(PathId(7), ack), BytesMut::with_capacity(ROOM));
    Ok(Box::new(move || {
        black_box(&frame).encode(&mut wire);
        black_box(Frame::decode(&mut wire)?.context("half a frame")?);
        wire.reserve(ROOM);
        Ok(())
    }))
}

fn message() -> Message {
    let mut message = Message::new(content::DATA).with_body(vec![7; BODY]);
    message.headers.put_u32(header::CONN_ID, 1).put_u32(header::SEQ, 2);
    message
}

fn write_message(_runs: usize) -> Result<Run> {
    let (message, mut out) = (message(), BytesMut::with_capacity(ROOM));
    Ok(Box::new(move || {
        out.clear();
        black_box(&message).encode(&mut out);
        black_box(&out);
        Ok(())
    }))
}

fn read_message(runs: usize) -> Result<Run> {
    let mut inputs: Vec<BytesMut> = (0..runs)
        .map(|_| {
            let mut input = BytesMut::with_capacity(ROOM);
            message().encode(&mut input);
            input
        })
        .collect();
    Ok(Box::new(move || {
        let mut input = inputs.pop().context("no more input")?;
        let message = Message::decode(&mut input, Limits::EDGE)?.context("half a message")?;
        black_box((message.headers.u32(header::CONN_ID), message));
        Ok(())
    }))
}
