//! The kernel programs' clock beside the calendar.

use std::{io, time::Duration};

use nix::time::{ClockId, clock_gettime};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What time it is, to tell when something was that the kernel programs have dated.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    since_boot: Duration,
    since_1970: Duration,
}

impl Clock {
    /// Reads the clocks.
    ///
    /// # Errors
    /// The system has none.
    pub fn read() -> io::Result<Self> {
        Ok(Self {
            since_boot: clock_gettime(ClockId::CLOCK_MONOTONIC)?.into(),
            since_1970: clock_gettime(ClockId::CLOCK_REALTIME)?.into(),
        })
    }

    /// A moment: the time since boot by `CLOCK_MONOTONIC`, and since 1970 in UTC.
    pub fn at(since_boot: Duration, since_1970: Duration) -> Self {
        Self { since_boot, since_1970 }
    }

    /// Now, as the kernel dates it: nanoseconds since boot.
    pub fn now(&self) -> u64 {
        u64::try_from(self.since_boot.as_nanos()).unwrap_or(u64::MAX)
    }

    /// How long ago something was that the kernel dated, in nanoseconds since boot; `None` for 0, which is never.
    pub fn age(&self, nanoseconds: u64) -> Option<Duration> {
        let then = (nanoseconds != 0).then(|| Duration::from_nanos(nanoseconds))?;
        Some(self.since_boot.saturating_sub(then))
    }

    /// When that was, in UTC by RFC 3339 and in whole seconds.
    pub fn date(&self, nanoseconds: u64) -> Option<String> {
        let seconds = self.since_1970.saturating_sub(self.age(nanoseconds)?).as_secs();
        let date = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
        date.format(&Rfc3339).ok()
    }

    /// When that was, in UTC by RFC 3339 and in microseconds.
    pub fn exact_date(&self, nanoseconds: u64) -> Option<String> {
        let then = self.since_1970.saturating_sub(self.age(nanoseconds)?).as_micros();
        let then = i128::try_from(then).ok()? * 1_000;
        OffsetDateTime::from_unix_timestamp_nanos(then).ok()?.format(&Rfc3339).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_has_dated_has_an_age_and_a_date() {
        let clock = Clock::at(Duration::from_secs(100), Duration::from_secs(1_000_000_000));
        assert_eq!(clock.age(99_000_000_000), Some(Duration::from_secs(1)));
        assert_eq!(clock.date(90_000_000_000).as_deref(), Some("2001-09-09T01:46:30Z"));
        assert_eq!(
            clock.exact_date(99_999_998_999).as_deref(),
            Some("2001-09-09T01:46:39.999998Z")
        );
        assert_eq!((clock.age(0), clock.date(0)), (None, None));
    }
}
