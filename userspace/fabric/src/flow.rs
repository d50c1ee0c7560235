//! Flow control between the two ends of a circuit: windows of bytes, moved by acknowledgements.

use nightgate_wire::link::Payload;

/// Bytes of message bodies that may be under way in one direction of a circuit.
///
/// 1 MiB keeps 1 Gbit/s busy over 8 ms; it is also the most that one circuit can make this router
/// hold for a slow receiver.
pub const WINDOW: u64 = 1 << 20;

/// The receiver acknowledges after each quarter of a window.
const ACK_EVERY: u64 = WINDOW / 4;

/// Bytes a message counts beyond its body, so that empty messages cannot flood a receiver.
const OVERHEAD: u64 = 64;

/// What a message counts against the window, in bytes: its body, its UUID and 64 more.
pub fn weight(payload: &Payload) -> u64 {
    payload.body.len() as u64 + payload.uuid.len() as u64 + OVERHEAD
}

/// A message that may not be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SendError {
    /// The circuit is not open.
    #[error("the circuit is closed")]
    Closed,
    /// More than the credit that was given.
    #[error("message of {weight} bytes, credit of {credit}")]
    NoCredit {
        /// What the message counts.
        weight: u64,
        /// What is left.
        credit: u64,
    },
}

/// The sending side.
#[derive(Debug, Default)]
pub(crate) struct SendWindow {
    messages: u64,
    sent: u64,
    acked: u64,
}

impl SendWindow {
    /// Counts a message and gives its sequence number.
    pub(crate) fn send(&mut self, payload: &Payload) -> Result<u64, SendError> {
        let weight = weight(payload);
        let credit = WINDOW - (self.sent - self.acked);
        if weight > credit {
            return Err(SendError::NoCredit { weight, credit });
        }
        self.sent += weight;
        self.messages += 1;
        Ok(self.messages - 1)
    }

    /// Takes an acknowledgement; gives the new credit in bytes, or `None` when it claims what was
    /// never sent or takes back an earlier one.
    pub(crate) fn acked(&mut self, consumed: u64) -> Option<u64> {
        if consumed > self.sent {
            return None;
        }
        let credit = consumed.checked_sub(self.acked)?;
        self.acked = consumed;
        Some(credit)
    }

    /// Bytes sent since the circuit began.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }
}

/// The receiving side.
#[derive(Debug, Default)]
pub(crate) struct ReceiveWindow {
    messages: u64,
    received: u64,
    consumed: u64,
    acked: u64,
}

impl ReceiveWindow {
    /// Counts a message; `false` when it is out of order or beyond the window.
    pub(crate) fn receive(&mut self, sequence: u64, payload: &Payload) -> bool {
        let received = self.received + weight(payload);
        if sequence != self.messages || received - self.consumed > WINDOW {
            return false;
        }
        self.messages += 1;
        self.received = received;
        true
    }

    /// Counts what the client took; gives the acknowledgement that is due.
    pub(crate) fn consume(&mut self, weight: u64) -> Option<u64> {
        self.consumed = (self.consumed + weight).min(self.received);
        if self.consumed - self.acked < ACK_EVERY {
            return None;
        }
        self.acked = self.consumed;
        Some(self.consumed)
    }

    /// Bytes received since the circuit began.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(length: usize) -> Payload {
        Payload { body: Bytes::from(vec![0; length]), ..Payload::default() }
    }

    #[test]
    fn a_sender_stops_at_the_window_and_goes_on_after_an_acknowledgement() {
        let mut window = SendWindow::default();
        let mut sent = 0;
        while window.send(&message(10_000)).is_ok() {
            sent += 10_000 + OVERHEAD;
        }
        assert!(sent <= WINDOW && sent + 10_064 > WINDOW);
        assert_eq!(window.acked(20_128), Some(20_128));
        assert_eq!(window.send(&message(10_000)), Ok(sent / 10_064));
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_is_a_lie() {
        let mut window = SendWindow::default();
        window.send(&message(100)).unwrap();
        assert_eq!(window.acked(165), None);
        assert_eq!(window.acked(164), Some(164));
        assert_eq!(window.acked(100), None);
    }

    #[test]
    fn a_receiver_refuses_what_exceeds_its_window() {
        let mut window = ReceiveWindow::default();
        let mut next = 0;
        while window.receive(next, &message(10_000)) {
            next += 1;
        }
        assert_eq!(next, WINDOW / 10_064);
        for _ in 0..next {
            window.consume(10_064);
        }
        assert!(window.receive(next, &message(10_000)));
    }

    #[test]
    fn a_receiver_refuses_a_repeated_or_skipped_message() {
        let mut window = ReceiveWindow::default();
        assert!(!window.receive(1, &message(1)));
        assert!(window.receive(0, &message(1)));
        assert!(!window.receive(0, &message(1)));
    }
}
