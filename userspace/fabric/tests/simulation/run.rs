//! One run: a network, clients that talk, and whoever breaks things.

mod forge;

use std::time::{Duration, Instant};

use bytes::Bytes;
use nightgate_fabric::{Command, Dial, DialRefusal, EndId, FailureCause, KeyShare, Lane, weight};
use nightgate_model::{
    entity::Terminator,
    id::{IdentityId, ServiceId},
    replica::Replica,
};

use crate::{
    dice::Dice,
    fixtures,
    network::{Edge, Happening, Network},
    talks::{Over, Place, Talks, message},
};

/// How long things break, how long clients go on after that, and how long all is quiet before the
/// reference is asked: longer than a circuit waits for a path.
const BREAKING: Duration = Duration::from_secs(8);
const TALKING: Duration = Duration::from_secs(3);
const QUIET: Duration = Duration::from_secs(45);

/// What was done in all runs.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    circuits: usize,
    messages: u64,
    frames: u64,
    moves: u32,
    faults: u32,
    forged: u32,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        self.circuits += other.circuits;
        self.messages += other.messages;
        self.frames += other.frames;
        self.moves += other.moves;
        self.faults += other.faults;
        self.forged += other.forged;
    }
}

enum App {
    Tick,
    Break,
    Mend(Fault),
    Forge,
    Answer(Place, bool),
    Consume(Place, u64),
}

#[derive(Clone, Copy)]
enum Fault {
    Killed(usize),
    Frozen(usize),
    Cut(usize),
    Controller,
}

struct Run {
    network: Network<App>,
    talks: Talks,
    totals: Totals,
    breaking: Instant,
    talking: Instant,
    hostile: usize,
}

pub(crate) fn run(seed: u64) -> Totals {
    let mut dice = Dice(seed ^ 0x5eed);
    let good = 3 + dice.below(5);
    let mut edges = ring(good, &mut dice);
    // The last router is hostile, linked to two others, and on no path.
    for peer in [0, good - 1] {
        edges.push(edge([peer, good], &mut dice));
    }
    let mut network = Network::new(seed, good + 1, edges, replica());
    network.hidden = Some(good);
    for at in [good - 1, good / 2] {
        let terminator = terminator(at);
        network.nodes[at].terminators.push(terminator.clone());
        network.with(at, |router, _| router.host(terminator));
    }
    let now = network.now;
    let mut run = Run {
        network,
        talks: Talks::default(),
        totals: Totals::default(),
        breaking: now + BREAKING,
        talking: now + BREAKING + TALKING,
        hostile: good,
    };
    let calm = Duration::from_secs(1);
    run.network.later(calm, App::Tick);
    run.network.later(calm, App::Break);
    run.network.later(calm, App::Forge);
    run.go();
    run.totals
}

/// Routers in a ring with chords, so that most faults leave a path.
fn ring(routers: usize, dice: &mut Dice) -> Vec<Edge> {
    let mut edges: Vec<Edge> =
        (0..routers).map(|at| edge([at, (at + 1) % routers], dice)).collect();
    for a in 0..routers {
        for b in a + 2..routers {
            if dice.one_in(3) && (a, b) != (0, routers - 1) {
                edges.push(edge([a, b], dice));
            }
        }
    }
    edges
}

fn edge(ends: [usize; 2], dice: &mut Dice) -> Edge {
    let rate = if dice.one_in(4) { 500 } else { 100_000 };
    let connections = 1 + dice.below(2);
    Edge { ends, delay: dice.millis(0, 40), rate, cut: false, connections }
}

pub(crate) fn terminator(at: usize) -> Terminator {
    fixtures::terminator(&format!("t{at}"), at)
}

pub(crate) fn replica() -> Replica {
    fixtures::replica(&["anna", "hugo", "mallory"])
}

pub(crate) fn dial(dialer: &str) -> Dial {
    Dial {
        service: ServiceId::new("web"),
        dialer: IdentityId::new(dialer),
        instance: String::new(),
        caller: dialer.into(),
        key_share: KeyShare::default(),
        app_data: Bytes::new(),
        session: Bytes::new(),
    }
}

impl Run {
    fn go(&mut self) {
        let end = self.talking + QUIET;
        while let Some(happening) = self.network.next(end) {
            match happening {
                Happening::Command(node, command) => self.command(node, *command),
                Happening::App(app) => self.app(app),
            }
        }
        let lives: Vec<u64> = self.network.nodes.iter().map(|node| node.life).collect();
        let routers: Vec<_> =
            self.network.nodes.iter().map(|node| node.router.as_ref().unwrap()).collect();
        self.talks.check(&lives, &routers);
        self.totals.circuits = self.talks.talks.len();
        self.totals.messages = self.talks.talks.values().flat_map(|talk| talk.got).sum();
        self.totals.frames = self.network.frames;
    }

    fn place(&self, node: usize, end: EndId) -> Place {
        (node, self.network.nodes[node].life, end)
    }

