//! The receiving side of one direction.

use std::time::{Duration, Instant};

use nightgate_wire::link::{Ack, Numbered, Wish};

use super::{INITIAL_WINDOW, MAX_WINDOW, weight};

/// The receiver acknowledges after this many bytes,
const ACK_BYTES: u64 = 128 * 1024;

/// or when the first of them has waited this long.
const ACK_DELAY: Duration = Duration::from_millis(20);

/// Added to the round trip when the window is computed: both ends may have to wait that long for a CPU.
const SLACK: Duration = Duration::from_millis(4);

/// A shorter time says little about a rate.
const SHORTEST_ROUND: Duration = Duration::from_millis(5);

/// What a message is to its receiver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Arrival {
    /// The next one.
    Next,
    /// Known already, or not asked for again although some are missing.
    Nothing,
    /// Some before it are missing: ask for them.
    Gap,
    /// More than was allowed.
    Excess,
}

/// The receiving side.
#[derive(Debug)]
pub(crate) struct Receiver {
    born: Instant,
    /// Messages received without a gap, the end of the stream included.
    next: u64,
    /// Weight received, consumed by the client, and granted.
    received: u64,
    consumed: u64,
    limit: u64,
    window: u64,
    /// What the last acknowledgement said, and by when another is owed.
    told_limit: u64,
    told_received: u64,
    owed: Option<Instant>,
    /// When missing messages were asked for; they are asked for again after [`REPEAT_AFTER`].
    gap: Option<Instant>,
    round_trip: Option<Duration>,
    round: (Instant, u64),
}

/// Missing messages are asked for again after this time.
const REPEAT_AFTER: Duration = Duration::from_millis(500);

