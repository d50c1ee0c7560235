//! Token buckets.

/// How fast tokens come and how many a bucket holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Rate {
    /// Nanoseconds from one token to the next.
    pub interval: u64,
    /// Nanoseconds in which an empty bucket fills: the interval times the tokens it holds.
    pub depth: u64,
}

const _: () = assert!(size_of::<Rate>() == 16);

impl Rate {
    /// A rate of `tokens`, at least 1, in `period` nanoseconds, with a bucket for `burst` tokens, at least 1.
    pub const fn new(tokens: u32, period: u64, burst: u32) -> Self {
        let interval = period / tokens as u64;
        let interval = if interval == 0 { 1 } else { interval };
        Self { interval, depth: interval.saturating_mul(burst as u64) }
    }
}

/// A token bucket, kept as the time at which it is full again, in nanoseconds of the clock that it is used with. A
/// new one is full.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bucket(pub u64);

impl Bucket {
    /// The bucket after a token has been taken at a time; `None` if there is none.
    #[inline(always)]
    pub const fn take(self, now: u64, rate: &Rate) -> Option<Self> {
        self.take_many(now, rate, 1)
    }

    /// The bucket after a number of tokens, less than 2^16, has been taken at a time; `None` if there are fewer.
    #[inline(always)]
    pub const fn take_many(self, now: u64, rate: &Rate, tokens: u32) -> Option<Self> {
        let from = if self.0 > now { self.0 } else { now };
        let full_at = from.saturating_add(rate.interval.wrapping_mul(tokens as u64));
        if full_at - now > rate.depth { None } else { Some(Self(full_at)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn taken(bucket: &mut Bucket, now: u64, rate: &Rate, attempts: usize) -> usize {
        (0..attempts)
            .filter(|_| {
                let next = bucket.take(now, rate);
                *bucket = next.unwrap_or(*bucket);
                next.is_some()
            })
            .count()
    }

    #[test]
    fn a_new_bucket_gives_its_burst_and_then_as_fast_as_it_fills() {
        let rate = Rate::new(10, SECOND, 20);
        let (mut bucket, start) = (Bucket::default(), 77 * SECOND);
        assert_eq!(taken(&mut bucket, start, &rate, 100), 20);
        assert_eq!(taken(&mut bucket, start + SECOND / 10 - 1, &rate, 100), 0);
        assert_eq!(taken(&mut bucket, start + SECOND / 10, &rate, 100), 1);
        assert_eq!(taken(&mut bucket, start + SECOND, &rate, 100), 9);
        assert_eq!(
            taken(&mut bucket, start + 60 * SECOND, &rate, 100),
            20,
            "no more than it holds"
        );
    }

    #[test]
    fn a_rate_of_less_than_one_in_a_second_is_kept() {
        let rate = Rate::new(3, 3_600 * SECOND, 1);
        let mut bucket = Bucket::default();
        let hits = (0..7_200).map(|now| taken(&mut bucket, now * SECOND, &rate, 1)).sum::<usize>();
        assert_eq!(hits, 6);
    }
}
