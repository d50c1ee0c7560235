//! Single faults, and how fast a circuit is over them.

use std::time::Duration;

use bytes::Bytes;
use nightgate_fabric::{Command, EndId, KeyShare, Lane, LinkId, weight};
use nightgate_wire::{
    Headers,
    link::{Frame, Numbered, PathId, Payload, header},
};

use crate::{
    network::{Edge, Happening, Network},
    run::{dial, replica, terminator},
};

/// Two ways from the dialer's router 0 to the host's router 3: over 1, and the slower one over 2.
struct Diamond {
    network: Network<()>,
    dialer: EndId,
    host: EndId,
    sent: u32,
    got: u32,
    moved: Option<Vec<String>>,
}

const FAST: usize = 1;
const SLOW: usize = 2;
const HOST: usize = 3;

impl Diamond {
    fn new() -> Self {
        let edge = |ends, delay| Edge {
            ends,
            delay: Duration::from_millis(delay),
            rate: 100_000,
            cut: false,
            connections: 1,
        };
        let edges = vec![
            edge([0, FAST], 2),
            edge([FAST, HOST], 2),
            edge([0, SLOW], 20),
            edge([SLOW, HOST], 20),
        ];
        let mut network = Network::new(1, 4, edges, replica());
        network.nodes[HOST].terminators.push(terminator(HOST));
        network.with(HOST, |router, _| router.host(terminator(HOST)));
        let (dialer, host) = (EndId(0), EndId(0));
        let mut diamond = Self { network, dialer, host, sent: 0, got: 0, moved: None };
        diamond.pass(Duration::from_secs(2));
        let opened = |router: &mut nightgate_fabric::Router, now| {
            router.dial(dial("anna"), Lane::default(), now)
        };
        diamond.dialer = diamond.network.with(0, opened).unwrap().unwrap();
        diamond.pass(Duration::from_secs(1));
        assert_eq!(diamond.path(), ["r0", "r1", "r3"]);
        diamond
    }

    fn path(&self) -> Vec<String> {
        let circuits = self.network.nodes[0].router.as_ref().unwrap().circuits();
        circuits[0].path.iter().map(ToString::to_string).collect()
    }

    /// Lets time go by; the host takes what comes, in order.
    fn pass(&mut self, time: Duration) {
        let until = self.network.now + time;
        while let Some(happening) = self.network.next(until) {
            let Happening::Command(at, command) = happening else { continue };
            match *command {
                Command::Offer(end, ..) => {
                    self.host = end;
                    self.network.with(at, |r, now| r.accept(end, KeyShare::default(), now));
                }
                Command::Deliver(end, payload) => {
                    assert_eq!((end, &payload.body[..4]), (self.host, &self.got.to_be_bytes()[..]));
                    self.got += 1;
                    self.network.with(at, |r, now| r.consumed(end, weight(&payload), now));
                }
                Command::Moved(_, path) if at == 0 => {
                    self.moved = Some(path.iter().map(ToString::to_string).collect());
                }
                Command::Opened(..) | Command::Credit(..) | Command::Moved(..) => {}
                other => panic!("{at}: {other:?}"),
            }
        }
    }

    fn say(&mut self) {
        let body = [&self.sent.to_be_bytes()[..], &[0; 5_000]].concat();
        let payload = Payload { body: Bytes::from(body), ..Payload::default() };
        let dialer = self.dialer;
        self.network.with(0, |router, now| router.send(dialer, payload, now)).unwrap().unwrap();
        self.sent += 1;
    }

    /// Cuts the fast path, and gives the request for the slow one as soon as it is under way.
    fn request(&mut self) -> (PathId, Headers) {
        self.network.overheard.clear();
        self.network.edges[0].cut = true;
        self.say();
        loop {
            self.pass(Duration::from_millis(1));
            if let Some(Frame::Reroute(path, headers)) =
                self.network.overheard.iter().find(|frame| matches!(frame, Frame::Reroute(..)))
            {
                return (*path, headers.clone());
            }
        }
    }

    /// The connection from a router to another.
    fn link(&self, from: usize, to: usize) -> LinkId {
        let links = self.network.neighbours(from);
        links.into_iter().find_map(|(link, peer)| (peer == to).then_some(link)).unwrap()
    }

    /// Milliseconds from now until all that was said has arrived, while more is said.
    fn healed_after(&mut self) -> u32 {
        let (began, silent) = (self.network.now, self.got);
        let mut last = began;
        let mut longest = Duration::ZERO;
        let mut got = silent;
        while self.network.now < began + Duration::from_secs(5) {
            if self.sent - self.got < 80 {
                self.say();
            }
            self.pass(Duration::from_millis(5));
            if self.got > got {
                longest = longest.max(self.network.now - last);
                (last, got) = (self.network.now, self.got);
            }
        }
        self.pass(Duration::from_secs(1));
        assert_eq!(self.got, self.sent, "everything arrives");
        u32::try_from(longest.as_millis()).unwrap()
    }
}

