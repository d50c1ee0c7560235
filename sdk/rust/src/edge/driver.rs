//! What moves a channel's bytes: one task that reads, writes and probes.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use nightgate_wire::{
    channel::{self, FrameError, Limits, Message},
    edge::{self, content},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{
    channel::{Awaited, Event, Outgoing, PortEntry, PortKind, Shared, weight},
    queue::{Receiver, TrySendError},
};

/// How long one circuit whose application does not read may hold up the others on its channel
/// before it is closed.
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(30);

/// Silence after which the router is asked for a sign of life; as long without one is the end.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(20);

/// Bytes gathered into one write.
const WRITE_BATCH: usize = 128 * 1024;

/// Bytes read at once.
const READ_CHUNK: usize = 64 * 1024;

/// Answers of the channel itself that may wait to be written.
const OWN_ANSWERS: usize = 16;

/// Content types and headers of the router's questions about ports (OpenZiti `edge_client.proto`).
mod inspect {
    pub(super) const REQUEST: i32 = 60_798;
    pub(super) const RESPONSE: i32 = 60_799;
    pub(super) const CONN_TYPE: i32 = 1022;
}

/// Why a channel ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverError {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the router closed the connection")]
    ClosedByRouter,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the router gave no sign of life for {} seconds", 2 * PROBE_INTERVAL.as_secs())]
    Silent,
}

/// Reads messages one by one.
pub(crate) struct FrameReader<R> {
    input: R,
    buffer: BytesMut,
}

/// Runs the channel until it is lost or nobody uses it any more, then closes it.
pub(super) async fn drive<S: AsyncRead + AsyncWrite>(
    shared: Arc<Shared>,
    stream: S,
    buffered: BytesMut,
    to_write: Receiver<Outgoing>,
    next_sequence: i32,
) -> Result<(), DriverError> {
    let (input, output) = tokio::io::split(stream);
    let (own, own_answers) = mpsc::channel(OWN_ANSWERS);
    let heard = AtomicBool::new(true);
    let mut reading = FrameReader { input, buffer: buffered };
    let mut writing = Writing {
        shared: &shared,
        output,
        to_write,
        own_answers,
        next_sequence,
        written: Vec::new(),
    };
    let ended = tokio::select! {
        ended = read(&shared, &mut reading, &own, &heard) => ended,
        ended = writing.run() => ended,
        ended = probe(&own, &heard) => ended,
    };
    shared.close();
    ended
}

impl<R> FrameReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, buffer: BytesMut::new() }
    }

    /// The connection itself.
    pub(super) fn get_mut(&mut self) -> &mut R {
        &mut self.input
    }

    /// The connection, and what was read beyond the last message.
    pub(super) fn into_parts(self) -> (R, BytesMut) {
        (self.input, self.buffer)
    }
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// The next message.
    pub(crate) async fn next(&mut self, limits: Limits) -> Result<Message, DriverError> {
        loop {
            if let Some(message) = Message::decode(&mut self.buffer, limits)? {
                return Ok(message);
            }
            self.buffer.reserve(READ_CHUNK);
            if self.input.read_buf(&mut self.buffer).await? == 0 {
                return Err(DriverError::ClosedByRouter);
            }
        }
    }
}

async fn read(
    shared: &Shared,
    frames: &mut FrameReader<impl AsyncRead + Unpin>,
    own: &mpsc::Sender<Message>,
    heard: &AtomicBool,
) -> Result<(), DriverError> {
    loop {
        let message = frames.next(Limits::EDGE).await?;
        heard.store(true, Ordering::Relaxed);
        dispatch(shared, message, own).await;
    }
}

async fn dispatch(shared: &Shared, message: Message, own: &mpsc::Sender<Message>) {
    if let Some(waiting) = message.reply_for().and_then(|request| shared.answered(request)) {
        // Whoever asked may have given up.
        let _unneeded = waiting.send(message);
        return;
    }
    let answer = match message.content_type {
        channel::content::LATENCY => Some(latency_answer(&message)),
        inspect::REQUEST => Some(inspection_answer(shared, &message)),
        content::DATA | content::DIAL | content::STATE_CLOSED => {
            dispatch_to_port(shared, message).await
        }
        unknown => {
            tracing::debug!(content_type = unknown, "message of unknown type ignored");
            None
        }
    };
    if let Some(answer) = answer {
        // A router that asks faster than it reads does without some answers.
        drop(own.try_send(answer));
    }
}

