//! From one look at the flow tables after the other to the flows that have ended.

use std::collections::HashMap;

use nightgate_abi::{Flow, FlowKey, flow::Phase};

use super::EndReason;

/// A closed connection is told of after this long without a packet, nanoseconds: acknowledgements and repetitions that
/// come after the last FIN are counted in.
const SETTLED: u64 = 1_000_000_000;

const SECOND: u64 = 1_000_000_000;

/// What is known of the flows in the tables. It holds as many as those do.
#[derive(Debug, Default)]
pub struct Tracker {
    known: HashMap<FlowKey, Known>,
    /// Counts the looks.
    look: u64,
    /// When the look before this one was, by the kernel's clock: whatever had ended then has been told.
    before: u64,
    now: u64,
    /// Nanoseconds after which a flow that goes on is told of; `None` for never.
    interim: Option<u64>,
}

/// A flow that is to be told of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Told {
    /// Its key in the flow tables.
    pub key: FlowKey,
    /// What was found there last.
    pub flow: Flow,
    /// Why it is told of.
    pub reason: EndReason,
}

#[derive(Debug)]
struct Known {
    first_seen: u64,
    /// The last look that found it.
    look: u64,
    /// When it was told of last.
    told: u64,
    /// What the last look found; `None` if its end has been told.
    flow: Option<Box<Flow>>,
}

impl Tracker {
    /// Begins after a look of somebody else at `before`, in nanoseconds since boot (`CLOCK_MONOTONIC`): what had ended
    /// then is not told of again. Flows that go on are told of at intervals of `interim` nanoseconds.
    pub fn new(before: u64, interim: Option<u64>) -> Self {
        Self { before, interim, ..Self::default() }
    }

    /// Changes the interval at which flows that go on are told of.
    pub fn set_interim(&mut self, interim: Option<u64>) {
        self.interim = interim;
    }

    /// Begins a look at `now`, in nanoseconds since boot (`CLOCK_MONOTONIC`).
    pub fn begin(&mut self, now: u64) {
        self.look += 1;
        self.now = now;
    }

    /// Takes note of an entry of the tables. One flow may come twice: it moves from one table to the other.
    pub fn observe(&mut self, key: &FlowKey, flow: &Flow, tell: &mut impl FnMut(Told)) {
        let (now, look) = (self.now, self.look);
        let ended = end(flow, now);
        let known = self.known.entry(*key).or_insert_with(|| Known {
            first_seen: flow.first_seen,
            look,
            told: flow.first_seen,
            // What had ended before has been told by whoever looked then.
            flow: end(flow, self.before).is_none().then(|| Box::new(*flow)),
        });
        if flow.first_seen < known.first_seen {
            return;
        }
        if flow.first_seen > known.first_seen {
            if let Some(before) = known.flow.take() {
                tell(Told { key: *key, flow: *before, reason: replaced(&before, now) });
            }
            *known = Known {
                first_seen: flow.first_seen,
                look,
                told: flow.first_seen,
                flow: Some(Box::new(*flow)),
            };
        }
        known.look = look;
        let Some(last) = &mut known.flow else { return };
        **last = *flow;
        if let Some(reason) = ended {
            known.flow = None;
            tell(Told { key: *key, flow: *flow, reason });
        } else if self.interim.is_some_and(|time| now.saturating_sub(known.told) >= time) {
            known.told = now;
            tell(Told { key: *key, flow: *flow, reason: EndReason::ActiveTimeout });
        }
    }

    /// Ends a look: what it has not found any more is told of and forgotten.
    pub fn finish(&mut self, mut tell: impl FnMut(Told)) {
        let (look, now) = (self.look, self.now);
        self.known.retain(|key, known| {
            let is_there = known.look == look;
            if let Some(flow) = known.flow.take_if(|_| !is_there) {
                tell(Told { key: *key, flow: *flow, reason: replaced(&flow, now) });
            }
            is_there
        });
        self.before = now;
    }
}

/// How a flow has ended at a moment, if it has.
fn end(flow: &Flow, now: u64) -> Option<EndReason> {
    let silence = now.saturating_sub(flow.last_seen);
    if flow.phase() == Phase::Closed && silence >= SETTLED {
        Some(EndReason::EndOfFlow)
    } else if silence >= u64::from(flow.idle_limit).saturating_mul(SECOND) {
        Some(EndReason::IdleTimeout)
    } else {
        None
    }
}

/// How a flow has ended that is not in the tables any more.
fn replaced(flow: &Flow, now: u64) -> EndReason {
    match flow.phase() {
        Phase::Closed => EndReason::EndOfFlow,
        Phase::Opening | Phase::Established | Phase::Closing => {
            end(flow, now).unwrap_or(EndReason::ForcedEnd)
        }
    }
}

#[cfg(test)]
mod tests {
    use nightgate_abi::{Address, Sender, sender::sent};

    use super::*;

    /// Entries of a look, in seconds: key, first and last packet, what both ends have sent.
    type Entry = (u16, u64, u64, u8);

