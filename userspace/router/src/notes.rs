//! What happens to the circuits of this router's dialers, and which of its hosts' circuits were lost, until the
//! controller knows.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nightgate_fabric::{CircuitInfo, EndId, EndedCircuit, FailureCause, Role};
use nightgate_model::{
    activity::{CircuitNote, MAX_NOTES},
    control::RouterMessage,
    event::CircuitChange,
    id::{IdentityId, ServiceId},
};
use tokio::sync::Notify;

use crate::usage::Meter;

/// Events that wait for the controller; beyond, the oldest are left out and counted.
const MAX_WAITING: usize = 16_384;

/// How long events are collected before the controller is told.
const COALESCE: Duration = Duration::from_millis(200);

/// What waits for the controller. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    come: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Instant, CircuitNote)>,
    /// How many of `waiting` have been sent, but may not have arrived.
    sent: usize,
    /// How many were left out.
    lost: u64,
    totals: Totals,
}

/// What has happened since the router started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Moves to another path.
    pub(crate) moved: u64,
    /// Circuits that ended, by cause.
    pub(crate) closed: BTreeMap<&'static str, u64>,
}

impl Notes {
    fn push(&self, now: Instant, note: CircuitNote) {
        let mut queue = self.lock();
        if queue.waiting.len() >= MAX_WAITING {
            queue.waiting.pop_front();
            queue.sent = queue.sent.saturating_sub(1);
            queue.lost += 1;
        }
        queue.waiting.push_back((now, note));
        drop(queue);
        self.0.come.notify_one();
    }

    /// Notes a dial that failed.
    pub(crate) fn dial_failed(
        &self,
        (service, dialer): (ServiceId, IdentityId),
        cause: FailureCause,
        took: Duration,
    ) {
        let note = CircuitNote {
            change: CircuitChange::Failed,
            ago: 0,
            circuit: None,
            service,
            dialer,
            host: None,
            path: Vec::new(),
            cause: Some(cause.as_str().to_owned()),
            sent: 0,
            received: 0,
            moves: 0,
            milliseconds: milliseconds(took),
        };
        self.push(Instant::now(), note);
    }

    /// Events that the controller has not been told of yet.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// What has happened since the router started.
    pub(crate) fn totals(&self) -> Totals {
        self.lock().totals.clone()
    }

    /// Waits until there is something to tell, and a little longer.
    pub(crate) async fn come(&self) {
        self.0.come.notified().await;
        tokio::time::sleep(COALESCE).await;
    }

    /// A connection begins: what may not have arrived is told again.
    pub(crate) fn begin(&self) {
        self.lock().sent = 0;
        self.0.come.notify_one();
    }

    /// The next events to tell, if there are any.
    pub(crate) fn take(&self, now: Instant) -> Option<RouterMessage> {
        let mut queue = self.lock();
        let waiting = queue.waiting.iter().skip(queue.sent).take(MAX_NOTES);
        let aged = |(at, note): &(Instant, CircuitNote)| CircuitNote {
            ago: milliseconds(now.saturating_duration_since(*at)),
            ..note.clone()
        };
        let notes: Vec<_> = waiting.map(aged).collect();
        if notes.is_empty() {
            return None;
        }
        queue.sent += notes.len();
        Some(RouterMessage::Circuits { notes, lost: std::mem::take(&mut queue.lost) })
    }