    fn command(&mut self, node: usize, command: Command) {
        match command {
            Command::Offer(end, circuit, offer) => {
                assert_eq!(offer.dial.dialer.as_str(), "anna", "offered for somebody else");
                let place = self.place(node, end);
                self.talks.offered(circuit, place);
                let takes = !self.network.dice.one_in(10);
                let after = self.network.dice.millis(0, 50);
                self.network.later(after, App::Answer(place, takes));
            }
            Command::Opened(end, circuit, _) => {
                let place = self.place(node, end);
                self.talks.opened(circuit, place);
            }
            Command::Deliver(end, payload) => {
                let place = self.place(node, end);
                self.talks.heard(place, &payload);
                let slow = self.network.dice.one_in(20);
                let after = self.network.dice.millis(0, if slow { 400 } else { 3 });
                self.network.later(after, App::Consume(place, weight(&payload)));
            }
            Command::Closed(end, cause) => {
                let place = self.place(node, end);
                self.talks.ended(place, cause);
            }
            Command::Moved(..) => self.totals.moves += 1,
            Command::Refused(_, DialRefusal { cause, .. }) => {
                assert_ne!(cause, FailureCause::Protocol);
            }
            Command::Credit(..) => {}
            other => panic!("{other:?}"),
        }
    }

    fn lives(&self, place: Place) -> bool {
        self.network.nodes[place.0].life == place.1
    }

    fn app(&mut self, app: App) {
        let now = self.network.now;
        match app {
            App::Tick if now < self.talking => {
                self.tick();
                let after = self.network.dice.millis(5, 70);
                self.network.later(after, App::Tick);
            }
            App::Break if now < self.breaking => {
                self.break_something();
                let after = self.network.dice.millis(100, 2_000);
                self.network.later(after, App::Break);
            }
            App::Forge if now < self.talking => {
                self.forge();
                let after = self.network.dice.millis(10, 200);
                self.network.later(after, App::Forge);
            }
            App::Tick | App::Break | App::Forge => {}
            App::Mend(fault) => self.mend(fault),
            App::Answer(place, takes) => self.answer(place, takes),
            App::Consume(place, weight) if self.lives(place) => {
                if self.network.with(place.0, |r, now| r.consumed(place.2, weight, now)).is_none() {
                    // Frozen: its client takes it later.
                    self.network.later(Duration::from_millis(100), App::Consume(place, weight));
                }
            }
            App::Consume(..) => {}
        }
    }

    fn answer(&mut self, place: Place, takes: bool) {
        if !self.lives(place) {
            return;
        }
        let answered = self.network.with(place.0, |router, now| match takes {
            true => router.accept(place.2, KeyShare::default(), now),
            false => {
                let refusal = DialRefusal::new(FailureCause::HostRefused, "not now");
                router.refuse(place.2, &refusal, now);
            }
        });
        if answered.is_none() {
            self.network.later(Duration::from_millis(100), App::Answer(place, takes));
        } else if !takes {
            let (circuit, _) = self.talks.find(place).unwrap();
            self.talks.talks.get_mut(&circuit).unwrap().over[1].get_or_insert(Over::Left);
        }
    }

    /// Clients do something.
    fn tick(&mut self) {
        let node = self.network.dice.below(self.hostile);
        if self.network.dice.one_in(6) {
            self.network
                .with(node, |router, now| router.dial(dial("anna"), Lane::default(), now).is_ok());
            let refused = self
                .network
                .with(node, |router, now| router.dial(dial("mallory"), Lane::default(), now));
            let cause = refused.map(|refused| refused.unwrap_err().cause);
            assert!(cause.is_none_or(|cause| cause == FailureCause::Unauthorized));
        }
        let speakers = self.talks.speakers();
        if speakers.is_empty() {
            return;
        }
        let (circuit, side, place) = speakers[self.network.dice.below(speakers.len())];
        if !self.lives(place) {
            return;
        }
        if self.network.dice.one_in(30) {
            if self.network.with(place.0, |router, now| router.close(place.2, now)).is_some() {
                self.talks.talks.get_mut(&circuit).unwrap().over[side] = Some(Over::Left);
            }
            return;
        }
        for _ in 0..self.network.dice.below(40) {
            let talk = self.talks.talks.get_mut(&circuit).unwrap();
            let payload = message(circuit, side, talk.sent[side]);
            let sent = self.network.with(place.0, |router, now| router.send(place.2, payload, now));
            if !matches!(sent, Some(Ok(()))) {
                return;
            }
            self.talks.talks.get_mut(&circuit).unwrap().sent[side] += 1;
        }
    }

    fn break_something(&mut self) {
        self.totals.faults += 1;
        let node = self.network.dice.below(self.hostile);
        let network = &mut self.network;
        let fault = match network.dice.below(6) {
            0 if network.nodes[node].router.is_some() => {
                network.kill(node);
                Fault::Killed(node)
            }
            1 | 2 if network.nodes[node].router.is_some() && !network.nodes[node].frozen => {
                network.nodes[node].frozen = true;
                Fault::Frozen(node)
            }
            3 => {
                network.controller = false;
                Fault::Controller
            }
            _ => {
                let edge = network.dice.below(network.edges.len());
                network.edges[edge].cut = true;
                Fault::Cut(edge)
            }
        };
        let after = self.network.dice.millis(50, 5_000);
        self.network.later(after, App::Mend(fault));
    }

    fn mend(&mut self, fault: Fault) {
        match fault {
            Fault::Killed(node) if self.network.nodes[node].router.is_none() => {
                self.network.start(node);
            }
            Fault::Frozen(node) if self.network.nodes[node].frozen => self.network.thaw(node),
            Fault::Killed(_) | Fault::Frozen(_) => {}
            Fault::Cut(edge) => self.network.mend(edge),
            Fault::Controller => self.network.controller = true,
        }
    }
}
