//! The ends of circuits at this router: how they come and go, and what all of them keep.

use std::{collections::BTreeMap, time::Instant};

use nightgate_wire::link::Frame;

use crate::{
    Command, EndId, FailureCause, Role, Router,
    end::{End, EndState, Hop, Request, Way},
    info::BUDGET,
    router::Route,
    timer::Due,
};

impl Router {
    pub(crate) fn insert_end(&mut self, end: End, now: Instant) -> EndId {
        let id = EndId(self.next_end);
        self.next_end += 1;
        if end.role == Role::Host {
            self.hosting.insert(end.circuit, id);
        }
        if let Some(Way { hop: Hop::Link(link), path }) = end.way {
            let route = Route { hop: Hop::End(id), circuit: end.circuit };
            self.add_route(link, path, route, now);
        }
        self.ends.insert(id, end);
        self.arm(id);
        self.arm_moves(now);
        id
    }

    /// Wakes an end when it is due.
    pub(crate) fn arm(&mut self, id: EndId) {
        if let Some(end) = self.ends.get_mut(&id) {
            let at = end.due();
            self.timers.arm(Due::End(id), &mut end.armed, at);
        }
    }

    /// Changes an end and counts what it keeps.
    pub(crate) fn change<R>(&mut self, id: EndId, change: impl FnOnce(&mut End) -> R) -> Option<R> {
        let end = self.ends.get_mut(&id)?;
        let before = end.bytes();
        let result = change(end);
        self.bytes = self.bytes - before + end.bytes();
        Some(result)
    }

    /// Most that a window may grow to now.
    pub(crate) fn window_ceiling(&self) -> u64 {
        if self.bytes > BUDGET / 2 { crate::INITIAL_WINDOW } else { crate::MAX_WINDOW }
    }

    /// Ends a circuit if all together keep too much: the greediest of the two identities that keep most with each
    /// other, so that nobody ends the circuits of others by opening many.
    pub(crate) fn keep_budget(&mut self) {
        if self.bytes <= BUDGET {
            return;
        }
        let mut pairs = BTreeMap::<_, u64>::new();
        for end in self.ends.values() {
            *pairs.entry((&end.dialer, &end.host)).or_default() += end.bytes();
        }
        let Some((pair, _)) = pairs.into_iter().max_by_key(|(_, bytes)| *bytes) else { return };
        let ends = self.ends.iter().filter(|(_, end)| (&end.dialer, &end.host) == pair);
        if let Some((id, _)) = ends.max_by_key(|(_, end)| end.bytes()) {
            self.end_circuit(*id, FailureCause::Capacity);
        }
    }

    /// Ends a circuit for a reason of this router's own: tells the other side and the client.
    pub(crate) fn end_circuit(&mut self, id: EndId, cause: FailureCause) {
        if let Some(way) = self.ends.get(&id).and_then(|end| end.way) {
            self.emit(way.hop, Frame::Close(way.path));
        }
        self.forget_end(id, cause);
    }

    /// Ends a circuit whose other side already knows, and tells the client.
    pub(crate) fn forget_end(&mut self, id: EndId, cause: FailureCause) {
        let Some(end) = self.remove_end(id) else { return };
        self.note_ended(id, &end, cause);
        match (end.role, end.state) {
            (_, EndState::Closing) => {}
            (Role::Dialer, EndState::Waiting(_)) => {
                let detail = format!("the circuit ended before it stood ({cause})");
                let refusal = crate::DialRefusal::new(cause, detail);
                self.commands.push_back(Command::Refused(id, refusal));
            }
            (Role::Dialer | Role::Host | Role::Transit, _) => {
                self.commands.push_back(Command::Closed(id, cause));
            }
        }
    }

    pub(crate) fn remove_end(&mut self, id: EndId) -> Option<End> {
        let mut end = self.ends.remove(&id)?;
        self.bytes -= end.bytes();
        self.timers.disarm(Due::End(id), end.armed);
        self.release(end.request.take());
        if end.role == Role::Host {
            self.hosting.remove(&end.circuit);
        }
        if let Some(way) = end.way {
            self.remove_way(way);
        }
        if let Some(terminator) = &end.terminator {
            self.loads.end(terminator);
        }
        if let Some(asked) = end.healing.asked.take() {
            self.leave_way(asked.way);
        }
        Some(end)
    }

    /// Forgets a path of an end; `true` when there was a neighbour on it, who should be told.
    pub(crate) fn remove_way(&mut self, way: Way) -> bool {
        match way.hop {
            Hop::Link(link) => self.remove_route(link, way.path).is_some(),
            Hop::End(_) => false,
        }
    }

    /// A neighbour's request is answered, and counts no more.
    pub(crate) fn release(&mut self, request: Option<Box<Request>>) {
        if let Some(request) = request
            && let Some(peer) = self.peers.get_mut(&request.peer)
        {
            peer.waiting = peer.waiting.saturating_sub(request.bytes);
        }
    }
}
