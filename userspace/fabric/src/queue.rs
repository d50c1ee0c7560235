//! What waits to be written to a link: fair between circuits, and bounded.
//!
//! Deficit round robin (Shreedhar and Varghese 1995) over the paths of circuits, so that one circuit
//! delays another by a frame and not by its window. What no circuit's data must delay (pings,
//! acknowledgements, circuits that open, move or end) goes first. When the bound is reached, the path
//! with the most bytes loses its last frame, as in FQ-CoDel (RFC 8290, section 4.1.2): who fills a
//! router pays for it, and ends send again what was lost. What is of no use to its receiver does not take the link's time:
//! what follows a dropped frame (the receiver is told when those before it have gone), and what is sent again although
//! it waits here.

use std::collections::{BTreeMap, VecDeque};

use nightgate_wire::link::{Ack, Frame, Numbered, PathId, Wish};

/// Bytes that a path may send before it is the next one's turn.
const QUANTUM: usize = 32 * 1024;

/// Bytes of data that wait at most, if nothing else is said. Half of it may be of one path: its largest window
/// ([`crate::MAX_WINDOW`]) twice, once more when its ends repeat it.
const LIMIT: usize = 64 * 1024 * 1024;

/// Bytes of requests for circuits and paths that wait at most: who floods a slow link with them is not
/// answered, and nothing else suffers.
const REQUEST_LIMIT: usize = 1024 * 1024;

/// Bytes of all other frames that go first, with what each takes besides its own: the end of every circuit that a link
/// can carry fits. A neighbour for which more waits does not read what it asked for.
const FIRST_LIMIT: usize = 32 * 1024 * 1024;
const FIRST_OVERHEAD: usize = 160;

/// The frames of one direction of a link.
#[derive(Debug)]
pub struct LinkQueue {
    limit: usize,
    ping: Option<Frame>,
    pong: Option<Frame>,
    first: VecDeque<First>,
    /// The newest acknowledgement of each path.
    acks: BTreeMap<PathId, Ack>,
    requests: usize,
    /// Bytes of frames in `first` that are not requests.
    answers: usize,
    paths: BTreeMap<PathId, Waiting>,
    turns: VecDeque<PathId>,
    bytes: usize,
    dropped: u64,
}

#[derive(Debug)]
enum First {
    Frame(Frame),
    Ack(PathId),
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<(usize, Frame)>,
    bytes: usize,
    deficit: usize,
    /// The message that was dropped: those after it are useless until it comes again.
    gap: Option<u64>,
}

impl Default for LinkQueue {
    fn default() -> Self {
        Self::bounded(LIMIT)
    }
}

impl LinkQueue {
    /// A queue for so many bytes of data.
    pub fn bounded(limit: usize) -> Self {
        Self {
            limit,
            ping: None,
            pong: None,
            first: VecDeque::new(),
            acks: BTreeMap::new(),
            requests: 0,
            answers: 0,
            paths: BTreeMap::new(),
            turns: VecDeque::new(),
            bytes: 0,
            dropped: 0,
        }
    }

    /// Adds a frame.
    pub fn push(&mut self, frame: Frame) {
        match frame {
            Frame::Ping(_) => self.ping = Some(frame),
            Frame::Pong(_) => self.pong = Some(frame),
            Frame::Payload(path, _) | Frame::Fin(path, _) => self.push_data(path, frame),
            Frame::Ack(path, ack) => self.push_ack(path, ack),
            // Who asks for more than is read goes without.
            Frame::Open(..) | Frame::Reroute(..) | Frame::Trace(..) | Frame::Traced(..) => {
                let length = frame.encoded_len();
                if self.requests + length > REQUEST_LIMIT {
                    self.dropped += 1;
                    return;
                }
                self.requests += length;
                self.first.push_back(First::Frame(frame));
            }
            Frame::Refused(path, _) | Frame::Close(path) | Frame::Unroute(path, _) => {
                // Whatever of it waits is not wanted any more.
                if let Some(waiting) = self.paths.remove(&path) {
                    self.bytes -= waiting.bytes;
                }
                self.push_first(frame);
            }
            Frame::Hello(_) | Frame::Opened(..) | Frame::Rerouted(..) | Frame::Hosts(_) => {
                self.push_first(frame);
            }
        }
    }

