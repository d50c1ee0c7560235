//! What a handshake leaves to both of its ends so that their next circuits need no agreement on keys: a line of secrets,
//! one for each circuit, of which each end keeps none that was used.
//!
//! Both ends have forgotten a circuit's secret when the circuit is there, so it cannot be computed later from what they
//! keep. Whoever takes a line from memory can read the circuits that rest on it afterwards: a line is short-lived.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nightgate_identity::ProvenIdentity;

use super::{
    cipher::Cipher,
    handshake::Binding,
    schedule::{ID_LENGTH, TrafficSecret},
};

/// How long a line is good: as long, a certificate may have been revoked without the other end's knowledge.
pub const LINE_LIFETIME: Duration = Duration::from_secs(600);

/// How long dials agree on keys anew after a host did not know a line: it may be one of several, or have lost its memory.
pub const LINE_PAUSE: Duration = Duration::from_secs(60);

/// Circuits that rest on one line; then the keys are agreed anew.
pub const LINE_CIRCUITS: u32 = 1 << 14;

/// Dials that may arrive before earlier ones of the same line, or instead of them: where many begin at once on several threads,
/// one may overtake all others of a time slice. Each costs the host two hashes of HKDF, and while it is missing, its secret's room.
const WINDOW: u32 = 256;

/// Lines that one side of an end keeps; the oldest go first.
const MAX_LINES: usize = 4_096;

/// Lines that go together where one more would be too many, so that not each one that comes has to look at all.
const LEAVING: usize = MAX_LINES / 16;

/// Names a line to the end that has it; says nothing about it.
pub(super) type LineId = [u8; ID_LENGTH];

/// Secrets of circuits to come, in their order.
pub(crate) struct Line {
    pub(super) id: LineId,
    cipher: Cipher,
    peer: ProvenIdentity,
    since: Instant,
    /// The secret that `next` is made from.
    secret: TrafficSecret,
    next: u32,
    /// At the host: secrets before `next` whose circuits have not come.
    passed: BTreeMap<u32, TrafficSecret>,
}

/// One circuit's secret, out of a line.
pub(crate) struct Turn {
    pub(super) id: LineId,
    pub(super) number: u32,
    pub(super) cipher: Cipher,
    pub(super) peer: ProvenIdentity,
    pub(super) secret: TrafficSecret,
}

/// What an end knows of lines to a host.
enum Known {
    Line(Line),
    /// The host did not know the last one.
    Paused(Instant),
}

/// The lines of one identity.
#[derive(Default)]
pub struct Lines {
    /// As the dialer, by service and instance.
    dialing: Mutex<HashMap<(String, String), Known>>,
    /// As the host.
    hosting: Mutex<HashMap<LineId, Line>>,
}

impl Line {
    pub(super) fn new(
        cipher: Cipher,
        secret: TrafficSecret,
        peer: ProvenIdentity,
        since: Instant,
    ) -> Self {
        Self { id: secret.id(), cipher, peer, since, secret, next: 0, passed: BTreeMap::new() }
    }

    fn is_good(&self, now: Instant) -> bool {
        is_young(self.since, LINE_LIFETIME, now) && self.next < LINE_CIRCUITS
    }

    /// The next secret. It cannot be computed from what the line holds then.
    fn step(&mut self) -> (u32, TrafficSecret) {
        let number = self.next;
        let secret = self.secret.of_circuit();
        self.secret = self.secret.next();
        self.next += 1;
        (number, secret)
    }

    fn turn(&self, number: u32, secret: TrafficSecret) -> Turn {
        let Self { id, cipher, ref peer, .. } = *self;
        Turn { id, number, cipher, peer: peer.clone(), secret }
    }

