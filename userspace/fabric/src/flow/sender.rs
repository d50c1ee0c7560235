//! The sending side of one direction.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use nightgate_wire::link::{Ack, Numbered, Payload};

use super::{INITIAL_WINDOW, MAX_WINDOW, SendError, congestion::Congestion, weight};

/// The other side claims to have what was never sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Lie;

/// What goes to the other end next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outgoing {
    Message(Numbered),
    /// The stream had so many messages.
    End(u64),
}

/// Messages go in three steps: the client sends them within its credit, they go out within the congestion window, and
/// they are kept until the other end has them.
#[derive(Debug)]
pub(crate) struct Sender {
    /// What the other end does not have yet, as far as we know; the last is number `next - 1`.
    unacked: VecDeque<Payload>,
    next: u64,
    /// What the other end has; the end of the stream counts as a message.
    received: u64,
    finished: bool,
    /// What went out since it was last begun again, and what ever did; the end of the stream counts.
    out: u64,
    ever_out: u64,
    /// Weight of the messages that are out and have not arrived.
    under_way: u64,
    /// Losses before this has arrived are those of a window that has been made smaller already.
    recovery: u64,
    congestion: Congestion,
    /// A message whose round trip is measured.
    timed: Option<(u64, Instant)>,
    /// Weight of all messages so far, of those that the other end has, and of those that the client
    /// may have sent.
    sent: u64,
    arrived: u64,
    credit: u64,
    echo: u32,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            unacked: VecDeque::new(),
            next: 0,
            received: 0,
            finished: false,
            out: 0,
            ever_out: 0,
            under_way: 0,
            recovery: 0,
            congestion: Congestion::default(),
            timed: None,
            sent: 0,
            arrived: 0,
            credit: INITIAL_WINDOW,
            echo: 0,
        }
    }
}

impl Sender {
    /// Takes a message of the client; [`Self::poll`] gives it when it may go.
    pub(crate) fn send(&mut self, payload: Payload) -> Result<(), SendError> {
        if self.finished {
            return Err(SendError::Closed);
        }
        let (weight, credit) = (weight(&payload), self.credit - self.sent);
        if weight > credit {
            return Err(SendError::NoCredit { weight, credit });
        }
        self.sent += weight;
        self.unacked.push_back(payload);
        self.next += 1;
        Ok(())
    }

    /// Ends the stream.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }

