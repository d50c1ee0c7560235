//! How much one source may do before it has shown who it is.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nightgate_store::Timestamp;

/// Failures are forgotten after this many milliseconds.
const WINDOW: i64 = 60 * 1000;

/// Sources with failures that are remembered; beyond, the oldest are forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// Where a connection comes from: an IPv4 address, or the 64-bit prefix of an IPv6 address, which is the least that one
/// subscriber has (RFC 6177 section 2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Source(IpAddr);

/// Failures of each source.
pub(crate) struct Failures {
    limit: u32,
    counts: Mutex<HashMap<Source, (u32, Timestamp)>>,
}

/// Things under way for each source.
pub(crate) struct Concurrent {
    limit: u32,
    counts: Arc<Mutex<HashMap<Source, u32>>>,
}

/// One thing under way; over when dropped.
pub(crate) struct Slot {
    source: Source,
    counts: Arc<Mutex<HashMap<Source, u32>>>,
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        })
    }
}

impl Default for Source {
    fn default() -> Self {
        Self(Ipv6Addr::UNSPECIFIED.into())
    }
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

impl Concurrent {
    /// This many at one time.
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, counts: Arc::default() }
    }

    /// Begins one; none if the source has too many under way.
    pub(crate) fn begin(&self, source: Source) -> Option<Slot> {
        let mut counts = lock(&self.counts);
        let count = counts.entry(source).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Slot { source, counts: Arc::clone(&self.counts) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn one_subscriber_is_one_source() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
        assert_ne!(source("10.0.0.2"), source("10.0.0.1"));
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

    #[test]
    fn a_source_has_so_many_under_way_and_no_more() {
        let concurrent = Concurrent::new(2);
        let a = source("10.0.0.1");
        let first = concurrent.begin(a).unwrap();
        let _second = concurrent.begin(a).unwrap();
        assert!(concurrent.begin(a).is_none());
        assert!(concurrent.begin(source("10.0.0.2")).is_some());
        drop(first);
        assert!(concurrent.begin(a).is_some());
    }
}
