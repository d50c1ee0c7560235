//! Streams that share a link which is too slow for all of them.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use nightgate_fabric::{Command, EndId, KeyShare, Lane, weight};
use nightgate_wire::link::Payload;

use crate::{
    network::{Edge, Happening, Network},
    run::{dial, replica, terminator},
};

/// Bytes in a millisecond of the slow link: 10 MB/s.
const SLOW: u64 = 10_000;

/// Body of a message.
const BODY: usize = 30_000;

/// From router 0 over 1 to 2, the second link the slow one; 50 ms there and back.
struct Bottleneck {
    network: Network<()>,
    /// What a dialer's end may still send.
    credit: BTreeMap<EndId, u64>,
    /// Bytes of bodies that each host's end got.
    got: BTreeMap<EndId, u64>,
}

impl Bottleneck {
    fn new(streams: usize, queue_limit: usize) -> Self {
        let edge = |ends, delay, rate| Edge {
            ends,
            delay: Duration::from_millis(delay),
            rate,
            cut: false,
            connections: 1,
        };
        let edges = vec![edge([0, 1], 5, 200_000), edge([1, 2], 20, SLOW)];
        let mut network = Network::bounded(1, 3, (edges, replica()), Some(queue_limit));
        network.nodes[2].terminators.push(terminator(2));
        network.with(2, |router, _| router.host(terminator(2)));
        let mut bottleneck = Self { network, credit: BTreeMap::new(), got: BTreeMap::new() };
        bottleneck.pass(Duration::from_secs(2));
        for _ in 0..streams {
            bottleneck
                .network
                .with(0, |router, now| router.dial(dial("anna"), Lane::default(), now))
                .unwrap()
                .unwrap();
        }
        bottleneck
    }

    /// Lets time go by; dialers say as much as they may, hosts take all at once.
    fn pass(&mut self, time: Duration) {
        let until = self.network.now + time;
        while let Some(happening) = self.network.next(until) {
            let Happening::Command(at, command) = happening else { continue };
            match *command {
                Command::Offer(end, ..) => {
                    self.got.insert(end, 0);
                    self.network.with(at, |r, now| r.accept(end, KeyShare::default(), now));
                }
                Command::Opened(end, ..) => {
                    self.credit.insert(end, nightgate_fabric::INITIAL_WINDOW);
                    self.say(end);
                }
                Command::Credit(end, bytes) => {
                    *self.credit.get_mut(&end).unwrap() += bytes;
                    self.say(end);
                }
                Command::Deliver(end, payload) => {
                    *self.got.get_mut(&end).unwrap() += payload.body.len() as u64;
                    self.network.with(at, |r, now| r.consumed(end, weight(&payload), now));
                }
                other => panic!("{at}: {other:?}"),
            }
        }
    }

    fn say(&mut self, end: EndId) {
        let payload = Payload { body: Bytes::from(vec![0; BODY]), ..Payload::default() };
        let weight = weight(&payload);
        let credit = self.credit.get_mut(&end).unwrap();
        while *credit >= weight {
            *credit -= weight;
            let payload = payload.clone();
            self.network.with(0, |router, now| router.send(end, payload, now)).unwrap().unwrap();
        }
    }

    /// Bytes in a second that all streams get together, and Jain's index of fairness among them, after a while.
    fn measure(&mut self, warm_up: Duration, time: Duration) -> (u64, f64) {
        self.pass(warm_up);
        let before = self.got.clone();
        self.pass(time);
        let shares: Vec<u64> = self.got.iter().map(|(end, got)| got - before[end]).collect();
        let sum: u64 = shares.iter().sum();
        let squares: f64 = shares.iter().map(|share| (*share as f64).powi(2)).sum();
        let fairness = (sum as f64).powi(2) / (shares.len() as f64 * squares);
        (sum * 1000 / time.as_millis() as u64, fairness)
    }
}

/// The sum never falls below nine tenths of one stream's, which is nine tenths of the link.
fn assert_shared(streams: usize, queue_limit: usize) {
    let mut bottleneck = Bottleneck::new(streams, queue_limit);
    let (sum, fairness) = bottleneck.measure(Duration::from_secs(10), Duration::from_secs(20));
    let dropped = bottleneck.network.dropped();
    println!(
        "{streams} streams, queues of {queue_limit}: {sum} B/s, fairness {fairness:.3}, {dropped} dropped"
    );
    assert!(sum >= SLOW * 1000 * 9 / 10, "{streams} streams: {sum} B/s");
    assert!(fairness >= 0.9, "{streams} streams: fairness {fairness}");
}

#[test]
fn streams_share_a_slow_link_and_use_all_of_it() {
    for streams in [1, 2, 4, 8, 16] {
        assert_shared(streams, 64 * 1024 * 1024);
    }
}

#[test]
fn streams_share_a_slow_link_whose_queue_is_too_short_for_their_windows() {
    for streams in [1, 2, 4, 8, 16] {
        assert_shared(streams, 2 * 1024 * 1024);
    }
}

#[test]
fn hundreds_of_streams_do_not_bring_a_slow_link_down() {
    assert_shared(300, 64 * 1024 * 1024);
}
