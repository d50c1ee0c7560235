//! The latest events, in memory. Readers follow at their own pace: whoever is too slow loses the oldest, and is
//! told how many.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nightgate_model::{
    event::{ControllerChange, ControllerEvent, Event, GapEvent, Occurrence, VERSION},
    id::RouterId,
};
use nightgate_store::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock;

/// Events that are kept for readers.
const MAX_LINES: usize = 16_384;

/// Bytes of them.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Events that a reader gets at once.
const BATCH: usize = 256;

/// The latest events.
pub(crate) struct EventLog {
    recent: Mutex<Recent>,
    newest: watch::Sender<u64>,
    closed: CancellationToken,
}

#[derive(Default)]
struct Recent {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    /// Number of the latest event.
    number: u64,
}

/// One event as readers get it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Line {
    pub(crate) number: u64,
    /// The word of its `type`.
    pub(crate) kind: &'static str,
    /// JSON with a line feed.
    pub(crate) text: String,
}

/// Where one reader is.
pub(crate) struct Reader {
    log: Arc<EventLog>,
    next: u64,
    newest: watch::Receiver<u64>,
}

impl EventLog {
    pub(crate) fn new() -> Self {
        Self {
            recent: Mutex::default(),
            newest: watch::Sender::new(0),
            closed: CancellationToken::new(),
        }
    }

    /// Whoever follows may go.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Waits for [`Self::close`].
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Adds an event that happened at this moment. Waits for no reader.
    pub(crate) fn add(&self, at: Timestamp, what: Occurrence) {
        let mut recent = self.lock();
        recent.number += 1;
        let line = Line::new(recent.number, at, what);
        recent.bytes += line.text.len();
        recent.lines.push_back(Arc::new(line));
        while recent.lines.len() > MAX_LINES || recent.bytes > MAX_BYTES {
            let Some(oldest) = recent.lines.pop_front() else { break };
            recent.bytes -= oldest.text.len();
        }
        // Under the lock, so that the number never goes back.
        self.newest.send_replace(recent.number);
    }

    /// Adds what happens to this controller.
    pub(crate) fn add_controller(&self, event: ControllerChange) {
        let release = env!("CARGO_PKG_VERSION").to_owned();
        let what = Occurrence::Controller(ControllerEvent { event, release });
        self.add(clock::timestamp(), what);
    }

    /// Adds that a router has left out so many events.
    pub(crate) fn add_gap(&self, router: RouterId, lost: u64) {
        let gap = GapEvent { lost, router_id: Some(router) };
        self.add(clock::timestamp(), Occurrence::Gap(gap));
    }

    /// Number of the latest event, bytes that are kept, and most that may be.
    pub(crate) fn usage(&self) -> (u64, usize, usize) {
        let recent = self.lock();
        (recent.number, recent.bytes, MAX_BYTES)
    }

    /// Reads from the event after this number on; a number that is still to come is of an earlier controller.
    pub(crate) fn read_after(self: &Arc<Self>, after: u64) -> Reader {
        let after = if after > self.lock().number { 0 } else { after };
        Reader { log: Arc::clone(self), next: after + 1, newest: self.newest.subscribe() }
    }