/// Hands a message to its port. Returns what to tell the router if that cannot be done.
async fn dispatch_to_port(shared: &Shared, message: Message) -> Option<Message> {
    let id = message.headers.u32(edge::header::CONN_ID)?;
    if message.content_type == content::STATE_CLOSED {
        shared.end_port(id, String::from_utf8_lossy(&message.body).into_owned());
        return None;
    }
    let event = match message.content_type {
        content::DIAL => Event::Dial(message),
        _ => Event::Data {
            flags: message.headers.u32(edge::header::FLAGS).unwrap_or(0),
            // A copy, because a short body would keep the whole read buffer in memory.
            body: Bytes::copy_from_slice(&message.body),
        },
    };
    let port = shared.port(id)?;
    match deliver(&port, event).await {
        Delivered::Yes => None,
        Delivered::Stalled => {
            tracing::warn!(connection = id, "connection closed: nobody reads it");
            shared.end_port(id, "this end did not read what it was sent".into());
            let farewell = match port.kind {
                PortKind::Circuit => content::STATE_CLOSED,
                PortKind::Binding => content::UNBIND,
            };
            let mut notice = Message::new(farewell);
            notice.headers.put_u32(edge::header::CONN_ID, id);
            Some(notice)
        }
    }
}

enum Delivered {
    Yes,
    Stalled,
}

async fn deliver(port: &PortEntry, event: Event) -> Delivered {
    let weight = match &event {
        Event::Data { body, .. } => weight(body),
        Event::Dial(message) => weight(&message.body),
        Event::Closed { .. } => 0,
    };
    // A receiver that is gone needs nothing: its port tells the router.
    match port.queue.try_send(event, weight) {
        Ok(()) | Err(TrySendError::Closed) => Delivered::Yes,
        Err(TrySendError::Full(event)) => {
            match timeout(STALL_LIMIT, port.queue.send(event, weight)).await {
                Ok(Ok(()) | Err(_)) => Delivered::Yes,
                Err(_elapsed) => Delivered::Stalled,
            }
        }
    }
}

fn latency_answer(probe: &Message) -> Message {
    let mut answer = Message::new(channel::content::RESULT).in_reply_to(probe.sequence);
    answer.headers.put_true(channel::header::RESULT_SUCCESS);
    if let Some(reflected) = probe.headers.bytes(channel::header::REFLECTED) {
        answer.headers.put(channel::header::REFLECTED, reflected.clone());
    }
    answer
}

/// Tells the router whether a port that it knows still exists.
fn inspection_answer(shared: &Shared, request: &Message) -> Message {
    let id = request.headers.u32(edge::header::CONN_ID).unwrap_or(0);
    let kind = shared.port(id).map_or(0, |port| port.kind as u8);
    let mut answer = Message::new(inspect::RESPONSE).in_reply_to(request.sequence);
    answer.headers.put_u32(edge::header::CONN_ID, id);
    answer.headers.put(inspect::CONN_TYPE, vec![kind]);
    answer
}

async fn probe(own: &mpsc::Sender<Message>, heard: &AtomicBool) -> Result<(), DriverError> {
    loop {
        sleep(PROBE_INTERVAL).await;
        if heard.swap(false, Ordering::Relaxed) {
            continue;
        }
        let mut message = Message::new(channel::content::LATENCY);
        message.headers.put(channel::header::REFLECTED, vec![0; 8]);
        drop(own.try_send(message));
        sleep(PROBE_INTERVAL).await;
        if !heard.load(Ordering::Relaxed) {
            return Err(DriverError::Silent);
        }
    }
}

struct Writing<'a, W> {
    shared: &'a Shared,
    output: W,
    to_write: Receiver<Outgoing>,
    own_answers: mpsc::Receiver<Message>,
    next_sequence: i32,
    /// Who waits for messages of the current batch to be written.
    written: Vec<oneshot::Sender<()>>,
}

