//! Circuits that their hosts' routers lost: told of when the dialers' routers do not tell.

use std::collections::{HashSet, VecDeque};

use nightgate_model::{activity::CircuitNote, event::CircuitChange, id::RouterId};
use nightgate_store::Timestamp;

/// How long the router of a dialer, if it is connected, may take to tell of the end itself: as long as routers wait for a
/// path that comes back, in milliseconds.
const PATIENCE: i64 = 30_000;

/// Digits of a circuit's id. What is longer is no id, and not remembered.
const ID_LENGTH: usize = 16;

/// Ends of circuits that are remembered, and most that wait.
const MAX_REMEMBERED: usize = 65_536;
const MAX_WAITING: usize = 16_384;

/// What is known of the ends of circuits.
#[derive(Debug, Default)]
pub(super) struct LostCircuits {
    /// Ids of circuits whose end was told of, the first one first.
    told: VecDeque<String>,
    is_told: HashSet<String>,
    /// Since when the words of hosts' routers wait, the first one first.
    waiting: VecDeque<(Timestamp, RouterId, CircuitNote)>,
}

impl LostCircuits {
    /// Takes a note that a circuit was closed, and gives it back if it is to be told of at once.
    pub(super) fn handle(
        &mut self,
        reporter: &RouterId,
        note: CircuitNote,
        is_connected: impl Fn(&RouterId) -> bool,
        now: Timestamp,
    ) -> Option<CircuitNote> {
        let Some(id) = closed_circuit(&note) else { return Some(note) };
        let dialers = note.path.first().filter(|first| *first != reporter);
        match dialers {
            Some(dialers) if note.path.last() == Some(reporter) => {
                if self.is_told.contains(&id) {
                    return None;
                }
                if is_connected(dialers) && self.waiting.len() < MAX_WAITING {
                    self.waiting.push_back((now, reporter.clone(), note));
                    return None;
                }
            }
            Some(_) | None => {}
        }
        self.remember(id);
        Some(note)
    }

    /// The words that have waited long enough, and whose.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<(RouterId, CircuitNote)> {
        let mut due = Vec::new();
        while let Some((since, ..)) = self.waiting.front()
            // The system's clock may be set back.
            && !(since.0..since.0 + PATIENCE).contains(&now.0)
            && let Some((since, reporter, mut note)) = self.waiting.pop_front()
        {
            let Some(id) = note.circuit.clone().filter(|id| !self.is_told.contains(id)) else {
                continue;
            };
            self.remember(id);
            note.ago = note.ago.saturating_add(u64::try_from(now.0 - since.0).unwrap_or_default());
            due.push((reporter, note));
        }
        due
    }

    fn remember(&mut self, id: String) {
        if self.is_told.insert(id.clone()) {
            self.told.push_back(id);
        }
        if self.told.len() > MAX_REMEMBERED
            && let Some(oldest) = self.told.pop_front()
        {
            self.is_told.remove(&oldest);
        }
    }
}

fn closed_circuit(note: &CircuitNote) -> Option<String> {
    let id = note.circuit.as_ref().filter(|id| id.len() <= ID_LENGTH)?;
    (note.change == CircuitChange::Closed).then(|| id.clone())
}

#[cfg(test)]
mod tests {
    use nightgate_model::id::{IdentityId, ServiceId};

    use super::*;

    fn note(circuit: &str) -> CircuitNote {
        CircuitNote {
            change: CircuitChange::Closed,
            ago: 100,
            circuit: Some(circuit.into()),
            service: ServiceId::new("s"),
            dialer: IdentityId::new("d"),
            host: None,
            path: ["d", "m", "h"].map(RouterId::new).into(),
            cause: Some("link-lost".into()),
            sent: 0,
            received: 0,
            moves: 0,
            milliseconds: 0,
        }
    }

    /// What comes of a note of this router at once.
    fn handle(lost: &mut LostCircuits, reporter: &str, circuit: &str, at: i64) -> bool {
        let there = |router: &RouterId| router.as_str() == "d";
        lost.handle(&RouterId::new(reporter), note(circuit), there, Timestamp(at)).is_some()
    }

    #[test]
    fn the_word_of_the_hosts_router_counts_when_the_dialers_says_nothing() {
        let mut lost = LostCircuits::default();
        assert!(!handle(&mut lost, "h", "told", 0));
        assert!(!handle(&mut lost, "h", "not told", 1));
        assert!(handle(&mut lost, "d", "told", 2));
        assert!(!handle(&mut lost, "h", "told", 3), "after the dialer's router");
        assert!(lost.take_due(Timestamp(PATIENCE)).is_empty());
        let due = lost.take_due(Timestamp(PATIENCE + 1));
        assert_eq!(due.len(), 1);
        let (reporter, note) = &due[0];
        assert_eq!((reporter.as_str(), note.circuit.as_deref()), ("h", Some("not told")));
        assert_eq!(note.ago, 100 + u64::try_from(PATIENCE).unwrap());
        assert!(handle(&mut lost, "d", "not told", 90_000), "it comes back: its own word");
    }

    #[test]
    fn nobody_waits_for_a_router_that_is_not_there() {
        let mut lost = LostCircuits::default();
        let gone = |_: &RouterId| false;
        assert!(lost.handle(&RouterId::new("h"), note("c"), gone, Timestamp(0)).is_some());
        assert!(lost.handle(&RouterId::new("h"), note("c"), gone, Timestamp(1)).is_none());
    }

    #[test]
    fn what_is_kept_has_a_limit() {
        let mut lost = LostCircuits::default();
        for number in 0..MAX_REMEMBERED + 10 {
            handle(&mut lost, "d", &number.to_string(), 0);
            handle(&mut lost, "h", &format!("h{number}"), 0);
        }
        assert_eq!((lost.is_told.len(), lost.told.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
        assert_eq!(lost.waiting.len(), MAX_WAITING);
    }
}
