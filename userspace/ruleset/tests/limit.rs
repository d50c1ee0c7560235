//! Token buckets over any sequence of moments.

use nightgate_abi::{Bucket, Rate};
use proptest::prelude::*;

proptest! {
    /// In no span of time more tokens are taken than the bucket holds and come meanwhile; and whoever is refused
    /// finds that as many have been taken.
    #[test]
    fn a_bucket_gives_what_its_rate_allows_and_no_less(
        tokens in 1_u32..1_000,
        period in 1_u64..10_000_000,
        burst in 1_u32..20,
        gaps in prop::collection::vec(0_u64..100_000, 1..200),
        start in 1_u64 << 32..1 << 60,
    ) {
        let rate = Rate::new(tokens, period, burst);
        let (mut bucket, mut now) = (Bucket::default(), start);
        let mut taken: Vec<u64> = Vec::new();
        for gap in gaps {
            now += gap;
            let most = |since: u64| u64::from(burst) + (now - since) / rate.interval;
            match bucket.take(now, &rate) {
                Some(next) => {
                    bucket = next;
                    taken.push(now);
                    for (index, since) in taken.iter().enumerate() {
                        prop_assert!((taken.len() - index) as u64 <= most(*since));
                    }
                }
                None => prop_assert!(
                    taken.iter().enumerate().any(|(index, since)| {
                        (taken.len() - index) as u64 >= most(*since)
                    }),
                    "refused without need"
                ),
            }
        }
    }
}
