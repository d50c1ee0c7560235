//! What a router does with a frame: pass it on, or give it to the end it is for.

use std::time::{Duration, Instant};

use nightgate_wire::{
    Headers,
    link::{Ack, Frame, Numbered, PathId, Wish},
};

use crate::{
    Command, EndId, FailureCause, LinkId, Role, Router, announce,
    end::{EndState, Hop},
    flow::Arrival,
    open,
};

/// Nobody makes an end send everything again more often than this.
const REPEAT_EVERY: Duration = Duration::from_millis(250);

impl Router {
    /// Takes a frame from a neighbour.
    pub fn handle_frame(&mut self, link: LinkId, frame: Frame, now: Instant) {
        let Some(neighbour) = self.links.get_mut(&link) else { return };
        neighbour.handle_heard();
        match frame {
            Frame::Ping(stamp) => self.emit(Hop::Link(link), Frame::Pong(stamp)),
            Frame::Pong(stamp) => {
                if neighbour.handle_pong(stamp, now) {
                    self.links_changed();
                }
            }
            Frame::Hello(_) => self.drop_link(link, FailureCause::Protocol, now),
            Frame::Hosts(headers) => match announce::read(&headers, &neighbour.peer) {
                Some(hosts) => neighbour.hosts = hosts,
                None => self.drop_link(link, FailureCause::Protocol, now),
            },
            Frame::Open(path, headers) => self.handle_open(link, path, &headers, now),
            Frame::Reroute(path, headers) => self.handle_reroute(link, path, &headers, now),
            Frame::Trace(path, headers) => self.handle_trace(link, path, headers),
            Frame::Opened(path, _)
            | Frame::Traced(path, _)
            | Frame::Refused(path, _)
            | Frame::Rerouted(path, _)
            | Frame::Payload(path, _)
            | Frame::Ack(path, _)
            | Frame::Fin(path, _)
            | Frame::Close(path)
            | Frame::Unroute(path, _) => self.forward(link, path, frame, now),
        }
        self.settle(now);
    }

    fn forward(&mut self, link: LinkId, path: PathId, frame: Frame, now: Instant) {
        let last = matches!(frame, Frame::Refused(..) | Frame::Close(_) | Frame::Unroute(..));
        match self.routes.get(&(link, path)).map(|route| route.hop) {
            Some(Hop::Link(onward)) => {
                if last {
                    self.remove_route(link, path);
                    self.remove_route(onward, path);
                }
                self.emit(Hop::Link(onward), frame);
            }
            Some(Hop::End(end)) => self.handle_end_frame(end, frame, now),
            // The path ended here while this was under way: say so, once.
            None if last => {}
            None => self.emit(Hop::Link(link), Frame::Unroute(path, Headers::new())),
        }
    }

    /// Takes a frame that has arrived at its end.
    pub(crate) fn handle_end_frame(&mut self, id: EndId, frame: Frame, now: Instant) {
        let Some(end) = self.ends.get(&id) else { return };
        let asked = end.healing.asked.as_ref().map(|asked| asked.way.path);
        if asked.is_some() && asked == frame.path() {
            self.handle_asked_frame(id, frame, now);
        } else {
            self.handle_circuit_frame(id, frame, now);
        }
        self.arm(id);
    }

