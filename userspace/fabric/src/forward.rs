//! What a router does with a frame: pass it on, or give it to the end it is for.

use std::time::Instant;

use nightgate_wire::{
    Headers,
    link::{CircuitId, Frame, Payload, header},
};

use crate::{
    Command, DialRefusal, EndId, FailureCause, LinkId, Role, Router,
    end::{EndState, Hop},
    open::key_share,
};

impl Router {
    /// Takes a frame from a neighbour.
    pub fn handle_frame(&mut self, link: LinkId, frame: Frame, now: Instant) {
        let Some(neighbour) = self.links.get_mut(&link) else { return };
        neighbour.handle_heard(now);
        match frame {
            Frame::Ping(stamp) => self.commands.push_back(Command::Send(link, Frame::Pong(stamp))),
            Frame::Pong(stamp) => {
                if neighbour.handle_pong(stamp, now) {
                    self.commands.push_back(Command::LinksChanged);
                }
            }
            Frame::Hello(_) => {
                self.commands.push_back(Command::DropLink(link, FailureCause::Protocol));
                self.handle_link_down(link);
            }
            Frame::Open(circuit, headers) => self.handle_open(link, circuit, &headers, now),
            Frame::Opened(circuit, _)
            | Frame::Refused(circuit, _)
            | Frame::Payload(circuit, _, _)
            | Frame::Ack(circuit, _)
            | Frame::Close(circuit) => self.forward(link, circuit, frame),
        }
        self.settle();
    }

    fn forward(&mut self, link: LinkId, circuit: CircuitId, frame: Frame) {
        let last = matches!(frame, Frame::Refused(..) | Frame::Close(_));
        match self.routes.get(&(link, circuit)).copied() {
            Some(Hop::Link(onward)) => {
                if last {
                    self.routes.remove(&(link, circuit));
                    self.routes.remove(&(onward, circuit));
                }
                self.commands.push_back(Command::Send(onward, frame));
            }
            Some(Hop::End(end)) => self.handle_end_frame(end, frame),
            // The circuit ended here while this was under way: say so, once.
            None if last => {}
            None => self.commands.push_back(Command::Send(link, Frame::Close(circuit))),
        }
    }

    /// Takes a frame that has arrived at its end.
    pub(crate) fn handle_end_frame(&mut self, id: EndId, frame: Frame) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        match (frame, end.role, end.state) {
            (Frame::Opened(_, headers), Role::Dialer, EndState::Waiting(_)) => {
                self.deliver_opened(id, key_share(&headers));
            }
            (Frame::Refused(_, headers), Role::Dialer, EndState::Waiting(_)) => {
                self.remove_end(id);
                self.commands.push_back(Command::Refused(id, refusal(&headers)));
            }
            (Frame::Payload(_, sequence, payload), _, EndState::Open) => {
                self.receive(id, sequence, payload);
            }
            (Frame::Ack(_, consumed), _, EndState::Open) => match end.send.acked(consumed) {
                Some(credit) => self.commands.push_back(Command::Credit(id, credit)),
                None => self.end_circuit(id, FailureCause::Protocol),
            },
            (Frame::Close(_), _, _) => self.forget_end(id, FailureCause::ClosedByPeer),
            (
                Frame::Hello(_)
                | Frame::Open(..)
                | Frame::Opened(..)
                | Frame::Refused(..)
                | Frame::Payload(..)
                | Frame::Ack(..)
                | Frame::Ping(_)
                | Frame::Pong(_),
                _,
                _,
            ) => self.end_circuit(id, FailureCause::Protocol),
        }
    }

    fn receive(&mut self, id: EndId, sequence: u64, payload: Payload) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        if end.receive.receive(sequence, &payload) {
            self.commands.push_back(Command::Deliver(id, payload));
        } else {
            self.end_circuit(id, FailureCause::Protocol);
        }
    }
}

fn refusal(headers: &Headers) -> DialRefusal {
    let cause = headers.text(header::CAUSE).and_then(FailureCause::from_word);
    let detail = headers.text(header::DETAIL).unwrap_or("the other side gave no reason");
    DialRefusal::new(cause.unwrap_or(FailureCause::HostRefused), detail)
}