impl Receiver {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            born: now,
            next: 0,
            received: 0,
            consumed: 0,
            limit: INITIAL_WINDOW,
            window: INITIAL_WINDOW,
            told_limit: INITIAL_WINDOW,
            told_received: 0,
            owed: None,
            gap: None,
            round_trip: None,
            round: (now, 0),
        }
    }

    /// Takes a message.
    pub(crate) fn receive(&mut self, message: &Numbered, now: Instant) -> Arrival {
        if message.sequence != self.next {
            return self.out_of_order(message.sequence, now);
        }
        let received = self.received + weight(&message.payload);
        if received > self.limit {
            return Arrival::Excess;
        }
        self.next += 1;
        self.received = received;
        self.gap = None;
        self.measure(message.echo, now);
        self.owe(if received - self.told_received >= ACK_BYTES { now } else { now + ACK_DELAY });
        Arrival::Next
    }

    /// Takes the end of the stream, which comes after so many messages.
    pub(crate) fn finish(&mut self, messages: u64, now: Instant) -> Arrival {
        if messages != self.next {
            return self.out_of_order(messages, now);
        }
        self.next += 1;
        Arrival::Next
    }

    fn out_of_order(&mut self, sequence: u64, now: Instant) -> Arrival {
        if sequence < self.next {
            // The acknowledgement of it may have been lost with an earlier path.
            self.owe(now + ACK_DELAY);
            return Arrival::Nothing;
        }
        if self.gap.is_some_and(|asked| now < asked + REPEAT_AFTER) {
            return Arrival::Nothing;
        }
        self.gap = Some(now);
        Arrival::Gap
    }

    /// Counts what the client took. The window does not grow beyond `ceiling`.
    pub(crate) fn consume(&mut self, weight: u64, ceiling: u64, now: Instant) {
        self.consumed = (self.consumed + weight).min(self.received);
        self.resize(ceiling, now);
        self.limit = self.limit.max(self.consumed + self.window);
        if self.limit - self.told_limit >= self.window / 4 {
            self.owe(now);
        }
    }

    /// The window for what the client takes in a round trip, twice, so that a faster one shows.
    fn resize(&mut self, ceiling: u64, now: Instant) {
        let Some(round_trip) = self.round_trip else { return };
        let (began, before) = self.round;
        let elapsed = now.saturating_duration_since(began);
        if elapsed < round_trip.max(SHORTEST_ROUND) {
            return;
        }
        let in_a_round = u128::from(self.consumed - before) * (round_trip + SLACK).as_micros()
            / elapsed.as_micros().max(1);
        let wanted = u64::try_from(2 * in_a_round).unwrap_or(u64::MAX);
        // Smaller by steps: a pause says little about the rate after it.
        let window = wanted.max(self.window - self.window / 8);
        self.window = window.clamp(INITIAL_WINDOW, ceiling.clamp(INITIAL_WINDOW, MAX_WINDOW));
        self.round = (now, self.consumed);
    }

    fn measure(&mut self, echo: u32, now: Instant) {
        if echo != 0 {
            let sample = Duration::from_micros(self.clock(now).wrapping_sub(echo).into());
            self.round_trip = Some(self.round_trip.map_or(sample, |least| least.min(sample)));
        }
    }

    /// The acknowledgement as of now.
    pub(crate) fn acknowledge(&mut self, wish: Wish, now: Instant) -> Ack {
        (self.owed, self.told_limit, self.told_received) = (None, self.limit, self.received);
        Ack { received: self.next, limit: self.limit, stamp: self.clock(now), wish }
    }

    /// When an acknowledgement is due.
    pub(crate) fn owed(&self) -> Option<Instant> {
        self.owed
    }

    /// Another path has another round trip.
    pub(crate) fn handle_new_path(&mut self, now: Instant) {
        (self.round_trip, self.gap, self.round) = (None, None, (now, self.consumed));
    }

    pub(crate) fn owe(&mut self, at: Instant) {
        self.owed = Some(self.owed.map_or(at, |owed| owed.min(at)));
    }

    /// Microseconds, turning over after 71 minutes; never 0.
    fn clock(&self, now: Instant) -> u32 {
        let micros = now.saturating_duration_since(self.born).as_micros() & u128::from(u32::MAX);
        u32::try_from(micros).unwrap_or(u32::MAX).max(1)
    }

    /// Bytes that the client has not taken.
    pub(crate) fn held(&self) -> u64 {
        self.received - self.consumed
    }

    /// Bytes received since the circuit began.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that may be under way at once.
    pub(crate) fn window(&self) -> u64 {
        self.window
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use nightgate_wire::link::Payload;

    use super::*;

    fn message(length: usize) -> Payload {
        Payload { body: Bytes::from(vec![0; length]), ..Payload::default() }
    }

    fn numbered(sequence: u64, length: usize) -> Numbered {
        Numbered { sequence, echo: 0, payload: message(length) }
    }

    #[test]
    fn a_receiver_takes_each_message_once_and_asks_for_missing_ones_once_in_a_while() {
        let now = Instant::now();
        let mut receiver = Receiver::new(now);
        assert_eq!(receiver.receive(&numbered(0, 1), now), Arrival::Next);
        assert_eq!(receiver.receive(&numbered(0, 1), now), Arrival::Nothing);
        assert_eq!(receiver.receive(&numbered(2, 1), now), Arrival::Gap);
        assert_eq!(receiver.receive(&numbered(3, 1), now), Arrival::Nothing);
        assert_eq!(receiver.receive(&numbered(4, 1), now + REPEAT_AFTER), Arrival::Gap);
        assert_eq!(receiver.receive(&numbered(1, 1), now), Arrival::Next);
        assert_eq!(receiver.finish(3, now), Arrival::Gap);
        assert_eq!(receiver.receive(&numbered(2, 1), now), Arrival::Next);
        assert_eq!(receiver.finish(3, now), Arrival::Next);
        assert_eq!(receiver.acknowledge(Wish::Nothing, now).received, 4);
    }

    #[test]
    fn a_receiver_refuses_what_exceeds_its_window() {
        let now = Instant::now();
        let mut receiver = Receiver::new(now);
        let mut next = 0;
        while receiver.receive(&numbered(next, 10_000), now) == Arrival::Next {
            next += 1;
        }
        assert_eq!(next, INITIAL_WINDOW / 10_064);
        assert_eq!(receiver.receive(&numbered(next, 10_000), now), Arrival::Excess);
        receiver.consume(10_064 * next, MAX_WINDOW, now);
        assert_eq!(receiver.receive(&numbered(next, 10_000), now), Arrival::Next);
    }

    /// A client that takes all at once, over a path with this round trip and rate; gives the window
    /// after so many rounds.
    fn window_after(rounds: u32, round_trip: Duration, bytes_in_a_second: u64) -> u64 {
        let mut now = Instant::now();
        let mut receiver = Receiver::new(now);
        let mut sequence = 0;
        for _ in 0..rounds {
            let echo = receiver.acknowledge(Wish::Nothing, now).stamp;
            now += round_trip;
            let most = bytes_in_a_second * u64::try_from(round_trip.as_millis()).unwrap() / 1000;
            let messages = receiver.window().min(most) / 30_064;
            for _ in 0..messages {
                let message = Numbered { echo, ..numbered(sequence, 30_000) };
                assert_eq!(receiver.receive(&message, now), Arrival::Next);
                sequence += 1;
            }
            receiver.consume(messages * 30_064, MAX_WINDOW, now);
        }
        receiver.window()
    }

    #[test]
    fn the_window_follows_the_bandwidth_delay_product_in_bounds() {
        let (far, near) = (Duration::from_millis(50), Duration::from_millis(5));
        let product = 100_000_000 / 20;
        let window = window_after(40, far, 100_000_000);
        assert!((product..=5 * product / 2).contains(&window), "{window}");
        assert_eq!(window_after(40, near, 1_000_000), INITIAL_WINDOW);
        assert_eq!(window_after(40, far, 10_000_000_000), MAX_WINDOW);
    }
}