    fn handle_circuit_frame(&mut self, id: EndId, frame: Frame, now: Instant) {
        let Some(end) = self.ends.get(&id) else { return };
        match (frame, end.role, end.state) {
            (Frame::Opened(_, headers), Role::Dialer, EndState::Waiting(_)) => {
                self.handle_opened(id, open::key_share(&headers), now);
            }
            (Frame::Refused(_, headers), Role::Dialer, EndState::Waiting(_)) => {
                self.handle_refused(id, open::refusal(&headers), open::lost(&headers), now);
            }
            (Frame::Payload(_, message), _, EndState::Open | EndState::Closing) => {
                self.handle_payload(id, message, now);
            }
            (Frame::Ack(_, ack), _, EndState::Open | EndState::Closing) => {
                self.handle_ack(id, ack, now);
            }
            (Frame::Fin(_, messages), _, EndState::Open | EndState::Closing) => {
                self.handle_fin(id, messages, now);
            }
            (Frame::Trace(_, headers), ..) => self.handle_local_trace(id, &headers),
            (Frame::Traced(_, headers), ..) => self.handle_traced(id, &headers),
            (Frame::Close(_), _, _) => self.forget_end(id, FailureCause::ClosedByPeer),
            (Frame::Unroute(path, headers), _, _) => {
                self.lose_path(id, path, open::lost(&headers), now);
            }
            (
                Frame::Hello(_)
                | Frame::Open(..)
                | Frame::Opened(..)
                | Frame::Refused(..)
                | Frame::Reroute(..)
                | Frame::Rerouted(..)
                | Frame::Payload(..)
                | Frame::Ack(..)
                | Frame::Fin(..)
                | Frame::Hosts(_)
                | Frame::Ping(_)
                | Frame::Pong(_),
                _,
                _,
            ) => self.end_circuit(id, FailureCause::Protocol),
        }
    }

    fn handle_payload(&mut self, id: EndId, message: Numbered, now: Instant) {
        let arrival = self.change(id, |end| (end.receive.receive(&message, now), end.state));
        match arrival {
            Some((Arrival::Next, EndState::Closing)) => self.discard(id, now),
            Some((Arrival::Next, _)) => {
                self.commands.push_back(Command::Deliver(id, message.payload));
            }
            Some((Arrival::Gap, _)) => self.acknowledge(id, Wish::Repeat, now),
            Some((Arrival::Excess, _)) => self.end_circuit(id, FailureCause::Protocol),
            Some((Arrival::Nothing, _)) | None => {}
        }
        self.acknowledge_if_owed(id, now);
        self.keep_budget();
    }

    /// Takes the end of the other side's messages, which ends the circuit.
    fn handle_fin(&mut self, id: EndId, messages: u64, now: Instant) {
        match self.change(id, |end| end.receive.finish(messages, now)) {
            Some(Arrival::Next) => {
                self.acknowledge(id, Wish::Nothing, now);
                if let Some(way) = self.ends.get(&id).and_then(|end| end.way) {
                    self.emit(way.hop, Frame::Unroute(way.path, Headers::new()));
                }
                self.forget_end(id, FailureCause::ClosedByPeer);
            }
            Some(Arrival::Gap) => self.acknowledge(id, Wish::Repeat, now),
            Some(Arrival::Nothing | Arrival::Excess) | None => {}
        }
    }

    pub(crate) fn handle_ack(&mut self, id: EndId, ack: Ack, now: Instant) {
        let Some((credit, end)) = self.change(id, |end| {
            let before = end.send.received();
            let credit = end.send.handle_ack(&ack, now);
            let progress = end.send.received() > before;
            end.watch.handle_answer(progress, now);
            (credit, end.state)
        }) else {
            return;
        };
        match credit {
            Err(_lie) => return self.end_circuit(id, FailureCause::Protocol),
            Ok(credit) if credit > 0 && end == EndState::Open => {
                self.commands.push_back(Command::Credit(id, credit));
            }
            Ok(_) => {}
        }
        let Some(end) = self.ends.get_mut(&id) else { return };
        if end.send.is_idle() && end.state == EndState::Closing {
            if let Some(end) = self.remove_end(id) {
                self.note_ended(id, &end, FailureCause::ClosedByPeer);
            }
            return;
        }
        let silent = end.watch.is_silent(&end.send, now);
        match ack.wish {
            Wish::Repeat => self.repeat(id, now),
            Wish::Answer => self.acknowledge(id, Wish::Nothing, now),
            Wish::Nothing if silent => {
                end.watch.repeated = Some(now);
                end.watch.silences += 1;
                end.send.handle_silence(now);
            }
            Wish::Nothing => {}
        }
        self.transmit(id, now);
    }

    /// Sends again what did not arrive.
    fn repeat(&mut self, id: EndId, now: Instant) {
        self.change(id, |end| {
            let pause = end.send.round_trip().unwrap_or_default().max(REPEAT_EVERY);
            if end.watch.repeated.is_none_or(|at| now >= at + pause) {
                end.watch.repeated = Some(now);
                end.send.handle_loss(now);
            }
        });
    }
}
