//! The connections between routers.

use std::{cmp::Reverse, collections::VecDeque, time::Duration};

use nightgate_fabric::{LinkId, LinkQueue};
use nightgate_wire::link::Frame;

use super::{Edge, Event, Network, Node};

/// One connection, like TCP: in order, complete, and silent while its edge is cut.
pub(super) struct Wire {
    edge: usize,
    open: [bool; 2],
    queue: [LinkQueue; 2],
    writing: [bool; 2],
    /// What could not arrive because the edge is cut.
    held: VecDeque<(usize, Delivery)>,
}

pub(super) enum Delivery {
    Frame(Frame),
    Down,
}

const CONNECT_EVERY: Duration = Duration::from_millis(150);
const OVERHEARD: usize = 256;

impl<A> Network<A> {
    fn side(&self, wire: &Wire, node: usize) -> usize {
        usize::from(self.edges[wire.edge].ends[1] == node)
    }

    pub(crate) fn send(&mut self, node: usize, link: LinkId, frame: Frame) {
        let Some(wire) = self.wires.get(&link) else { return };
        let side = self.side(wire, node);
        let cut = self.edges[wire.edge].cut;
        let wire = self.wires.get_mut(&link).unwrap();
        wire.queue[side].push(frame);
        assert!(!wire.queue[side].is_overrun(), "a link that everybody reads is overrun");
        if !wire.writing[side] && !cut {
            wire.writing[side] = true;
            self.schedule(self.now, Event::Write(link, side));
        }
    }

    pub(super) fn write(&mut self, link: LinkId, side: usize) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        let edge = &self.edges[wire.edge];
        let frame = if edge.cut { None } else { wire.queue[side].pop() };
        let Some(frame) = frame else {
            wire.writing[side] = false;
            return;
        };
        let written =
            self.now + Duration::from_micros(1000 * frame.encoded_len() as u64 / edge.rate);
        let arrival = written + edge.delay;
        self.frames += 1;
        self.overheard.push_back(frame.clone());
        if self.overheard.len() > OVERHEARD {
            self.overheard.pop_front();
        }
        self.schedule(arrival, Event::Arrive(link, 1 - side, Delivery::Frame(frame)));
        self.schedule(written, Event::Write(link, side));
    }

    pub(super) fn arrive(&mut self, link: LinkId, side: usize, delivery: Delivery) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        if self.edges[wire.edge].cut {
            wire.held.push_back((side, delivery));
            return;
        }
        let node = self.edges[wire.edge].ends[side];
        if self.nodes[node].frozen {
            self.nodes[node].inbox.push_back((link, delivery));
            return;
        }
        self.take(node, link, delivery);
    }

    pub(super) fn take(&mut self, node: usize, link: LinkId, delivery: Delivery) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        let side = usize::from(self.edges[wire.edge].ends[1] == node);
        if !wire.open[side] {
            return;
        }
        match delivery {
            Delivery::Frame(frame) => {
                self.with(node, |router, now| router.handle_frame(link, frame, now));
            }
            Delivery::Down => {
                wire.open[side] = false;
                self.forget(link);
                self.with(node, |router, now| router.handle_link_down(link, now));
            }
        }
    }

    fn forget(&mut self, link: LinkId) {
        if self.wires.get(&link).is_some_and(|wire| wire.open == [false, false]) {
            self.wires.remove(&link);
        }
    }

    /// Closes one end of a connection; the other hears of it.
    pub(super) fn close(&mut self, node: usize, link: LinkId) {
        let Some(wire) = self.wires.get(&link) else { return };
        let side = self.side(wire, node);
        let delay = self.edges[wire.edge].delay;
        self.wires.get_mut(&link).unwrap().open[side] = false;
        self.forget(link);
        self.schedule(self.now + delay, Event::Arrive(link, 1 - side, Delivery::Down));
    }

    pub(super) fn links_of(&self, node: usize) -> Vec<LinkId> {
        let mine = |wire: &Wire| {
            let ends = self.edges[wire.edge].ends;
            ends.contains(&node) && wire.open[self.side(wire, node)]
        };
        self.wires.iter().filter(|(_, wire)| mine(wire)).map(|(link, _)| *link).collect()
    }

    /// Links of a router with the edge each belongs to.
    pub(crate) fn neighbours(&self, node: usize) -> Vec<(LinkId, usize)> {
        let other = |link: &LinkId| {
            let ends = self.edges[self.wires[link].edge].ends;
            if ends[0] == node { ends[1] } else { ends[0] }
        };
        self.links_of(node).into_iter().map(|link| (link, other(&link))).collect()
    }

    pub(super) fn connect(&mut self) {
        let mut up = vec![0; self.edges.len()];
        for wire in self.wires.values().filter(|wire| wire.open == [true; 2]) {
            up[wire.edge] += 1;
        }
        for (at, up) in up.into_iter().enumerate() {
            let Edge { ends: [a, b], cut, connections, .. } = self.edges[at];
            let missing = connections.saturating_sub(up);
            let ready = |node: &Node| node.router.is_some() && !node.frozen;
            if missing == 0 || cut || !ready(&self.nodes[a]) || !ready(&self.nodes[b]) {
                continue;
            }
            self.counter += 1;
            let link = LinkId(self.counter);
            let wire = Wire {
                edge: at,
                open: [true; 2],
                queue: [self.queue(), self.queue()],
                writing: [false; 2],
                held: VecDeque::new(),
            };
            self.wires.insert(link, wire);
            for (here, there) in [(a, b), (b, a)] {
                let peer = self.nodes[there].id.clone();
                self.with(here, |router, now| router.handle_link_up(link, peer, now));
            }
        }
        self.schedule(self.now + CONNECT_EVERY, Event::Connect);
    }

    fn queue(&self) -> LinkQueue {
        self.queue_limit.map_or_else(LinkQueue::default, LinkQueue::bounded)
    }

    /// Frames that connections dropped for want of room.
    pub(crate) fn dropped(&self) -> u64 {
        self.wires.values().flat_map(|wire| &wire.queue).map(LinkQueue::dropped).sum()
    }

    /// Repairs an edge: what was on its way arrives late.
    pub(crate) fn mend(&mut self, edge: usize) {
        self.edges[edge].cut = false;
        let wires: Vec<LinkId> =
            self.wires.iter().filter(|(_, wire)| wire.edge == edge).map(|(id, _)| *id).collect();
        for link in wires {
            let Some(wire) = self.wires.get_mut(&link) else { continue };
            let held = std::mem::take(&mut wire.held);
            for side in [0, 1] {
                if !wire.writing[side] {
                    wire.writing[side] = true;
                    self.counter += 1;
                    self.events.push(Reverse((self.now, self.counter)));
                    self.what.insert(self.counter, Event::Write(link, side));
                }
            }
            for (side, delivery) in held {
                self.arrive(link, side, delivery);
            }
        }
    }
}