    /// What was taken is on its way, as far as this router can know.
    pub(crate) fn sent(&self) {
        let mut queue = self.lock();
        let sent = std::mem::take(&mut queue.sent);
        queue.waiting.drain(..sent);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes what becomes of the circuits of this router's dialers. Of those of its hosts, only that they were lost: the
/// dialer's router may be what was lost, and nobody else would tell of it.
#[derive(Debug)]
pub(crate) struct Chronicle {
    notes: Notes,
    meter: Meter,
    /// Ends of circuits that stand, and since when.
    standing: HashMap<EndId, Instant>,
}

impl Chronicle {
    pub(crate) fn new(notes: Notes, meter: Meter) -> Self {
        Self { notes, meter, standing: HashMap::new() }
    }

    pub(crate) fn opened(
        &mut self,
        (end, info): (EndId, CircuitInfo),
        took: Duration,
        now: Instant,
    ) {
        self.standing.insert(end, now);
        self.meter.opened(&info);
        self.note(CircuitChange::Opened, (info, None), took, now);
    }

    /// A host of this router has accepted.
    pub(crate) fn accepted(&mut self, end: EndId, now: Instant) {
        self.standing.insert(end, now);
    }

    pub(crate) fn moved(&self, (end, info): (EndId, CircuitInfo), now: Instant) {
        if let Some(since) = self.standing.get(&end)
            && info.role == Role::Dialer
        {
            let stood = now.saturating_duration_since(*since);
            self.notes.lock().totals.moved += 1;
            self.note(CircuitChange::Moved, (info, None), stood, now);
        }
    }

    pub(crate) fn ended(&mut self, ended: EndedCircuit, now: Instant) {
        let since = self.standing.remove(&ended.end).unwrap_or(now);
        let stood = now.saturating_duration_since(since);
        if ended.info.role == Role::Host {
            if ended.cause == Some(FailureCause::LinkLost) {
                let info = as_dialer(ended.info);
                self.note(CircuitChange::Closed, (info, ended.cause), stood, now);
            }
            return;
        }
        self.meter.ended(&ended.info);
        let cause = ended.cause.map_or("closed-by-dialer", FailureCause::as_str);
        *self.notes.lock().totals.closed.entry(cause).or_default() += 1;
        self.note(CircuitChange::Closed, (ended.info, ended.cause), stood, now);
    }

    fn note(
        &self,
        change: CircuitChange,
        (info, cause): (CircuitInfo, Option<FailureCause>),
        time: Duration,
        now: Instant,
    ) {
        // Ends know both.
        let (Some(service), Some(dialer)) = (info.service, info.dialer) else { return };
        let note = CircuitNote {
            change,
            ago: 0,
            circuit: Some(info.id),
            service,
            dialer,
            host: info.host,
            path: info.path,
            cause: cause.map(|cause| cause.as_str().to_owned()),
            sent: info.sent,
            received: info.received,
            moves: info.moves,
            milliseconds: milliseconds(time),
        };
        self.notes.push(now, note);
    }
}

/// What the dialer's end has sent and received, as the host's knows it.
fn as_dialer(host: CircuitInfo) -> CircuitInfo {
    CircuitInfo { sent: host.received, received: host.sent, ..host }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(notes: &Notes, service: &str) {
        let subject = (ServiceId::new(service), IdentityId::new("i"));
        notes.dial_failed(subject, FailureCause::NoTerminator, Duration::ZERO);
    }

    fn services(message: Option<RouterMessage>) -> (Vec<String>, u64) {
        let Some(RouterMessage::Circuits { notes, lost }) = message else { panic!("{message:?}") };
        (notes.iter().map(|note| note.service.to_string()).collect(), lost)
    }

    #[test]
    fn what_did_not_leave_is_told_again() {
        let notes = Notes::default();
        let now = Instant::now();
        assert_eq!(notes.take(now), None);
        fail(&notes, "a");
        assert_eq!(services(notes.take(now)).0, ["a"]);
        assert_eq!(notes.take(now), None);
        fail(&notes, "b");
        notes.begin();
        assert_eq!(services(notes.take(now)).0, ["a", "b"]);
        notes.sent();
        notes.begin();
        assert_eq!(notes.take(now), None);
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let notes = Notes::default();
        (0..MAX_WAITING + 3).for_each(|number| fail(&notes, &number.to_string()));
        let (told, lost) = services(notes.take(Instant::now()));
        assert_eq!((told.len(), told[0].as_str(), lost), (MAX_NOTES, "3", 3));
        assert_eq!(services(notes.take(Instant::now())).1, 0);
    }

    #[test]
    fn the_age_is_that_of_the_moment_when_it_is_told() {
        let notes = Notes::default();
        fail(&notes, "a");
        let later = Instant::now() + Duration::from_secs(7);
        let Some(RouterMessage::Circuits { notes, .. }) = notes.take(later) else { panic!() };
        assert!(notes[0].ago >= 7_000);
    }
}
