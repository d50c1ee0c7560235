//! How much of what a circuit may send is under way at once: less after a loss, then more again.
//!
//! The window of the receiver keeps a circuit from filling queues by itself; many circuits together, or a link that
//! becomes slow, fill them all the same. What is dropped then is the sign to send less: CUBIC (RFC 9438), with frames
//! in the place of segments. Until the first loss of a path, only the receiver's window limits.

use std::time::{Duration, Instant};

use super::{INITIAL_WINDOW, MAX_WINDOW};

/// A unit of growth, in bytes: about a full frame, as a segment is for TCP.
const UNIT: u64 = 32 * 1024;

/// Smallest window, in bytes. One message may always be under way, however long.
const MIN_WINDOW: u64 = UNIT;

/// RFC 9438, section 4.1: the constant C, 0.4 units in a cubic second, here in bytes.
const C: u64 = 2 * UNIT / 5;

/// RFC 9438, section 4.6: the window after a loss, in tenths.
const BETA_TENTHS: u64 = 7;

/// RFC 9438, section 4.3: units in a round trip that a window grows by at least; 3 (1 - b) / (1 + b), in hundredths.
const ALPHA_HUNDREDTHS: u64 = 53;

/// The congestion window of one sender on one path.
#[derive(Debug)]
pub(crate) struct Congestion {
    window: u64,
    /// Below it, the window grows by what arrives (slow start).
    threshold: u64,
    /// None before the first loss.
    epoch: Option<Epoch>,
    round_trip: Option<Duration>,
}

/// What has to be remembered of the last loss.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// When the window began to grow again.
    began: Instant,
    /// The window that was too much.
    max: u64,
    /// Milliseconds until it would be reached again.
    plateau: i64,
    /// The window that TCP of before CUBIC would have by now.
    estimate: u64,
}

impl Default for Congestion {
    fn default() -> Self {
        Self { window: INITIAL_WINDOW, threshold: u64::MAX, epoch: None, round_trip: None }
    }
}

impl Congestion {
    /// Bytes that may be under way.
    pub(crate) fn window(&self) -> u64 {
        self.window
    }

    /// The round trip with all its queues, smoothed (RFC 6298); none before the first was measured.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Takes that a message and its acknowledgement took so long.
    pub(crate) fn handle_round_trip(&mut self, sample: Duration) {
        let smoothed = self.round_trip.map_or(sample, |before| (before * 7 + sample) / 8);
        self.round_trip = Some(smoothed);
    }

    /// Takes that so many bytes arrived.
    pub(crate) fn handle_arrived(&mut self, bytes: u64, now: Instant) {
        let most = self.window.saturating_add(bytes).min(MAX_WINDOW);
        let wanted = match &mut self.epoch {
            Some(epoch) if self.window >= self.threshold => {
                epoch.estimate += UNIT * ALPHA_HUNDREDTHS * bytes / (100 * self.window.max(1));
                epoch.cubic(now).max(epoch.estimate)
            }
            Some(_) | None => most,
        };
        self.window = wanted.clamp(self.window, most.max(self.window));
    }

    /// Takes a loss while so many bytes were under way.
    pub(crate) fn handle_loss(&mut self, under_way: u64, now: Instant) {
        let reached = self.window.min(under_way).max(MIN_WINDOW);
        // Fast convergence: a circuit that lost before it had its share back makes room for others.
        let shrinks = self.epoch.is_some_and(|epoch| reached < epoch.max);
        let max = if shrinks { reached * (10 + BETA_TENTHS) / 20 } else { reached };
        self.window = (reached * BETA_TENTHS / 10).max(MIN_WINDOW);
        self.threshold = self.window;
        let plateau = plateau(max.saturating_sub(self.window));
        self.epoch = Some(Epoch { began: now, max, plateau, estimate: self.window });
    }

    /// Takes that nothing arrives any more: begins anew, carefully.
    pub(crate) fn handle_silence(&mut self, under_way: u64, now: Instant) {
        self.handle_loss(under_way, now);
        self.window = MIN_WINDOW;
    }
}

impl Epoch {
    /// RFC 9438, section 4.2.
    fn cubic(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began).as_millis();
        let since = i64::try_from(since).unwrap_or(i64::MAX).min(1_000_000);
        let distance = i128::from(since - self.plateau);
        let grown = i128::from(C) * distance * distance * distance / 1_000_000_000;
        u64::try_from((i128::from(self.max) + grown).max(0)).unwrap_or(u64::MAX)
    }
}

/// Milliseconds in which the cubic function grows by so many bytes: the cube root of bytes / C.
fn plateau(bytes: u64) -> i64 {
    let cube = u128::from(bytes) * 1_000_000_000 / u128::from(C);
    let (mut low, mut high) = (0_u128, 1_000_000);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if middle * middle * middle <= cube { low = middle } else { high = middle - 1 }
    }
    i64::try_from(low).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_loss_only_the_receiver_limits() {
        let (mut congestion, now) = (Congestion::default(), Instant::now());
        for _ in 0..100 {
            congestion.handle_arrived(congestion.window(), now);
        }
        assert_eq!(congestion.window(), MAX_WINDOW);
    }

    #[test]
    fn a_loss_takes_three_tenths_and_the_window_is_back_after_the_plateau() {
        let (mut congestion, mut now) = (Congestion::default(), Instant::now());
        congestion.handle_arrived(INITIAL_WINDOW, now);
        congestion.handle_loss(u64::MAX, now);
        assert_eq!(congestion.window(), 2 * INITIAL_WINDOW * 7 / 10);
        let plateau = plateau(2 * INITIAL_WINDOW * 3 / 10);
        assert!((2_500..3_500).contains(&plateau), "{plateau}");
        let mut rounds = 0;
        while congestion.window() < 2 * INITIAL_WINDOW {
            now += Duration::from_millis(100);
            congestion.handle_arrived(congestion.window(), now);
            rounds += 1;
        }
        // Far round trips follow the cubic function, near ones TCP's old line.
        assert!((15..=i64::from(u16::MAX)).contains(&rounds) && rounds * 100 <= plateau + 100);
    }

    #[test]
    fn what_was_not_under_way_was_not_too_much() {
        let (mut congestion, now) = (Congestion::default(), Instant::now());
        congestion.handle_loss(100_000, now);
        assert_eq!(congestion.window(), 70_000);
        congestion.handle_loss(0, now);
        assert_eq!(congestion.window(), MIN_WINDOW);
    }

    #[test]
    fn silence_begins_anew_and_reaches_most_of_what_was_quickly() {
        let (mut congestion, now) = (Congestion::default(), Instant::now());
        congestion.handle_silence(1_000_000, now);
        assert_eq!(congestion.window(), MIN_WINDOW);
        for _ in 0..5 {
            congestion.handle_arrived(congestion.window(), now);
        }
        assert!(congestion.window() >= INITIAL_WINDOW * 7 / 10);
    }
}