    /// What goes out now; none when enough is under way, or nothing is left.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Outgoing> {
        let sequence = self.out;
        let outgoing = if sequence < self.next {
            let payload = self.unacked.get(usize::try_from(sequence - self.first()).ok()?)?;
            let weight = weight(payload);
            if self.under_way > 0 && self.under_way + weight > self.congestion.window() {
                return None;
            }
            self.under_way += weight;
            if sequence == self.ever_out {
                self.timed.get_or_insert((sequence, now));
            }
            let echo = std::mem::take(&mut self.echo);
            Outgoing::Message(Numbered { sequence, echo, payload: payload.clone() })
        } else if sequence == self.next && self.finished {
            Outgoing::End(sequence)
        } else {
            return None;
        };
        self.out += 1;
        self.ever_out = self.ever_out.max(self.out);
        Some(outgoing)
    }

    /// Takes an acknowledgement; gives how much more the client may send.
    pub(crate) fn handle_ack(&mut self, ack: &Ack, now: Instant) -> Result<u64, Lie> {
        if ack.received > self.ever_out {
            return Err(Lie);
        }
        // An older one than that of another path takes nothing back.
        self.received = self.received.max(ack.received);
        let mut bytes = 0;
        while self.first() < self.received
            && let Some(payload) = self.unacked.pop_front()
        {
            bytes += weight(&payload);
            // What was begun again may arrive before it goes out again.
            if self.first() <= self.out {
                self.under_way = self.under_way.saturating_sub(weight(&payload));
            }
        }
        self.out = self.out.max(self.received);
        self.arrived += bytes;
        if let Some((_, at)) = self.timed.take_if(|(sequence, _)| *sequence < ack.received) {
            self.congestion.handle_round_trip(now.saturating_duration_since(at));
        }
        if bytes > 0 {
            self.congestion.handle_arrived(bytes, now);
        }
        self.echo = ack.stamp;
        // Whatever the other end allows, this end has to keep it.
        let credit = ack.limit.min(self.arrived.saturating_add(MAX_WINDOW)).max(self.credit);
        let more = credit - self.credit;
        self.credit = credit;
        Ok(more)
    }

    /// Takes that messages were lost: less goes out, from the first that did not arrive.
    pub(crate) fn handle_loss(&mut self, now: Instant) {
        if self.received >= self.recovery {
            self.congestion.handle_loss(self.under_way, now);
            self.recovery = self.out;
        }
        self.begin_again();
    }

    /// Takes that nothing arrives any more, although the other end answers.
    pub(crate) fn handle_silence(&mut self, now: Instant) {
        self.congestion.handle_silence(self.under_way, now);
        self.recovery = self.out;
        self.begin_again();
    }

    /// Takes another path, of which nothing is known.
    pub(crate) fn handle_new_path(&mut self) {
        self.congestion = Congestion::default();
        self.recovery = self.received;
        self.begin_again();
    }

    fn begin_again(&mut self) {
        (self.out, self.under_way, self.timed) = (self.received, 0, None);
    }

    /// Number of the first message that is kept.
    fn first(&self) -> u64 {
        self.next - self.unacked.len() as u64
    }

    /// A round trip with all its queues; none before the first was measured.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.congestion.round_trip()
    }

    /// How many messages the other end has.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether the other end has everything, the end of the stream included.
    pub(crate) fn is_idle(&self) -> bool {
        self.received == self.next + u64::from(self.finished)
    }

    /// Bytes kept for another path.
    pub(crate) fn kept(&self) -> u64 {
        self.sent - self.arrived
    }

    /// Bytes sent since the circuit began.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(length: usize) -> Payload {
        Payload { body: Bytes::from(vec![0; length]), ..Payload::default() }
    }

    fn ack(received: u64, limit: u64) -> Ack {
        Ack { received, limit, ..Ack::default() }
    }

    /// Numbers of what goes out, the end of the stream among them.
    fn go(sender: &mut Sender, now: Instant) -> Vec<u64> {
        let number = |outgoing| match outgoing {
            Outgoing::Message(message) => message.sequence,
            Outgoing::End(count) => count,
        };
        std::iter::from_fn(|| sender.poll(now)).map(number).collect()
    }

    #[test]
    fn a_sender_stops_at_the_window_and_goes_on_after_an_acknowledgement() {
        let (mut sender, now) = (Sender::default(), Instant::now());
        let mut sent = 0;
        while sender.send(message(10_000)).is_ok() {
            sent += 10_064;
        }
        assert!(sent <= INITIAL_WINDOW && sent + 10_064 > INITIAL_WINDOW);
        assert_eq!(go(&mut sender, now).len() as u64, sent / 10_064);
        assert_eq!(sender.handle_ack(&ack(2, INITIAL_WINDOW + 20_128), now), Ok(20_128));
        assert_eq!(sender.kept(), sent - 20_128);
        sender.send(message(10_000)).unwrap();
        assert_eq!(go(&mut sender, now), [sent / 10_064]);
    }

    #[test]
    fn what_was_lost_goes_out_again_and_the_end_counts_as_a_message() {
        let (mut sender, now) = (Sender::default(), Instant::now());
        for length in 0..3 {
            sender.send(message(length)).unwrap();
        }
        assert_eq!(go(&mut sender, now), [0, 1, 2]);
        sender.handle_ack(&ack(1, 0), now).unwrap();
        sender.handle_loss(now);
        assert_eq!(go(&mut sender, now), [1, 2]);
        sender.finish();
        assert_eq!(go(&mut sender, now), [3]);
        assert_eq!(sender.send(message(1)), Err(SendError::Closed));
        sender.handle_ack(&ack(3, 0), now).unwrap();
        assert!(!sender.is_idle());
        sender.handle_ack(&ack(4, 0), now).unwrap();
        assert!(sender.is_idle() && sender.kept() == 0 && go(&mut sender, now).is_empty());
    }

    #[test]
    fn an_acknowledgement_of_what_never_went_out_is_a_lie_and_an_old_one_is_nothing() {
        let (mut sender, now) = (Sender::default(), Instant::now());
        sender.send(message(100)).unwrap();
        assert_eq!(sender.handle_ack(&ack(1, 0), now), Err(Lie), "it has not gone out");
        go(&mut sender, now);
        assert_eq!(sender.handle_ack(&ack(2, 0), now), Err(Lie));
        assert_eq!(sender.handle_ack(&ack(1, 0), now), Ok(0));
        assert_eq!(sender.handle_ack(&ack(0, 0), now), Ok(0));
        assert!(sender.is_idle());
    }

    #[test]
    fn a_sender_keeps_no_more_than_the_largest_window_whatever_it_is_allowed() {
        let (mut sender, now) = (Sender::default(), Instant::now());
        assert_eq!(sender.handle_ack(&ack(0, u64::MAX), now), Ok(MAX_WINDOW - INITIAL_WINDOW));
        while sender.send(message(100_000)).is_ok() {}
        assert!(sender.kept() <= MAX_WINDOW);
    }

    #[test]
    fn after_a_loss_less_is_under_way_and_late_news_of_it_change_nothing() {
        let (mut sender, now) = (Sender::default(), Instant::now());
        while sender.send(message(10_000)).is_ok() {}
        let all = go(&mut sender, now).len();
        sender.handle_loss(now);
        let again = go(&mut sender, now).len();
        assert_eq!(again, all * 7 / 10);
        sender.handle_loss(now);
        assert_eq!(go(&mut sender, now).len(), again, "the same loss");
        // All arrives in the end, some of it before it went out again.
        sender.handle_ack(&ack(all as u64, 0), now).unwrap();
        assert!(sender.is_idle() && sender.under_way == 0 && go(&mut sender, now).is_empty());
    }

    #[test]
    fn the_longest_message_goes_whatever_the_window() {
        let (mut sender, now) = (Sender::default(), Instant::now());
        sender.send(message(250_000)).unwrap();
        sender.handle_silence(now);
        assert_eq!(go(&mut sender, now), [0]);
    }
}