#[test]
fn a_killed_router_is_left_at_once() {
    let mut diamond = Diamond::new();
    diamond.network.kill(FAST);
    let pause = diamond.healed_after();
    assert!(pause < 300, "{pause} ms");
    assert_eq!(diamond.moved.as_deref().unwrap(), ["r0", "r2", "r3"]);
}

#[test]
fn a_frozen_router_is_left_within_two_seconds() {
    let mut diamond = Diamond::new();
    diamond.network.nodes[FAST].frozen = true;
    let pause = diamond.healed_after();
    assert!(pause < 1_500, "{pause} ms");
    assert_eq!(diamond.moved.as_deref().unwrap(), ["r0", "r2", "r3"]);
    diamond.network.thaw(FAST);
    diamond.pass(Duration::from_secs(100));
    assert_eq!(diamond.path(), ["r0", "r1", "r3"], "and taken again when it is back");
}

#[test]
fn a_cut_link_is_left_within_two_seconds() {
    for edge in [0, 1] {
        let mut diamond = Diamond::new();
        diamond.network.edges[edge].cut = true;
        let pause = diamond.healed_after();
        assert!(pause < 1_500, "edge {edge}: {pause} ms");
    }
}

#[test]
fn a_circuit_without_any_path_waits_for_one() {
    let mut diamond = Diamond::new();
    for edge in 0..4 {
        diamond.network.edges[edge].cut = true;
    }
    diamond.say();
    diamond.pass(Duration::from_secs(20));
    assert_eq!(diamond.got, 0);
    for edge in [2, 3] {
        diamond.network.mend(edge);
    }
    diamond.pass(Duration::from_secs(2));
    assert_eq!(diamond.got, 1);
}

#[test]
fn a_circuit_moves_to_a_clearly_better_path_and_loses_nothing() {
    let mut diamond = Diamond::new();
    diamond.network.edges[0].delay = Duration::from_millis(60);
    let pause = diamond.healed_after();
    diamond.pass(Duration::from_secs(20));
    assert!(pause < 300, "{pause} ms");
    assert_eq!(diamond.path(), ["r0", "r2", "r3"]);
}

#[test]
fn a_router_that_saw_an_earlier_proof_cannot_take_the_circuit_back() {
    let mut diamond = Diamond::new();
    diamond.network.kill(SLOW);
    diamond.network.start(SLOW);
    diamond.network.edges[0].cut = true;
    diamond.say();
    diamond.pass(Duration::from_secs(3));
    assert_eq!(diamond.path(), ["r0", "r2", "r3"]);
    let proof = diamond.network.overheard.iter().rev().find_map(|frame| match frame {
        Frame::Reroute(_, headers) => Some(headers.clone()),
        _ => None,
    });
    let mut headers = proof.expect("the circuit has moved");
    headers.put_text(header::PATH, "r0\nr1\nr3");
    let [(link, _)] = diamond.network.neighbours(FAST)[..] else { panic!("one link is cut") };
    diamond.network.send(FAST, link, Frame::Reroute(PathId(7), headers));
    diamond.pass(Duration::from_secs(1));
    diamond.say();
    diamond.pass(Duration::from_secs(1));
    assert_eq!((diamond.got, diamond.path()), (2, ["r0", "r2", "r3"].map(String::from).to_vec()));
    let host = diamond.network.nodes[HOST].router.as_ref().unwrap().circuits();
    assert_eq!(host[0].path[1].as_str(), "r2");
}

#[test]
fn a_request_that_is_overheard_on_its_way_is_good_for_no_other_path() {
    let mut diamond = Diamond::new();
    let (path, mut headers) = diamond.request();
    headers.put_text(header::PATH, "r0\nr1\nr3");
    let link = diamond.link(FAST, HOST);
    for number in [path, PathId(7)] {
        diamond.network.send(FAST, link, Frame::Reroute(number, headers.clone()));
    }
    diamond.pass(Duration::from_secs(2));
    assert_eq!((diamond.got, diamond.path()), (1, ["r0", "r2", "r3"].map(String::from).to_vec()));
    let host = diamond.network.nodes[HOST].router.as_ref().unwrap().circuits();
    assert_eq!(host[0].path[1].as_str(), "r2");
}

#[test]
fn a_router_that_is_asked_for_a_path_cannot_end_the_circuit() {
    let mut gone = Headers::new();
    gone.put_text(header::CAUSE, "link-lost");
    let answers: [fn(PathId, Headers) -> Frame; 4] = [
        Frame::Refused,
        |path, _| Frame::Close(path),
        |path, _| Frame::Payload(path, Numbered::default()),
        |path, _| Frame::Rerouted(path, Headers::new()),
    ];
    for answer in answers {
        let mut diamond = Diamond::new();
        let (path, _) = diamond.request();
        let link = diamond.link(SLOW, 0);
        diamond.network.send(SLOW, link, answer(path, gone.clone()));
        diamond.pass(Duration::from_secs(5));
        assert_eq!(diamond.got, 1);
        assert_eq!(diamond.path(), ["r0", "r2", "r3"]);
    }
}