    /// Reads from the last so many events of these kinds on.
    pub(crate) fn read_last(
        self: &Arc<Self>,
        count: usize,
        wanted: impl Fn(&Line) -> bool,
    ) -> Reader {
        let recent = self.lock();
        let last = recent.lines.iter().rev().filter(|line| wanted(line)).take(count).last();
        let next = last.map_or(recent.number + 1, |line| line.number);
        drop(recent);
        Reader { log: Arc::clone(self), next, newest: self.newest.subscribe() }
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// The next events, as soon as there is one; a gap comes first if some are missing.
    pub(crate) async fn next(&mut self) -> Vec<Arc<Line>> {
        let next = self.next;
        // The log is as old as its readers: it never goes first.
        drop(self.newest.wait_for(|newest| *newest >= next).await);
        self.take()
    }

    /// The next events, if there are any.
    pub(crate) fn take(&mut self) -> Vec<Arc<Line>> {
        let recent = self.log.lock();
        let oldest = recent.lines.front().map_or(recent.number + 1, |line| line.number);
        let lost = oldest.saturating_sub(self.next);
        let skip = usize::try_from(self.next.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let mut lines: Vec<_> = recent.lines.iter().skip(skip).take(BATCH).cloned().collect();
        drop(recent);
        self.next = lines.last().map_or(self.next, |last| last.number + 1);
        if lost > 0 {
            let gap = Occurrence::Gap(GapEvent { lost, router_id: None });
            lines.insert(0, Arc::new(Line::new(oldest, clock::timestamp(), gap)));
        }
        lines
    }
}

impl Line {
    fn new(number: u64, at: Timestamp, what: Occurrence) -> Self {
        let kind = what.kind();
        let event = Event { version: VERSION, number, at: clock::rfc3339(at), what };
        let mut text = serde_json::to_string(&event).expect("maps of events have text keys");
        text.push('\n');
        Self { number, kind, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(release: &str) -> Occurrence {
        let release = release.into();
        Occurrence::Controller(ControllerEvent { event: ControllerChange::Started, release })
    }

    fn read(line: &Line) -> Event {
        serde_json::from_str(&line.text).unwrap()
    }

    fn lost(batch: &[Arc<Line>]) -> u64 {
        let Occurrence::Gap(gap) = read(&batch[0]).what else { panic!("{batch:?}") };
        gap.lost
    }

    fn numbers(batch: &[Arc<Line>]) -> Vec<u64> {
        batch.iter().map(|line| line.number).collect()
    }

    #[tokio::test]
    async fn readers_get_what_is_new_in_order() {
        let log = Arc::new(EventLog::new());
        let mut reader = log.read_after(0);
        assert!(reader.take().is_empty());
        log.add(Timestamp(0), event("a"));
        log.add(Timestamp(1), event("b"));
        assert_eq!(numbers(&reader.next().await), [1, 2]);
        log.add(Timestamp(2), event("c"));
        let batch = reader.next().await;
        assert_eq!(numbers(&batch), [3]);
        let read = read(&batch[0]);
        assert_eq!((read.number, read.at.as_str()), (3, "1970-01-01T00:00:00.002Z"));
        assert_eq!(read.what, event("c"));
        assert_eq!(numbers(&log.read_after(1).take()), [2, 3]);
        assert_eq!(numbers(&log.read_after(99).take()), [1, 2, 3]);
        assert_eq!(numbers(&log.read_last(2, |_| true).take()), [2, 3]);
        assert_eq!(numbers(&log.read_last(0, |_| true).take()), [0_u64; 0]);
    }

    #[test]
    fn a_slow_reader_is_told_how_many_it_has_lost() {
        let log = Arc::new(EventLog::new());
        let mut reader = log.read_after(0);
        for _ in 0..MAX_LINES + 7 {
            log.add(Timestamp(0), event("x"));
        }
        let batch = reader.take();
        assert_eq!((lost(&batch), batch.len()), (7, BATCH + 1));
        assert_eq!(batch[1].number, 8);
        assert_eq!(reader.take()[0].number, 8 + BATCH as u64);
    }

    #[test]
    fn what_is_kept_has_a_limit_in_bytes() {
        let log = Arc::new(EventLog::new());
        let long = "x".repeat(MAX_BYTES / 2);
        for _ in 0..4 {
            log.add(Timestamp(0), event(&long));
        }
        assert_eq!(lost(&log.read_after(0).take()), 3);
        log.add(Timestamp(0), event(&"x".repeat(MAX_BYTES)));
        let batch = log.read_after(0).take();
        assert_eq!((lost(&batch), batch.len()), (5, 1));
    }
}
