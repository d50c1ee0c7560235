//! Routers, the connections between them, and a controller, in virtual time.

mod wires;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use nightgate_fabric::{Command, LinkId, Router};
use nightgate_model::{
    entity::Terminator,
    id::RouterId,
    replica::{LinkReport, Replica},
};
use nightgate_wire::link::Frame;

use self::wires::{Delivery, Wire};
use crate::dice::Dice;

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

const PUBLISH_EVERY: Duration = Duration::from_millis(400);

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
