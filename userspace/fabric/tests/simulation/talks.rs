//! The reference: what was said on each circuit, and what must have been heard.

use std::collections::BTreeMap;

use bytes::Bytes;
use nightgate_fabric::{CircuitInfo, EndId, FailureCause, Router};
use nightgate_wire::link::{CircuitId, Payload};

use crate::dice::Dice;

/// An end of a circuit: router, which of its lives, and the end's number.
pub(crate) type Place = (usize, u64, EndId);

/// How an end came to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Over {
    /// Its client left.
    Left,
    /// The fabric ended it.
    Ended(FailureCause),
}

/// A circuit. Side 0 dials, side 1 hosts.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) places: [Option<Place>; 2],
    pub(crate) over: [Option<Over>; 2],
    /// Messages of each side, and how many of them the other has got.
    pub(crate) sent: [u64; 2],
    pub(crate) got: [u64; 2],
}

#[derive(Default)]
pub(crate) struct Talks {
    pub(crate) talks: BTreeMap<CircuitId, Talk>,
    sides: BTreeMap<Place, (CircuitId, usize)>,
}

/// What a side says, from beginning to end.
pub(crate) fn message(circuit: CircuitId, side: usize, number: u64) -> Payload {
    let mut dice = Dice(circuit.0 ^ (number << 1) ^ side as u64);
    let length = if dice.one_in(8) { dice.below(60_000) } else { dice.below(1_500) };
    Payload { flags: 0, uuid: Bytes::new(), body: Bytes::from(vec![dice.next() as u8; length]) }
}

impl Talks {
    pub(crate) fn offered(&mut self, circuit: CircuitId, place: Place) {
        let talk = Talk { places: [None, Some(place)], over: [None; 2], sent: [0; 2], got: [0; 2] };
        assert!(self.talks.insert(circuit, talk).is_none(), "circuit {circuit} twice");
        self.sides.insert(place, (circuit, 1));
    }

    pub(crate) fn opened(&mut self, circuit: CircuitId, place: Place) {
        let talk = self.talks.get_mut(&circuit).expect("a circuit opens that was never offered");
        assert!(talk.places[0].replace(place).is_none(), "opened twice");
        self.sides.insert(place, (circuit, 0));
    }

    pub(crate) fn find(&self, place: Place) -> Option<(CircuitId, usize)> {
        self.sides.get(&place).copied()
    }

    /// Sides that may still say something.
    pub(crate) fn speakers(&self) -> Vec<(CircuitId, usize, Place)> {
        let sides = self.talks.iter().flat_map(|(circuit, talk)| {
            [0, 1].map(|side| {
                (talk.places[0].is_some() && talk.over[side].is_none()).then_some((
                    *circuit,
                    side,
                    talk.places[side]?,
                ))
            })
        });
        sides.flatten().collect()
    }

    pub(crate) fn heard(&mut self, place: Place, payload: &Payload) {
        let (circuit, side) = self.find(place).expect("delivered to nobody");
        let talk = self.talks.get_mut(&circuit).unwrap();
        assert!(talk.over[side].is_none(), "delivered to {circuit} after its end");
        let number = talk.got[1 - side];
        assert!(number < talk.sent[1 - side], "{circuit} delivers what nobody said");
        assert_eq!(
            *payload,
            message(circuit, 1 - side, number),
            "{circuit} side {side} message {number}"
        );
        talk.got[1 - side] += 1;
    }

    pub(crate) fn ended(&mut self, place: Place, cause: FailureCause) {
        let (circuit, side) = self.find(place).expect("an end of nobody ends");
        let talk = self.talks.get_mut(&circuit).unwrap();
        assert_ne!(cause, FailureCause::Protocol, "{circuit} side {side}");
        assert!(talk.over[side].replace(Over::Ended(cause)).is_none(), "{circuit} ends twice");
        if cause == FailureCause::ClosedByPeer && talk.places[0].is_some() {
            let other = 1 - side;
            assert_eq!(
                talk.over[other],
                Some(Over::Left),
                "{circuit} side {side} was closed by nobody"
            );
            assert_eq!(talk.got[other], talk.sent[other], "{circuit} side {side} misses the end");
        }
    }

    /// When all has been quiet for long: nothing is lost, and nothing is left.
    pub(crate) fn check(&self, lives: &[u64], routers: &[&Router]) -> usize {
        let infos: Vec<BTreeMap<String, CircuitInfo>> = routers
            .iter()
            .map(|router| {
                router.circuits().into_iter().map(|info| (info.id.clone(), info)).collect()
            })
            .collect();
        let mut routes = vec![0; routers.len()];
        let mut ends = vec![0; routers.len()];
        let mut alive = 0;
        for (circuit, talk) in &self.talks {
            let lost = talk.places.iter().flatten().any(|(node, life, _)| lives[*node] != *life);
            let over = |side: usize| {
                let dead = talk.places[side].is_none_or(|(node, life, _)| lives[node] != life);
                dead || talk.over[side].is_some()
            };
            assert_eq!(over(0), over(1), "{circuit} is half over: {talk:?}");
            if over(0) {
                let left = talk.over.contains(&Some(Over::Left));
                assert!(lost || left || talk.places[0].is_none(), "{circuit} was lost: {talk:?}");
                continue;
            }
            assert_eq!(talk.got, talk.sent, "{circuit} is stuck");
            alive += 1;
            let at = |side: usize| talk.places[side].unwrap().0;
            let info = &infos[at(0)][&circuit.to_string()];
            for router in &info.path[1..info.path.len().max(2) - 1] {
                routes[router.as_str()[1..].parse::<usize>().unwrap()] += 2;
            }
            for side in [0, 1] {
                ends[at(side)] += 1;
                routes[at(side)] += usize::from(info.path.len() > 1);
            }
        }
        for (at, router) in routers.iter().enumerate() {
            let memory = router.memory();
            let kept = (memory.ends, memory.routes, memory.bytes);
            assert_eq!(
                kept,
                (ends[at], routes[at], 0),
                "router {at} keeps what it should not ({alive} alive)"
            );
        }
        alive
    }
}