    /// At the host, the secret of this number if it was not used and is not far ahead. It stays unless `is_proven`.
    fn take(
        &mut self,
        number: u32,
        is_proven: impl FnOnce(&TrafficSecret) -> bool,
    ) -> Option<Turn> {
        if let Some(secret) = self.passed.remove(&number) {
            if is_proven(&secret) {
                return Some(self.turn(number, secret));
            }
            self.passed.insert(number, secret);
            return None;
        }
        let ahead = number.checked_sub(self.next)?;
        if ahead >= WINDOW || number >= LINE_CIRCUITS {
            return None;
        }
        // Not the line itself: what somebody made up must not move it.
        let (mut chain, mut passed) = (self.secret.clone(), BTreeMap::new());
        for number in self.next..self.next + ahead {
            passed.insert(number, chain.of_circuit());
            chain = chain.next();
        }
        let secret = chain.of_circuit();
        if !is_proven(&secret) {
            return None;
        }
        (self.secret, self.next) = (chain.next(), number + 1);
        self.passed.append(&mut passed);
        while self.passed.len() > WINDOW as usize {
            self.passed.pop_first();
        }
        Some(self.turn(number, secret))
    }
}

impl Lines {
    /// The dialer's next secret for a circuit to a host of this service, if there is a line to one.
    pub(crate) fn turn(&self, binding: Binding<'_>, now: Instant) -> Option<Turn> {
        let mut dialing = locked(&self.dialing);
        let key = key(binding.service, binding.instance);
        let Some(Known::Line(line)) = dialing.get_mut(&key) else { return None };
        if !line.is_good(now) {
            return None;
        }
        let (number, secret) = line.step();
        Some(line.turn(number, secret))
    }

    /// Keeps what a handshake left to the dialer.
    pub(crate) fn keep_dialing(&self, service: &str, instance: &str, line: Line, now: Instant) {
        let mut dialing = locked(&self.dialing);
        let key = key(service, instance);
        match dialing.get(&key) {
            Some(Known::Paused(since)) if is_young(*since, LINE_PAUSE, now) => {}
            // Several dials may have agreed on keys at once: the host has the other line too, and further on.
            Some(Known::Line(other)) if other.is_good(now) => {}
            Some(_) | None => {
                make_room(&mut dialing, Known::since);
                dialing.insert(key, Known::Line(line));
            }
        }
    }

    /// The host that was dialed did not know the line.
    pub(crate) fn missed(&self, service: &str, instance: &str, now: Instant) {
        if let Some(known) = locked(&self.dialing).get_mut(&key(service, instance)) {
            *known = Known::Paused(now);
        }
    }

    /// Keeps what a handshake left to the host.
    pub(crate) fn keep_hosting(&self, line: Line) {
        let mut hosting = locked(&self.hosting);
        make_room(&mut hosting, |line| line.since);
        hosting.insert(line.id, line);
    }

    /// The secret that a dialer names, if it is there, was not used, and the dialer proves to have it.
    pub(super) fn take(
        &self,
        id: &LineId,
        number: u32,
        now: Instant,
        is_proven: impl FnOnce(&TrafficSecret) -> bool,
    ) -> Option<Turn> {
        let mut hosting = locked(&self.hosting);
        let line = hosting.get_mut(id)?;
        if !is_young(line.since, LINE_LIFETIME, now) {
            hosting.remove(id);
            return None;
        }
        line.take(number, is_proven)
    }
}

impl Known {
    fn since(&self) -> Instant {
        match self {
            Self::Line(line) => line.since,
            Self::Paused(since) => *since,
        }
    }
}

fn key(service: &str, instance: &str) -> (String, String) {
    (service.to_owned(), instance.to_owned())
}

fn is_young(since: Instant, limit: Duration, now: Instant) -> bool {
    now.saturating_duration_since(since) < limit
}

fn locked<T>(lines: &Mutex<T>) -> MutexGuard<'_, T> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the oldest go where one more would be too many.
fn make_room<K: Eq + Hash, V>(lines: &mut HashMap<K, V>, since: impl Fn(&V) -> Instant) {
    if lines.len() < MAX_LINES {
        return;
    }
    let mut ages: Vec<Instant> = lines.values().map(&since).collect();
    let (_, &mut last, _) = ages.select_nth_unstable(LEAVING - 1);
    lines.retain(|_, line| since(line) > last);
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("dialing", &locked(&self.dialing).len())
            .field("hosting", &locked(&self.hosting).len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
