//! How often one source may fail.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nightgate_store::Timestamp;
use nightgate_wire::source::Source;

/// Failures are forgotten after this many milliseconds.
const WINDOW: i64 = 60 * 1000;

/// Sources with failures that are remembered; beyond, the oldest are forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// Failures of each source.
pub(crate) struct Failures {
    limit: u32,
    counts: Mutex<HashMap<Source, (u32, Timestamp)>>,
}

impl Failures {
    /// This many in a minute.
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, counts: Mutex::default() }
    }

    /// Whether the source has failed too often.
    pub(crate) fn is_over(&self, source: Source, now: Timestamp) -> bool {
        let counts = lock(&self.counts);
        counts
            .get(&source)
            .is_some_and(|(count, began)| *count >= self.limit && now.0 - began.0 < WINDOW)
    }

    /// Counts a failure.
    pub(crate) fn count(&self, source: Source, now: Timestamp) {
        let mut counts = lock(&self.counts);
        if counts.len() >= MAX_REMEMBERED && !counts.contains_key(&source) {
            counts.retain(|_, (_, began)| now.0 - began.0 < WINDOW);
            if counts.len() >= MAX_REMEMBERED {
                let oldest = counts.iter().min_by_key(|(_, (_, began))| *began);
                if let Some(oldest) = oldest.map(|(source, _)| *source) {
                    counts.remove(&oldest);
                }
            }
        }
        let (count, began) = counts.entry(source).or_insert((0, now));
        if now.0 - began.0 >= WINDOW {
            (*count, *began) = (0, now);
        }
        *count += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(address: &str) -> Source {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn failures_are_counted_for_each_source_and_forgotten_after_a_minute() {
        let failures = Failures::new(2);
        let (a, b) = (source("10.0.0.1"), source("10.0.0.2"));
        failures.count(a, Timestamp(0));
        assert!(!failures.is_over(a, Timestamp(0)));
        failures.count(a, Timestamp(1));
        assert!(failures.is_over(a, Timestamp(WINDOW - 1)) && !failures.is_over(b, Timestamp(2)));
        assert!(!failures.is_over(a, Timestamp(WINDOW)));
        failures.count(a, Timestamp(WINDOW));
        assert!(!failures.is_over(a, Timestamp(WINDOW)));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let failures = Failures::new(1);
        for n in 0..20_000_u32 {
            failures.count(IpAddr::from(n.to_be_bytes()).into(), Timestamp(i64::from(n)));
        }
        assert!(lock(&failures.counts).len() <= MAX_REMEMBERED);
        assert!(failures.is_over(IpAddr::from(19_999_u32.to_be_bytes()).into(), Timestamp(19_999)));
    }
}
