//! Routers, the connections between them, and a controller, in virtual time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use nightgate_fabric::{Command, LinkId, LinkQueue, Router};
use nightgate_model::{
    entity::Terminator,
    id::RouterId,
    replica::{LinkReport, Replica},
};
use nightgate_wire::link::Frame;

/// SplitMix64: the same seed, the same run.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn millis(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from + self.below(to - from)) as u64)
    }
}

/// A router that may be frozen, killed and started again.
pub(crate) struct Node {
    pub(crate) id: RouterId,
    pub(crate) router: Option<Router>,
    /// Counts starts.
    pub(crate) life: u64,
    pub(crate) frozen: bool,
    pub(crate) terminators: Vec<Terminator>,
    inbox: VecDeque<(LinkId, Delivery)>,
    wake: Option<Instant>,
    /// Index of the replica that it has.
    told: u64,
}

/// Two routers that are connected whenever they can be.
pub(crate) struct Edge {
    pub(crate) ends: [usize; 2],
    pub(crate) delay: Duration,
    /// Bytes in a millisecond.
    pub(crate) rate: u64,
    pub(crate) cut: bool,
    pub(crate) connections: usize,
}

/// One connection, like TCP: in order, complete, and silent while its edge is cut.
struct Wire {
    edge: usize,
    open: [bool; 2],
    queue: [LinkQueue; 2],
    writing: [bool; 2],
    /// What could not arrive because the edge is cut.
    held: VecDeque<(usize, Delivery)>,
}

enum Delivery {
    Frame(Frame),
    Down,
}

enum Event<A> {
    Write(LinkId, usize),
    Arrive(LinkId, usize, Delivery),
    Wake(usize),
    Connect,
    Publish,
    App(A),
}

/// What happened that the ends of circuits have to know.
pub(crate) enum Happening<A> {
    Command(usize, Box<Command>),
    App(A),
}

pub(crate) struct Network<A> {
    pub(crate) now: Instant,
    pub(crate) dice: Dice,
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) replica: Replica,
    /// A controller that is away tells nobody anything.
    pub(crate) controller: bool,
    /// Links to this router are kept from the others, so that no path leads through it.
    pub(crate) hidden: Option<usize>,
    pub(crate) happenings: VecDeque<Happening<A>>,
    /// The last frames on any connection, for whoever listens.
    pub(crate) overheard: VecDeque<Frame>,
    pub(crate) frames: u64,
    queue_limit: Option<usize>,
    reports: BTreeMap<usize, Vec<LinkReport>>,
    wires: BTreeMap<LinkId, Wire>,
    events: BinaryHeap<Reverse<(Instant, u64)>>,
    what: BTreeMap<u64, Event<A>>,
    counter: u64,
}

const CONNECT_EVERY: Duration = Duration::from_millis(150);
const PUBLISH_EVERY: Duration = Duration::from_millis(400);
const OVERHEARD: usize = 256;

impl<A> Network<A> {
    pub(crate) fn new(seed: u64, nodes: usize, edges: Vec<Edge>, replica: Replica) -> Self {
        Self::bounded(seed, nodes, (edges, replica), None)
    }

    /// With so many bytes that wait at most on each side of a connection.
    pub(crate) fn bounded(
        seed: u64,
        nodes: usize,
        (edges, replica): (Vec<Edge>, Replica),
        queue_limit: Option<usize>,
    ) -> Self {
        let mut network = Self {
            now: Instant::now(),
            dice: Dice(seed),
            nodes: (0..nodes).map(Node::new).collect(),
            edges,
            replica,
            controller: true,
            hidden: None,
            happenings: VecDeque::new(),
            overheard: VecDeque::new(),
            frames: 0,
            queue_limit,
            reports: BTreeMap::new(),
            wires: BTreeMap::new(),
            events: BinaryHeap::new(),
            what: BTreeMap::new(),
            counter: 1,
        };
        for at in 0..nodes {
            network.start(at);
        }
        network.connect();
        network.publish();
        network
    }

    pub(crate) fn later(&mut self, after: Duration, app: A) {
        self.schedule(self.now + after, Event::App(app));
    }

    fn schedule(&mut self, at: Instant, event: Event<A>) {
        self.counter += 1;
        self.events.push(Reverse((at, self.counter)));
        self.what.insert(self.counter, event);
    }

    /// Runs until something happens at an end, or until then.
    pub(crate) fn next(&mut self, until: Instant) -> Option<Happening<A>> {
        loop {
            if let Some(happening) = self.happenings.pop_front() {
                return Some(happening);
            }
            let Reverse((at, number)) = *self.events.peek()?;
            if at > until {
                self.now = until;
                return None;
            }
            self.events.pop();
            self.now = at;
            match self.what.remove(&number)? {
                Event::Write(link, side) => self.write(link, side),
                Event::Arrive(link, side, delivery) => self.arrive(link, side, delivery),
                Event::Wake(node) => self.wake(node),
                Event::Connect => self.connect(),
                Event::Publish => self.publish(),
                Event::App(app) => return Some(Happening::App(app)),
            }
        }
    }

