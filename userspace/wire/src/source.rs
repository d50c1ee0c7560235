//! How much one source may have under way before it has shown who it is.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// TLS handshakes of one source that a controller or a router lets be under way at one time.
pub const MAX_HANDSHAKES: u32 = 64;

/// Where a connection comes from: an IPv4 address, or the 64-bit prefix of an IPv6 address, which is the least that one
/// subscriber has (RFC 6177 section 2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Source(IpAddr);

/// Things under way for each source.
#[derive(Debug)]
pub struct Concurrent {
    limit: u32,
    counts: Arc<Mutex<HashMap<Source, u32>>>,
}

/// One thing under way; over when dropped.
#[derive(Debug)]
pub struct Slot {
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

impl Concurrent {
    /// This many at one time.
    pub fn new(limit: u32) -> Self {
        Self { limit, counts: Arc::default() }
    }

    /// Begins one; none if the source has too many under way.
    pub fn begin(&self, source: Source) -> Option<Slot> {
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
