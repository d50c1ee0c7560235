//! How often something may be done.

use std::time::Duration;

/// A bucket of tokens that fills up within a minute.
#[derive(Debug)]
pub(super) struct Limiter {
    per_minute: u32,
    tokens: f64,
    filled: Duration,
}

const MINUTE: f64 = 60.0;

impl Limiter {
    /// A full bucket.
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute, tokens: per_minute.into(), filled: Duration::ZERO }
    }

    /// Takes a token, if there is one. `now` is a time since some fixed moment.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.filled).as_secs_f64();
        let full = f64::from(self.per_minute);
        self.tokens = (self.tokens + passed * full / MINUTE).min(full);
        self.filled = self.filled.max(now);
        let is_allowed = self.tokens >= 1.0;
        if is_allowed {
            self.tokens -= 1.0;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_evenly_and_a_clock_that_goes_back_brings_none() {
        let mut limiter = Limiter::new(2);
        let at = Duration::from_secs;
        assert_eq!([0, 0, 0].map(|now| limiter.take(at(now))), [true, true, false]);
        assert_eq!(
            [29, 31, 32, 61, 62].map(|now| limiter.take(at(now))),
            [false, true, false, true, false]
        );
        assert_eq!([0, 61].map(|now| limiter.take(at(now))), [false, false]);
    }
}