    struct Looks(Tracker);

    impl Looks {
        fn new(before: u64, interim: Option<u64>) -> Self {
            Self(Tracker::new(before * SECOND, interim.map(|time| time * SECOND)))
        }

        /// What a look tells, sorted: port, packets, reason.
        fn at(&mut self, now: u64, entries: &[Entry]) -> Vec<(u16, u64, EndReason)> {
            let mut told = Vec::new();
            let mut tell = |it: Told| told.push((it.key.low_port, it.flow.packets[0], it.reason));
            self.0.begin(now * SECOND);
            for (port, first_seen, last_seen, flags) in entries {
                let end = |port| (Address::from_v4([10, 0, 0, 1]), port);
                let (key, _) = FlowKey::new(6, end(*port), end(60_000));
                let flow = Flow {
                    first_seen: first_seen * SECOND,
                    last_seen: last_seen * SECOND,
                    packets: [*last_seen, 0],
                    idle_limit: 100,
                    senders: [Sender { flags: *flags, ..Sender::default() }; 2],
                    ..Flow::default()
                };
                self.0.observe(&key, &flow, &mut tell);
            }
            self.0.finish(&mut tell);
            told.sort_by_key(|(port, ..)| *port);
            told
        }
    }

    const OPEN: u8 = sent::ANYTHING | sent::CONFIRMATION;
    const FIN: u8 = OPEN | sent::FIN;
    use EndReason::{ActiveTimeout, EndOfFlow, ForcedEnd, IdleTimeout};

    #[test]
    fn each_end_is_told_once_with_what_was_found_last() {
        let mut looks = Looks::new(0, None);
        let nothing: [(u16, u64, EndReason); 0] = [];
        assert_eq!(looks.at(10, &[(1, 5, 10, OPEN), (2, 5, 10, OPEN), (3, 5, 10, OPEN)]), nothing);
        assert_eq!(looks.at(11, &[(1, 5, 11, FIN), (2, 5, 10, OPEN)]), [(3, 10, ForcedEnd)]);
        assert_eq!(looks.at(12, &[(1, 5, 11, FIN), (2, 5, 10, OPEN)]), [(1, 11, EndOfFlow)]);
        assert_eq!(looks.at(110, &[(1, 5, 11, FIN), (2, 5, 10, OPEN)]), [(2, 10, IdleTimeout)]);
        assert_eq!(looks.at(500, &[(1, 5, 11, FIN), (2, 5, 10, OPEN)]), nothing);
        assert_eq!(looks.at(501, &[]), nothing);
        assert!(looks.0.known.is_empty(), "what is gone is forgotten");
    }

    #[test]
    fn ends_that_are_used_again_are_another_flow() {
        let mut looks = Looks::new(0, None);
        looks.at(10, &[(1, 5, 10, OPEN), (2, 5, 10, FIN), (3, 5, 10, OPEN)]);
        let again = [(1, 11, 11, OPEN), (2, 11, 11, OPEN), (3, 5, 5, OPEN)];
        assert_eq!(looks.at(11, &again), [(1, 10, ForcedEnd), (2, 10, EndOfFlow)]);
        assert_eq!(looks.at(12, &[(1, 11, 11, FIN)]).len(), 3);
    }

    #[test]
    fn a_flow_that_moves_between_the_tables_is_one() {
        let mut looks = Looks::new(0, None);
        assert!(looks.at(10, &[(1, 5, 9, OPEN), (1, 5, 10, OPEN)]).is_empty());
        // The entry of a flow that has been replaced meanwhile.
        assert!(looks.at(11, &[(1, 5, 11, OPEN), (1, 4, 4, OPEN)]).is_empty());
        assert_eq!(looks.at(12, &[]), [(1, 11, ForcedEnd)]);
    }

    #[test]
    fn what_had_ended_before_the_start_is_not_told_again() {
        let mut looks = Looks::new(200, None);
        let entries = [(1, 5, 10, OPEN), (2, 5, 198, FIN), (3, 5, 199, FIN), (4, 5, 150, OPEN)];
        assert!(looks.at(200, &entries).is_empty());
        let mut looks = Looks::new(199, None);
        assert_eq!(looks.at(250, &entries), [(3, 199, EndOfFlow), (4, 150, IdleTimeout)]);
    }

    #[test]
    fn long_flows_are_told_at_intervals() {
        let mut looks = Looks::new(0, Some(60));
        assert!(looks.at(64, &[(1, 5, 60, OPEN)]).is_empty());
        assert_eq!(looks.at(65, &[(1, 5, 65, OPEN)]), [(1, 65, ActiveTimeout)]);
        assert!(looks.at(124, &[(1, 5, 120, OPEN)]).is_empty());
        assert_eq!(looks.at(125, &[(1, 5, 121, OPEN)]), [(1, 121, ActiveTimeout)]);
        assert_eq!(looks.at(126, &[(1, 5, 121, FIN)]), [(1, 121, EndOfFlow)]);
    }
}
