//! Secrets that circuits leave for data that goes with later dials, until they are used or too old.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::early::EarlySecret;

/// Secrets that are kept; the oldest goes first.
const MAX_KEPT: usize = 1_024;

/// How long a secret is good. Whoever was allowed to host the service when it was made could read what is sent under it,
/// so not for long.
const LIFETIME: Duration = Duration::from_secs(600);

/// Secrets by what they are found by: at the dialer whom they are for, at the host their name.
#[derive(Debug)]
pub struct EarlySecrets<K>(Mutex<VecDeque<(Instant, K, EarlySecret)>>);

impl<K> Default for EarlySecrets<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: PartialEq> EarlySecrets<K> {
    /// Keeps one; the oldest goes if there are 1,024.
    pub fn put(&self, key: K, secret: EarlySecret, now: Instant) {
        let mut kept = self.good(now);
        if kept.len() >= MAX_KEPT {
            kept.pop_front();
        }
        kept.push_back((now, key, secret));
    }

    /// The newest one: it is kept no longer.
    pub fn take(&self, key: &K, now: Instant) -> Option<EarlySecret> {
        let mut kept = self.good(now);
        let at = kept.iter().rposition(|(_, other, _)| other == key)?;
        kept.remove(at).map(|(_, _, secret)| secret)
    }

    /// Whether there is one.
    pub fn has(&self, key: &K, now: Instant) -> bool {
        self.good(now).iter().any(|(_, other, _)| other == key)
    }

    /// Those that are not too old.
    fn good(&self, now: Instant) -> MutexGuard<'_, VecDeque<(Instant, K, EarlySecret)>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = |(since, ..): &(Instant, K, _)| now.saturating_duration_since(*since) > LIFETIME;
        while kept.front().is_some_and(old) {
            kept.pop_front();
        }
        kept
    }
}
