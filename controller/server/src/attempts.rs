//! How often somebody may be wrong before having to wait, longer each time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use nightgate_store::Timestamp;

/// Wrong attempts in a row that cost no time.
const FREE: u32 = 5;

/// The first wait, in milliseconds; every further wrong attempt doubles it.
const FIRST_WAIT: i64 = 60 * 1000;

/// The longest wait, in milliseconds. Six digits of which three are right at a time are then guessed after
/// decades.
const LONGEST_WAIT: i64 = 60 * 60 * 1000;

/// Who has not tried for this long, in milliseconds, begins anew.
const MEMORY: i64 = 24 * 60 * 60 * 1000;

/// Those who were wrong that are remembered; beyond, who was longest ago is forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// Wrong attempts by who made them.
#[derive(Default)]
pub(crate) struct Attempts(Mutex<HashMap<String, Wrong>>);

#[derive(Clone, Copy)]
struct Wrong {
    count: u32,
    last: Timestamp,
}

impl Attempts {
    /// How long somebody has to wait for the next attempt, in milliseconds; `None` if it may be made now.
    pub(crate) fn wait(&self, who: &str, now: Timestamp) -> Option<i64> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = known.get(who)?;
        let doublings = wrong.count.checked_sub(FREE)?.min(10);
        let wait = (FIRST_WAIT << doublings).min(LONGEST_WAIT);
        Some(wrong.last.0 + wait - now.0).filter(|left| *left > 0)
    }

    /// Counts an attempt.
    pub(crate) fn count(&self, who: &str, is_right: bool, now: Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_right {
            known.remove(who);
            return;
        }
        known.retain(|_, wrong| now.0 - wrong.last.0 < MEMORY);
        if known.len() >= MAX_REMEMBERED && !known.contains_key(who) {
            let oldest = known.iter().min_by_key(|(_, wrong)| wrong.last);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                known.remove(&oldest);
            }
        }
        let wrong = known.entry(who.to_owned()).or_insert(Wrong { count: 0, last: now });
        *wrong = Wrong { count: wrong.count.saturating_add(1), last: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_wrong_again_and_again_waits_longer_each_time() {
        let attempts = Attempts::default();
        let mut now = Timestamp(0);
        for _ in 0..4 {
            attempts.count("alice", false, now);
            assert_eq!(attempts.wait("alice", now), None);
        }
        for wait in [60_000, 120_000, 240_000] {
            attempts.count("alice", false, now);
            assert_eq!(attempts.wait("alice", now), Some(wait));
            now = Timestamp(now.0 + wait);
            assert_eq!(attempts.wait("alice", now), None);
        }
        for _ in 0..100 {
            attempts.count("alice", false, now);
        }
        assert_eq!(attempts.wait("alice", now), Some(LONGEST_WAIT));
        assert_eq!(attempts.wait("bob", now), None);
        attempts.count("alice", true, now);
        assert_eq!(attempts.wait("alice", now), None);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let attempts = Attempts::default();
        for n in 0..MAX_REMEMBERED + 10 {
            attempts.count(&n.to_string(), false, Timestamp(0));
        }
        assert_eq!(attempts.0.lock().unwrap().len(), MAX_REMEMBERED);
    }
}
