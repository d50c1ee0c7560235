//! What clients of open circuits do: send, take, leave.

use std::time::Instant;

use nightgate_wire::link::{Frame, Payload, Wish};

use crate::{EndId, Router, SendError, end::EndState, flow::Outgoing};

impl Router {
    /// Sends a message of an open circuit.
    ///
    /// # Errors
    /// The circuit is not open, or the message exceeds the credit given so far.
    pub fn send(&mut self, id: EndId, payload: Payload, now: Instant) -> Result<(), SendError> {
        let sent = self.change(id, |end| {
            if end.state != EndState::Open {
                return Err(SendError::Closed);
            }
            end.watch.expect(&end.send, now);
            end.send.send(payload)
        });
        sent.unwrap_or(Err(SendError::Closed))?;
        self.transmit(id, now);
        self.arm(id);
        self.keep_budget();
        self.settle(now);
        Ok(())
    }

    /// Takes that the client took delivered messages of this [`crate::weight`].
    pub fn consumed(&mut self, id: EndId, weight: u64, now: Instant) {
        let ceiling = self.window_ceiling();
        self.change(id, |end| end.receive.consume(weight, ceiling, now));
        self.acknowledge_if_owed(id, now);
        self.settle(now);
    }

    /// Ends a circuit from this side. Messages sent before arrive before the end does.
    pub fn close(&mut self, id: EndId, now: Instant) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        match end.state {
            EndState::Closing => return,
            EndState::Waiting(_) => {
                if let Some(end) = self.remove_end(id)
                    && let Some(way) = end.way
                {
                    self.emit(way.hop, Frame::Close(way.path));
                }
            }
            EndState::Open => {
                end.watch.expect(&end.send, now);
                end.state = EndState::Closing;
                end.send.finish();
                self.transmit(id, now);
                self.discard(id, now);
                self.arm(id);
            }
        }
        self.settle(now);
    }

    /// Sends what may go now. Without a path, it goes when there is one.
    pub(crate) fn transmit(&mut self, id: EndId, now: Instant) {
        while let Some(end) = self.ends.get_mut(&id)
            && let Some(way) = end.way
            && let Some(outgoing) = end.send.poll(now)
        {
            let frame = match outgoing {
                Outgoing::Message(message) => Frame::Payload(way.path, message),
                Outgoing::End(messages) => Frame::Fin(way.path, messages),
            };
            self.emit(way.hop, frame);
        }
    }

    /// Takes all that a client which has gone will not take.
    pub(crate) fn discard(&mut self, id: EndId, now: Instant) {
        let ceiling = self.window_ceiling();
        self.change(id, |end| end.receive.consume(end.receive.held(), ceiling, now));
    }

    /// Acknowledges what came if it is time for that, else arranges for it.
    pub(crate) fn acknowledge_if_owed(&mut self, id: EndId, now: Instant) {
        let Some(end) = self.ends.get(&id) else { return };
        if end.receive.owed().is_some_and(|at| at <= now) {
            self.acknowledge(id, Wish::Nothing, now);
        }
        self.arm(id);
    }

    pub(crate) fn acknowledge(&mut self, id: EndId, wish: Wish, now: Instant) {
        if let Some(end) = self.ends.get_mut(&id)
            && let Some(way) = end.way
        {
            let ack = end.receive.acknowledge(wish, now);
            self.emit(way.hop, Frame::Ack(way.path, ack));
        }
    }
}
