//! What becomes of each frame: decided by seed and time alone.

use std::time::{Duration, Instant};

use super::Impairment;

/// How long a frame waits for its turn at most, where the queue has no bound of its own.
const LONGEST_QUEUE: Duration = Duration::from_millis(50);

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// It is lost by chance.
    Lost,
    /// It finds the queue full.
    Overflowed,
    /// It comes out then.
    Due(Instant),
}

/// One direction of a wire.
#[derive(Debug)]
pub(super) struct Direction {
    random: u64,
    /// When the last frame that was admitted has been sent.
    busy_until: Option<Instant>,
}

impl Direction {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: seed, busy_until: None }
    }

    /// Takes a frame of so many bytes.
    pub(super) fn admit(&mut self, bytes: usize, impairment: &Impairment, now: Instant) -> Fate {
        // Both are drawn for each frame, so that one does not change the fate that the other gives.
        let (lost, late) = (self.chance(impairment.loss), self.chance(impairment.reorder));
        if lost {
            return Fate::Lost;
        }
        let Some(sent) = self.sent(bytes, impairment, now) else { return Fate::Overflowed };
        let extra = if late { impairment.late } else { Duration::ZERO };
        Fate::Due(sent + impairment.delay + extra)
    }

    /// When the frame has been sent, after those before it; `None` when too many wait.
    fn sent(&mut self, bytes: usize, impairment: &Impairment, now: Instant) -> Option<Instant> {
        let Some(rate) = impairment.rate else { return Some(now) };
        let takes = |bytes: u64| Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
        let begins = self.busy_until.map_or(now, |busy| busy.max(now));
        let longest = match impairment.queue {
            0 => LONGEST_QUEUE,
            bytes => takes(bytes),
        };
        if begins - now > longest {
            return None;
        }
        let sent = begins + takes(bytes as u64);
        self.busy_until = Some(sent);
        Some(sent)
    }

    /// Whether something of this probability happens: Sebastiano Vigna's SplitMix64.
    fn chance(&mut self, probability: f64) -> bool {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The 53 bits that a double holds.
        ((mixed >> 11) as f64) < probability * (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_has_the_same_fate() {
        let impairment = Impairment { loss: 0.1, ..Impairment::default() };
        let now = Instant::now();
        let fates = |seed| {
            let mut direction = Direction::new(seed);
            (0..10_000).map(move |_| direction.admit(100, &impairment, now)).collect::<Vec<_>>()
        };
        assert_eq!(fates(7), fates(7));
        let lost = fates(7).iter().filter(|fate| **fate == Fate::Lost).count();
        assert!((900..1_100).contains(&lost), "{lost} of 10,000");
    }

    #[test]
    fn a_rate_spaces_frames_and_bounds_what_waits() {
        let impairment = Impairment { rate: Some(8_000), queue: 2_000, ..Impairment::delay(10) };
        let now = Instant::now();
        let mut direction = Direction::new(1);
        let mut admit = || direction.admit(1_000, &impairment, now);
        for second in 1..=3 {
            let due = now + Duration::from_secs(second) + Duration::from_millis(10);
            assert_eq!(admit(), Fate::Due(due));
        }
        assert_eq!(admit(), Fate::Overflowed);
    }

    #[test]
    fn a_late_frame_is_overtaken() {
        let late = Duration::from_millis(5);
        let impairment = Impairment { reorder: 0.5, late, ..Impairment::delay(1) };
        let now = Instant::now();
        let mut direction = Direction::new(1);
        let dues: Vec<_> = (0..20).map(|_| direction.admit(100, &impairment, now)).collect();
        let early = Fate::Due(now + impairment.delay);
        assert!(dues.contains(&early) && dues.contains(&Fate::Due(now + impairment.delay + late)));
    }
}
