//! One neighbour: is it alive, and how far away.

use std::time::{Duration, Instant};

use nightgate_model::id::RouterId;

/// Time between two pings.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(5);

/// A neighbour silent for this long is taken for dead: three pings went unanswered.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);

/// Cost of a link whose round trip takes no time.
const BASE_COST: u32 = 1;

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: RouterId,
    pub(crate) cost: u32,
    heard: Instant,
    next_ping: Instant,
    ping: Option<(u64, Instant)>,
    pings: u64,
}

/// What a link wants done.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum LinkDue {
    Nothing,
    Ping(u64),
    Dead,
}

impl Link {
    pub(crate) fn new(peer: RouterId, now: Instant) -> Self {
        Self { peer, cost: BASE_COST, heard: now, next_ping: now, ping: None, pings: 0 }
    }

    /// Any frame proves that the neighbour lives.
    pub(crate) fn handle_heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Takes the answer to a ping; gives whether the cost changed enough to be told: by more than a
    /// quarter and more than the millisecond that scheduling alone makes.
    pub(crate) fn handle_pong(&mut self, stamp: u64, now: Instant) -> bool {
        let Some((_, sent)) = self.ping.take_if(|(expected, _)| *expected == stamp) else {
            return false;
        };
        let round_trip = now.saturating_duration_since(sent).as_millis();
        let cost = BASE_COST.saturating_add(u32::try_from(round_trip).unwrap_or(u32::MAX));
        let changed = cost.abs_diff(self.cost) > 1 + self.cost / 4;
        if changed {
            self.cost = cost;
        }
        changed
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> LinkDue {
        if now >= self.heard + SILENCE {
            return LinkDue::Dead;
        }
        if now < self.next_ping {
            return LinkDue::Nothing;
        }
        self.next_ping = now + PING_EVERY;
        self.pings += 1;
        self.ping = Some((self.pings, now));
        LinkDue::Ping(self.pings)
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.next_ping.min(self.heard + SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_reports_its_latency_but_not_its_jitter() {
        let mut now = Instant::now();
        let mut link = Link::new(RouterId::new("peer"), now);
        for (milliseconds, changed, cost) in
            [(40, true, 41), (45, false, 41), (80, true, 81), (2, true, 3), (3, false, 3)]
        {
            now += PING_EVERY;
            let LinkDue::Ping(stamp) = link.handle_timeout(now) else { panic!("no ping is due") };
            link.handle_heard(now);
            let answered = now + Duration::from_millis(milliseconds);
            assert_eq!((link.handle_pong(stamp, answered), link.cost), (changed, cost));
        }
        assert!(!link.handle_pong(99, now), "an answer to nothing changes nothing");
    }
}
