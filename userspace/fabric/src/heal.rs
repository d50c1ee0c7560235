//! Other paths for circuits that stand.
//!
//! The dialer's end looks for the path, proves itself to the host's end along it, and each end tells
//! the other what it has; what is missing is sent again, in order, on the new path. A path is only
//! left when the next one stands, so a move that fails costs nothing.

use std::time::{Duration, Instant};

use nightgate_model::id::RouterId;
use nightgate_wire::{
    Headers,
    link::{Frame, PathId, Wish},
};

use crate::{
    Command, DialRefusal, EndId, FailureCause, LinkId, Role, Router,
    end::{Asked, End, EndState, HEAL_TIME, Hop, Proof, Way},
    offer::{MAX_REQUEST, Obstacle},
    open::{self, Reroute},
    path::{Lost, Path},
    router::Route,
};

/// Time for the answer to a request for another path, besides what the path costs.
const ASK_TIME: Duration = Duration::from_secs(1);

/// Time between two searches for a path: from, doubled each time, to.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// After so many questions without an answer, a path is taken for dead.
const UNANSWERED: u32 = 3;

/// After so many paths in a row on which the other end was said to be gone, it is.
const DENIALS: u32 = 3;

impl Router {
    /// Takes that a path of an end has gone; `lost` says where, if it is known.
    pub(crate) fn lose_path(&mut self, id: EndId, path: PathId, lost: Option<Lost>, now: Instant) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        if end.healing.asked.as_ref().is_some_and(|asked| asked.way.path == path) {
            return self.handle_ask_failed(id, lost.into_iter().collect(), now);
        }
        let Some(way) = end.way.take_if(|way| way.path == path) else { return };
        // Only of links on its own path: nobody is believed about others.
        let lost = lost.filter(|lost| end.takes(lost));
        end.healing.avoid(lost, now);
        self.remove_way(way);
        self.look_for_path(id, now);
        self.arm(id);
    }

    /// An end has lost its path.
    fn look_for_path(&mut self, id: EndId, now: Instant) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        match (end.role, end.state) {
            (Role::Dialer, EndState::Waiting(_)) => {
                let detail = "the path was lost before the circuit stood";
                end.note_refusal(DialRefusal::new(FailureCause::LinkLost, detail));
                self.dial_again(id, now);
            }
            (_, EndState::Waiting(_)) => self.forget_end(id, FailureCause::LinkLost),
            (Role::Dialer, _) => {
                end.healing.since.get_or_insert(now);
                self.heal(id, now);
            }
            (Role::Host | Role::Transit, _) => {
                end.healing.since.get_or_insert(now);
            }
        }
    }

    /// Asks for another path, or arranges to look for one later.
    fn heal(&mut self, id: EndId, now: Instant) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        if end.healing.asked.is_some() {
            return;
        }
        end.healing.retry = None;
        let avoid = end.healing.avoided(now).to_vec();
        let Some(host) = end.routers.last().cloned() else { return };
        match self.find_path(&host, &avoid) {
            Some(path) => self.ask(id, path, now),
            None => self.retry_later(id, now),
        }
        self.arm(id);
    }

    fn retry_later(&mut self, id: EndId, now: Instant) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        // What failed may work again by then.
        end.healing.forgive();
        end.healing.retry = Some(now + end.healing.pause());
    }

    pub(crate) fn ask(&mut self, id: EndId, path: Path, now: Instant) {
        let number = PathId(self.random.number());
        let lane = self.lane_of(id);
        let link = path.routers.get(1).and_then(|next| self.link_to(next, lane));
        let Some(link) = link else { return self.retry_later(id, now) };
        let Some(end) = self.ends.get_mut(&id) else { return };
        let (circuit, routers) = (end.circuit, path.routers.clone());
        let Proof::Dialer(prover) = &mut end.proof else { return };
        let ack = end.receive.acknowledge(Wish::Nothing, now);
        let request = Reroute::new(prover, (circuit, number), path.routers, ack);
        let Some(request) = request else { return self.retry_later(id, now) };
        let until = now + ASK_TIME + Duration::from_millis(2 * path.cost.min(1000));
        let way = Way { hop: Hop::Link(link), path: number };
        end.healing.asked = Some(Asked { way, routers, until });
        self.add_route(link, number, Route { hop: Hop::End(id), circuit }, now);
        self.emit(way.hop, Frame::Reroute(number, request.to_headers()));
        self.arm(id);
    }

    /// Takes a frame of the path that was asked for. No router on it can end the circuit, for that is not theirs yet.
    pub(crate) fn handle_asked_frame(&mut self, id: EndId, frame: Frame, now: Instant) {
        match frame {
            Frame::Rerouted(_, headers) => self.handle_rerouted(id, &headers, now),
            Frame::Refused(_, headers)
                if open::refusal(&headers).cause == FailureCause::LinkLost =>
            {
                self.handle_denial(id, now);
            }
            Frame::Refused(_, headers) | Frame::Unroute(_, headers) => {
                self.handle_ask_failed(id, open::lost(&headers).into_iter().collect(), now);
            }
            Frame::Close(_)
            | Frame::Hello(_)
            | Frame::Open(..)
            | Frame::Opened(..)
            | Frame::Reroute(..)
            | Frame::Payload(..)
            | Frame::Ack(..)
            | Frame::Fin(..)
            | Frame::Trace(..)
            | Frame::Traced(..)
            | Frame::Hosts(_)
            | Frame::Ping(_)
            | Frame::Pong(_) => self.handle_bad_path(id, now),
        }
    }

    /// Takes that the other end has given up, or its router has restarted. Routers on the way could say that as well, so
    /// it is believed from a neighbour that is the host's router, or after others were asked.
    fn handle_denial(&mut self, id: EndId, now: Instant) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        end.healing.denials += 1;
        let first_hand = end.healing.asked.as_ref().is_some_and(|asked| asked.routers.len() == 2);
        if end.way.is_none() && (first_hand || end.healing.denials >= DENIALS) {
            return self.forget_end(id, FailureCause::LinkLost);
        }
        self.handle_bad_path(id, now);
    }

    /// Takes another path than one whose routers did not answer as they should.
    fn handle_bad_path(&mut self, id: EndId, now: Instant) {
        let asked = self.ends.get(&id).and_then(|end| end.healing.asked.as_ref());
        let Some(bad) = asked.map(|asked| pairs(&asked.routers)) else { return };
        self.handle_ask_failed(id, bad, now);
    }

    fn handle_ask_failed(&mut self, id: EndId, lost: Vec<Lost>, now: Instant) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        let Some(asked) = end.healing.asked.take() else { return };
        let on_it = |lost: &Lost| takes(&asked.routers, lost);
        end.healing.avoid(lost.into_iter().filter(on_it), now);
        end.healing.moved = Some(now);
        // The acknowledgement in the request may not have arrived.
        end.receive.owe(now);
        if end.way.is_none() {
            end.healing.retry = Some(now + end.healing.pause());
        }
        self.leave_way(asked.way);
        self.arm(id);
    }

    /// Gives up a path and tells the routers on it.
    pub(crate) fn leave_way(&mut self, way: Way) {
        if self.remove_way(way) {
            self.emit(way.hop, Frame::Unroute(way.path, Headers::new()));
        }
    }

    fn handle_rerouted(&mut self, id: EndId, headers: &Headers, now: Instant) {
        let Some(ack) = open::ack(headers) else { return self.handle_bad_path(id, now) };
        let Some(end) = self.ends.get_mut(&id) else { return };
        let Some(Asked { way, routers, .. }) = end.healing.asked.take() else { return };
        end.receive.owe(now);
        self.take_way(id, way, routers, now);
        self.handle_ack(id, ack, now);
        self.transmit(id, now);
    }

    /// Changes to a path that stands.
    fn take_way(&mut self, id: EndId, way: Way, routers: Vec<RouterId>, now: Instant) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        let before = end.way.replace(way);
        end.routers.clone_from(&routers);
        end.healing.handle_moved(now);
        end.watch = crate::end::Watch::new(now);
        end.send.handle_new_path();
        end.receive.handle_new_path(now);
        if end.state == EndState::Open {
            self.commands.push_back(Command::Moved(id, routers));
        }
        if let Some(before) = before {
            self.leave_way(before);
        }
    }

    /// Takes a `Reroute` from a neighbour: forwards it, or gives the circuit that hosts here its path.
    pub(crate) fn handle_reroute(
        &mut self,
        link: LinkId,
        path: PathId,
        headers: &Headers,
        now: Instant,
    ) {
        if let Err(obstacle) = self.try_reroute(link, path, headers, now) {
            self.refuse_path(link, path, &obstacle);
        }
    }

    fn try_reroute(
        &mut self,
        link: LinkId,
        path: PathId,
        headers: &Headers,
        now: Instant,
    ) -> Result<(), Obstacle> {
        if headers.encoded_len() > MAX_REQUEST {
            return Err(Obstacle::broken("the request is too long"));
        }
        let request =
            Reroute::from_headers(headers).ok_or_else(|| Obstacle::broken("unreadable request"))?;
        if let Some(next) = self.next_router(link, path, &request.path)? {
            let frame = Frame::Reroute(path, headers.clone());
            return self.pass_on(link, &next, (frame, path, request.circuit), now);
        }
        let gone = || {
            let detail = "no such circuit, or the request does not come from its dialer";
            Obstacle::from(DialRefusal::new(FailureCause::LinkLost, detail))
        };
        let id = *self.hosting.get(&request.circuit).ok_or_else(gone)?;
        let end = self.ends.get_mut(&id).ok_or_else(gone)?;
        let Proof::Host(verifier) = &mut end.proof else { return Err(gone()) };
        if matches!(end.state, EndState::Waiting(_))
            || end.routers.first() != request.path.first()
            || !request.verify(path, verifier)
        {
            return Err(gone());
        }
        let way = Way { hop: Hop::Link(link), path };
        let circuit = end.circuit;
        self.add_route(link, path, Route { hop: Hop::End(id), circuit }, now);
        self.take_way(id, way, request.path, now);
        let Some(end) = self.ends.get_mut(&id) else { return Ok(()) };
        let ack = end.receive.acknowledge(Wish::Nothing, now);
        self.emit(way.hop, Frame::Rerouted(path, open::rerouted(ack)));
        self.handle_ack(id, request.ack, now);
        self.transmit(id, now);
        self.arm(id);
        Ok(())
    }

    /// Does what is due at an end.
    pub(crate) fn handle_end_timeout(&mut self, id: EndId, now: Instant) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        end.armed = None;
        let past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let given_up = past(end.healing.since.map(|since| since + HEAL_TIME));
        match end.state {
            EndState::Waiting(until) if until <= now => {
                return self.end_circuit(id, FailureCause::DialTimeout);
            }
            EndState::Closing if now >= end.watch.progress + HEAL_TIME => {
                return self.end_circuit(id, FailureCause::LinkLost);
            }
            EndState::Waiting(_) | EndState::Open | EndState::Closing if given_up => {
                return self.end_circuit(id, FailureCause::LinkLost);
            }
            EndState::Waiting(_) | EndState::Open | EndState::Closing => {}
        }
        if let Some(asked) = end.healing.asked.as_ref().filter(|asked| asked.until <= now) {
            let silent = pairs(&asked.routers);
            self.handle_ask_failed(id, silent, now);
        } else if past(end.healing.retry) {
            self.heal(id, now);
        }
        self.acknowledge_if_owed(id, now);
        self.watch(id, now);
        self.arm(id);
    }

    /// Asks the other end whether it is there when nothing arrives; leaves a path without an answer.
    fn watch(&mut self, id: EndId, now: Instant) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        let Some(way) = end.way.filter(|_| !end.send.is_idle() && end.watch.due() <= now) else {
            return;
        };
        end.watch.asked = Some(now);
        end.watch.unanswered += 1;
        if end.watch.unanswered <= UNANSWERED || matches!(way.hop, Hop::End(_)) {
            return self.acknowledge(id, Wish::Answer, now);
        }
        if matches!(end.state, EndState::Waiting(_)) {
            return;
        }
        let silent = pairs(&end.routers);
        end.healing.avoid(silent, now);
        end.way = None;
        self.leave_way(way);
        self.look_for_path(id, now);
    }
}

impl End {
    /// Whether a link is on its path.
    fn takes(&self, lost: &Lost) -> bool {
        takes(&self.routers, lost)
    }
}

impl crate::end::Healing {
    /// How long to wait before the next search.
    fn pause(&mut self) -> Duration {
        let (first, longest) = RETRY;
        self.tries += 1;
        (first * (1 << self.tries.min(10))).min(longest)
    }

    fn handle_moved(&mut self, now: Instant) {
        (self.since, self.retry, self.tries, self.denials) = (None, None, 0, 0);
        self.moved = Some(now);
        self.moves += 1;
    }
}

fn pairs(routers: &[RouterId]) -> Vec<Lost> {
    let pairs = routers.iter().zip(routers.iter().skip(1));
    pairs.map(|(a, b)| Lost(a.clone(), b.clone())).collect()
}

fn takes(routers: &[RouterId], lost: &Lost) -> bool {
    pairs(routers)
        .iter()
        .any(|Lost(a, b)| (a == &lost.0 && b == &lost.1) || (a == &lost.1 && b == &lost.0))
}