impl<W: AsyncWrite + Unpin> Writing<'_, W> {
    /// Writes until nobody is left who could send.
    async fn run(&mut self) -> Result<(), DriverError> {
        let mut batch = BytesMut::new();
        loop {
            let first = tokio::select! {
                entry = self.to_write.recv() => entry,
                Some(message) = self.own_answers.recv() => Some(Outgoing { message, awaited: Awaited::Nothing }),
            };
            let Some(first) = first else {
                self.output.shutdown().await?;
                return Ok(());
            };
            self.encode(first, &mut batch);
            while batch.len() < WRITE_BATCH {
                let Some(next) = self.to_write.try_recv() else { break };
                self.encode(next, &mut batch);
            }
            self.output.write_all_buf(&mut batch).await?;
            self.output.flush().await?;
            batch.clear();
            for written in self.written.drain(..) {
                // Whoever waited may have given up.
                let _unneeded = written.send(());
            }
        }
    }

    fn encode(&mut self, entry: Outgoing, batch: &mut BytesMut) {
        let Outgoing { mut message, awaited } = entry;
        message.sequence = self.next_sequence;
        self.next_sequence = self.next_sequence.checked_add(1).unwrap_or(1);
        match awaited {
            Awaited::Nothing => {}
            Awaited::Written(written) => self.written.push(written),
            Awaited::Answer(answer) => self.shared.expect_answer(message.sequence, answer),
        }
        message.encode(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        edge::Channel,
        scripted::{channel, circuit},
    };

    #[tokio::test]
    async fn latency_probe_is_answered_with_its_stamp() {
        let (_channel, mut router) = channel().await;
        let mut probe = Message::new(channel::content::LATENCY);
        probe.sequence = 77;
        probe.headers.put(channel::header::REFLECTED, vec![1, 2, 3]);

        router.send(probe).await;

        let answer = router.recv().await;
        assert_eq!(answer.content_type, channel::content::RESULT);
        assert_eq!(answer.reply_for(), Some(77));
        assert_eq!(answer.headers.bytes(channel::header::REFLECTED).unwrap().as_ref(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn router_learns_which_connections_exist() {
        let (channel, mut router) = channel().await;
        let (_stream, host) = circuit(&channel, &mut router, false).await;

        for (id, expected) in [(host.id, 1), (host.id + 1, 0)] {
            let mut question = Message::new(inspect::REQUEST);
            question.headers.put_u32(edge::header::CONN_ID, id);
            router.send(question).await;
            let answer = router.recv().await;
            assert_eq!(answer.content_type, inspect::RESPONSE);
            assert_eq!(answer.headers.bytes(inspect::CONN_TYPE).unwrap().as_ref(), [expected]);
        }
    }

    #[tokio::test]
    async fn messages_that_mean_nothing_here_do_no_harm() {
        let (channel, mut router) = channel().await;
        for content_type in [4, 60_793, 60_801, content::DATA, content::DIAL] {
            router.send(Message::new(content_type)).await;
        }
        let mut stray = Message::new(content::DATA).with_body("x");
        stray.headers.put_u32(edge::header::CONN_ID, 4_000_000_000);
        router.send(stray).await;

        circuit(&channel, &mut router, true).await;
    }

    #[tokio::test(start_paused = true)]
    async fn silent_router_is_probed_and_then_given_up() {
        let (channel, mut router) = channel().await;

        let probe = router.recv().await;
        assert_eq!(probe.content_type, channel::content::LATENCY);
        let mut answer = Message::new(channel::content::RESULT).in_reply_to(probe.sequence);
        answer.headers.put_true(channel::header::RESULT_SUCCESS);
        router.send(answer).await;
        sleep(PROBE_INTERVAL).await;
        assert!(Channel::is_open(&channel));

        channel.closed().await;
    }

    #[tokio::test]
    async fn bytes_that_are_no_message_end_the_channel() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();

        let greeted = crate::edge::greet(ours, "router:443", "token").await;

        assert!(greeted.is_err());
    }
}
