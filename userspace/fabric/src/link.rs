//! One neighbour: is it alive, and how far away.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use nightgate_model::{entity::Terminator, id::RouterId};

use crate::Lane;

/// Time between two pings of a link that carries circuits, and of one that carries none.
const PING_BUSY: Duration = Duration::from_millis(150);
const PING_IDLE: Duration = Duration::from_secs(2);

/// A neighbour that was asked and from which nothing came for so long is taken for dead. Anything
/// counts, so that a full link is not a dead one. Circuits on it should have moved a second after
/// it froze.
const SILENCE_BUSY: Duration = Duration::from_millis(800);
const SILENCE_IDLE: Duration = Duration::from_secs(5);

/// The cost is that of the fastest of so many pings: the others met queues.
const SAMPLES: usize = 8;

/// Cost of a link whose neighbour has answered no ping: what is not known to be near is far.
const UNMEASURED: u32 = 65_535;

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: RouterId,
    /// Where its frames are read and written.
    pub(crate) lane: Lane,
    pub(crate) cost: u32,
    /// Its part that does not depend on latency.
    base: u32,
    /// Paths that use it.
    pub(crate) paths: usize,
    pub(crate) armed: Option<Instant>,
    /// What the neighbour says of hosts behind it, and which of this router's announcements it has been sent.
    pub(crate) hosts: Vec<Terminator>,
    pub(crate) told: u64,
    /// Since when nothing came although it was asked for.
    unanswered: Option<Instant>,
    next_ping: Instant,
    ping: Option<(u64, Instant)>,
    samples: VecDeque<Duration>,
}

/// What a link wants done.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum LinkDue {
    Nothing,
    Ping(u64),
    Dead,
}

impl Link {
    pub(crate) fn new(peer: RouterId, base: u32, now: Instant) -> Self {
        Self {
            peer,
            lane: Lane::default(),
            cost: UNMEASURED,
            base,
            paths: 0,
            armed: None,
            hosts: Vec::new(),
            told: 0,
            unanswered: None,
            next_ping: now,
            ping: None,
            samples: VecDeque::new(),
        }
    }

    /// Anything from the neighbour proves that it lives.
    pub(crate) fn handle_heard(&mut self) {
        self.unanswered = None;
    }

    /// Takes the answer to a ping; gives whether the cost changed enough to be told: by more than a
    /// quarter and more than the millisecond that scheduling alone makes.
    pub(crate) fn handle_pong(&mut self, stamp: u64, now: Instant) -> bool {
        let Some((_, sent)) = self.ping.take_if(|(expected, _)| *expected == stamp) else {
            return false;
        };
        self.samples.push_back(now.saturating_duration_since(sent));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        let round_trip = self.round_trip().unwrap_or_default().as_millis();
        let cost = self.base.saturating_add(u32::try_from(round_trip).unwrap_or(u32::MAX));
        let changed = cost.abs_diff(self.cost) > 1 + self.cost / 4;
        if changed {
            self.cost = cost;
        }
        changed
    }

    /// The shortest of the last round trips; none before the first.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.samples.iter().min().copied()
    }

    /// Counts a path over this link. With the first one, its neighbour is watched more closely.
    pub(crate) fn add_path(&mut self, now: Instant) {
        self.paths += 1;
        self.next_ping = self.next_ping.min(now + PING_BUSY);
    }

    /// Does what is due. `stamp` is for a ping, and nobody can foretell it: an answer that was sent before the
    /// question would make a neighbour look near.
    pub(crate) fn handle_timeout(&mut self, stamp: u64, now: Instant) -> LinkDue {
        if self.unanswered.is_some_and(|since| now >= since + self.silence()) {
            return LinkDue::Dead;
        }
        if now < self.next_ping {
            return LinkDue::Nothing;
        }
        self.next_ping = now + if self.paths > 0 { PING_BUSY } else { PING_IDLE };
        self.unanswered.get_or_insert(now);
        // One round trip is measured at a time: a slow answer must not look like none.
        let measured = self.ping.get_or_insert((stamp, now));
        if now >= measured.1 + SILENCE_IDLE {
            *measured = (stamp, now);
        }
        LinkDue::Ping(stamp)
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        let dead = self.unanswered.map(|since| since + self.silence());
        dead.map_or(self.next_ping, |dead| dead.min(self.next_ping))
    }

    fn silence(&self) -> Duration {
        if self.paths > 0 { SILENCE_BUSY } else { SILENCE_IDLE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(link: &mut Link, now: Instant) -> u64 {
        let LinkDue::Ping(stamp) = link.handle_timeout(7, now) else { panic!("no ping is due") };
        stamp
    }

    #[test]
    fn a_link_reports_its_latency_but_neither_jitter_nor_queues() {
        let mut now = Instant::now();
        let mut link = Link::new(RouterId::new("peer"), 1, now);
        let mut answer_after = |link: &mut Link, milliseconds| {
            now += PING_IDLE;
            let stamp = ping(link, now);
            link.handle_heard();
            link.handle_pong(stamp, now + Duration::from_millis(milliseconds))
        };
        assert!(answer_after(&mut link, 40));
        for queued in [45, 900, 300] {
            assert!(!answer_after(&mut link, queued));
        }
        assert!(answer_after(&mut link, 2));
        assert_eq!(link.cost, 3);
        let rises = (0..SAMPLES).filter(|_| answer_after(&mut link, 80)).count();
        assert_eq!((rises, link.cost), (1, 81));
        assert!(!link.handle_pong(99, now), "an answer to nothing changes nothing");
    }

    #[test]
    fn a_silent_neighbour_is_dead_sooner_when_circuits_wait() {
        for (paths, silence) in [(1, SILENCE_BUSY), (0, SILENCE_IDLE)] {
            let now = Instant::now();
            let mut link = Link::new(RouterId::new("peer"), 1, now);
            link.paths = paths;
            ping(&mut link, now);
            let almost = now + silence - Duration::from_millis(1);
            assert_ne!(link.handle_timeout(7, almost), LinkDue::Dead);
            assert_eq!(link.handle_timeout(7, now + silence), LinkDue::Dead);
            link.handle_heard();
            assert_ne!(link.handle_timeout(7, now + silence), LinkDue::Dead);
        }
    }

    #[test]
    fn a_static_cost_is_added_to_the_latency() {
        let now = Instant::now();
        let mut link = Link::new(RouterId::new("peer"), 500, now);
        let stamp = ping(&mut link, now);
        assert!(link.handle_pong(stamp, now + Duration::from_millis(20)));
        assert_eq!(link.cost, 520);
    }
}