    /// Calls a router and does what it asks for; nothing if it is dead or frozen.
    pub(crate) fn with<R>(
        &mut self,
        node: usize,
        call: impl FnOnce(&mut Router, Instant) -> R,
    ) -> Option<R> {
        let now = self.now;
        let Node { router, frozen: false, .. } = &mut self.nodes[node] else { return None };
        let router = router.as_mut()?;
        let result = call(router, now);
        self.pump(node);
        Some(result)
    }

    fn pump(&mut self, node: usize) {
        while let Some(command) = self.nodes[node].router.as_mut().and_then(Router::poll_command) {
            match command {
                Command::Send(link, frame) => self.send(node, link, frame),
                Command::DropLink(link, _) => self.close(node, link),
                Command::LinksChanged => {}
                other => self.happenings.push_back(Happening::Command(node, Box::new(other))),
            }
        }
        let Some(at) = self.nodes[node].router.as_ref().and_then(Router::poll_timeout) else {
            return;
        };
        let at = at.0.max(self.now);
        if self.nodes[node].wake.is_none_or(|wake| at < wake) {
            self.nodes[node].wake = Some(at);
            self.schedule(at, Event::Wake(node));
        }
    }

    fn wake(&mut self, node: usize) {
        if self.nodes[node].wake.is_some_and(|at| at <= self.now) {
            self.nodes[node].wake = None;
            self.with(node, |router, now| router.handle_timeout(now));
        }
    }

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

    fn write(&mut self, link: LinkId, side: usize) {
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

    fn arrive(&mut self, link: LinkId, side: usize, delivery: Delivery) {
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

    fn take(&mut self, node: usize, link: LinkId, delivery: Delivery) {
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
    fn close(&mut self, node: usize, link: LinkId) {
        let Some(wire) = self.wires.get(&link) else { return };
        let side = self.side(wire, node);
        let delay = self.edges[wire.edge].delay;
        self.wires.get_mut(&link).unwrap().open[side] = false;
        self.forget(link);
        self.schedule(self.now + delay, Event::Arrive(link, 1 - side, Delivery::Down));
    }

    fn links_of(&self, node: usize) -> Vec<LinkId> {
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

    fn connect(&mut self) {
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

    /// The controller hears what routers say, and tells all.
    fn publish(&mut self) {
        if self.controller {
            for (at, node) in self.nodes.iter().enumerate() {
                match &node.router {
                    None => drop(self.reports.remove(&at)),
                    Some(_) if node.frozen => {}
                    Some(router) => drop(self.reports.insert(at, router.link_reports())),
                }
            }
            let hidden = self.hidden.map(|at| self.nodes[at].id.clone());
            let shown = |link: &&LinkReport| {
                hidden.as_ref().is_none_or(|id| link.from != *id && link.to != *id)
            };
            let before = self.replica.clone();
            self.replica.links =
                Arc::new(self.reports.values().flatten().filter(shown).cloned().collect());
            let terminators = self
                .nodes
                .iter()
                .filter(|node| node.router.is_some())
                .flat_map(|node| node.terminators.clone())
                .collect();
            self.replica.terminators = Arc::new(terminators);
            if self.replica != before {
                self.replica.index += 1;
            }
            let replica = Arc::new(self.replica.clone());
            for at in 0..self.nodes.len() {
                let tell =
                    |router: &mut Router, now| router.handle_replica(Arc::clone(&replica), now);
                if self.nodes[at].told != replica.index && self.with(at, tell).is_some() {
                    self.nodes[at].told = replica.index;
                }
            }
        }
        self.schedule(self.now + PUBLISH_EVERY, Event::Publish);
    }

    /// Starts a router anew, with nothing but what it hosts.
    pub(crate) fn start(&mut self, node: usize) {
        let mut seed = [node as u8; 32];
        seed[..8].copy_from_slice(&self.dice.next().to_be_bytes());
        let mut router = Router::new(self.nodes[node].id.clone(), seed);
        router.handle_replica(Arc::new(self.replica.clone()), self.now);
        for terminator in &self.nodes[node].terminators {
            router.host(terminator.clone());
        }
        self.nodes[node].router = Some(router);
        self.nodes[node].told = self.replica.index;
        self.nodes[node].wake = None;
        self.pump(node);
    }

    pub(crate) fn kill(&mut self, node: usize) {
        for link in self.links_of(node) {
            self.close(node, link);
        }
        let dead = &mut self.nodes[node];
        dead.router = None;
        dead.life += 1;
        dead.frozen = false;
        dead.inbox.clear();
    }

    pub(crate) fn thaw(&mut self, node: usize) {
        self.nodes[node].frozen = false;
        // Timers first: the worst order for a router that has overslept.
        self.with(node, |router, now| router.handle_timeout(now));
        for (link, delivery) in std::mem::take(&mut self.nodes[node].inbox) {
            self.take(node, link, delivery);
        }
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

impl Node {
    fn new(at: usize) -> Self {
        Self {
            id: RouterId::new(format!("r{at}")),
            router: None,
            life: 0,
            frozen: false,
            terminators: Vec::new(),
            inbox: VecDeque::new(),
            wake: None,
            told: 0,
        }
    }
}