    /// Takes the frame that is to be written next.
    pub fn pop(&mut self) -> Option<Frame> {
        if let Some(frame) = self.pong.take().or_else(|| self.ping.take()) {
            return Some(frame);
        }
        match self.first.pop_front() {
            Some(First::Ack(path)) => self.acks.remove(&path).map(|ack| Frame::Ack(path, ack)),
            Some(First::Frame(frame)) => {
                if let Frame::Open(..) | Frame::Reroute(..) | Frame::Trace(..) | Frame::Traced(..) =
                    &frame
                {
                    self.requests -= frame.encoded_len();
                } else {
                    self.answers -= frame.encoded_len() + FIRST_OVERHEAD;
                }
                Some(frame)
            }
            None => self.pop_data(),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.bytes == 0 && self.ping.is_none() && self.pong.is_none()
    }

    /// Whether so much is left unread that the link has to end.
    pub fn is_overrun(&self) -> bool {
        self.answers > FIRST_LIMIT
    }

    /// Bytes of data that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames that were dropped since the link stands.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn push_first(&mut self, frame: Frame) {
        self.answers += frame.encoded_len() + FIRST_OVERHEAD;
        self.first.push_back(First::Frame(frame));
    }

    fn push_ack(&mut self, path: PathId, mut ack: Ack) {
        if let Some(before) = self.acks.get(&path) {
            if ack.wish == Wish::Nothing {
                ack.wish = before.wish;
            }
        } else {
            self.first.push_back(First::Ack(path));
        }
        self.acks.insert(path, ack);
    }

    fn push_data(&mut self, path: PathId, frame: Frame) {
        let length = frame.encoded_len();
        let waiting = self.paths.entry(path).or_insert_with(|| {
            self.turns.push_back(path);
            Waiting::default()
        });
        let number = sequence(&frame);
        // Another router's news of a gap: what waits goes first, and then this router's.
        if number == u64::MAX
            && let Some((_, last)) = waiting.frames.back()
        {
            waiting.gap.get_or_insert_with(|| sequence(last).saturating_add(1));
            return;
        }
        if waiting.gap.is_some_and(|gap| number > gap) {
            self.dropped += 1;
            return;
        }
        if let (Some((_, first)), Some((_, last))) = (waiting.frames.front(), waiting.frames.back())
            && number <= sequence(last)
        {
            if number >= sequence(first) {
                return;
            }
            // Sent again from before what waits: that comes again too, in its place.
            self.bytes -= waiting.bytes;
            waiting.bytes = 0;
            waiting.frames.clear();
        }
        waiting.gap = None;
        waiting.frames.push_back((length, frame));
        waiting.bytes += length;
        self.bytes += length;
        if waiting.bytes > self.limit / 2 {
            self.drop_last(path);
        } else if self.bytes > self.limit {
            let longest = self.paths.iter().max_by_key(|(_, waiting)| waiting.bytes);
            if let Some(path) = longest.map(|(path, _)| *path) {
                self.drop_last(path);
            }
        }
    }

    fn drop_last(&mut self, path: PathId) {
        let Some(waiting) = self.paths.get_mut(&path) else { return };
        let Some((length, frame)) = waiting.frames.pop_back() else { return };
        waiting.gap = Some(sequence(&frame));
        waiting.bytes -= length;
        self.bytes -= length;
        self.dropped += 1;
    }

    fn pop_data(&mut self) -> Option<Frame> {
        loop {
            let path = *self.turns.front()?;
            let Some(waiting) = self.paths.get_mut(&path) else {
                self.turns.pop_front();
                continue;
            };
            let Some((length, _)) = waiting.frames.front() else {
                self.turns.pop_front();
                let gap = waiting.gap.is_some();
                self.paths.remove(&path);
                if gap {
                    return Some(news_of_gap(path));
                }
                continue;
            };
            if waiting.deficit < *length {
                waiting.deficit += QUANTUM;
                self.turns.rotate_left(1);
                continue;
            }
            waiting.deficit -= length;
            waiting.bytes -= length;
            self.bytes -= length;
            return waiting.frames.pop_front().map(|(_, frame)| frame);
        }
    }
}

/// Position of a frame of data in its stream.
fn sequence(frame: &Frame) -> u64 {
    match frame {
        Frame::Payload(_, message) => message.sequence,
        Frame::Fin(_, messages) => *messages,
        Frame::Hello(_)
        | Frame::Open(..)
        | Frame::Opened(..)
        | Frame::Refused(..)
        | Frame::Reroute(..)
        | Frame::Rerouted(..)
        | Frame::Ack(..)
        | Frame::Close(_)
        | Frame::Unroute(..)
        | Frame::Trace(..)
        | Frame::Traced(..)
        | Frame::Hosts(_)
        | Frame::Ping(_)
        | Frame::Pong(_) => u64::MAX,
    }
}

/// Makes the receiver ask for what is missing: a message that is never the next one.
fn news_of_gap(path: PathId) -> Frame {
    Frame::Payload(path, Numbered { sequence: u64::MAX, ..Numbered::default() })
}

#[cfg(test)]
mod tests;
