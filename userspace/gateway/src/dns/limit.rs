//! How fast one source may ask, so that nobody's address is flooded with answers that it did not ask for.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Questions of each source: an IPv4 address, or an IPv6 /64.
#[derive(Debug, Default)]
pub(super) struct Limiter(HashMap<IpAddr, (Instant, f64)>);

/// Questions in a second.
const RATE: f64 = 200.0;
/// Questions at once.
const BURST: f64 = 400.0;
/// Sources that are remembered; with more, those that have been silent are forgotten, or all.
const SOURCES: usize = 8_192;

impl Limiter {
    /// Whether a source may ask now.
    pub(super) fn admit(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.0.len() >= SOURCES {
            self.0.retain(|_, (last, _)| {
                now.saturating_duration_since(*last) < Duration::from_secs(2)
            });
            if self.0.len() >= SOURCES {
                self.0.clear();
            }
        }
        let (last, tokens) = self.0.entry(network(source)).or_insert((now, BURST));
        let passed = now.saturating_duration_since(*last).as_secs_f64();
        *last = now;
        *tokens = (*tokens + passed * RATE).min(BURST);
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_asks_too_fast_waits_and_others_do_not() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        let admitted = (0..1_000).filter(|_| limiter.admit([10, 0, 0, 1].into(), now)).count();
        assert_eq!(admitted, 400);
        assert!(limiter.admit([10, 0, 0, 2].into(), now));
        let later = now + Duration::from_secs(1);
        let admitted = (0..1_000).filter(|_| limiter.admit([10, 0, 0, 1].into(), later)).count();
        assert_eq!(admitted, 200);
    }

    #[test]
    fn the_addresses_of_a_v6_network_are_one_source_and_memory_is_bounded() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        for host in 0..400_u128 {
            let address = Ipv6Addr::from((0xfd00_u128 << 112) | host);
            assert!(limiter.admit(address.into(), now));
        }
        assert!(!limiter.admit("fd00::ffff".parse().unwrap(), now));
        for source in 0..100_000_u32 {
            limiter.admit(source.to_be_bytes().into(), now);
        }
        assert!(limiter.0.len() <= SOURCES);
    }
}
