//! Counters.

use std::collections::BTreeMap;

use nightgate_abi::{
    Counter, Hits, Reason, maps,
    mirror::{MirrorSessionId, Outcome},
};
use nightgate_ruleset::RuleId;

use crate::{datapath::Datapath, error::DatapathError, map};

/// What became of packets, by reason, since the programs were loaded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Statistics(Vec<Counter>);

/// What became of the copies that reached the encapsulating program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MirrorStatistics {
    /// By session and outcome, for sessions that have had copies.
    pub sessions: BTreeMap<MirrorSessionId, BTreeMap<Outcome, Counter>>,
    /// Copies with the number of no possible session, by outcome.
    pub unknown: BTreeMap<Outcome, Counter>,
}

impl MirrorStatistics {
    /// Frames of a session that were due and of which nothing else is known: a queue before the encapsulating program
    /// has dropped them, or they are in it now.
    pub fn queue_dropped(row: &BTreeMap<Outcome, Counter>) -> u64 {
        let packets = |outcome: &Outcome| row.get(outcome).map_or(0, |counter| counter.packets);
        let others = Outcome::ALL.iter().filter(|outcome| **outcome != Outcome::Matched);
        packets(&Outcome::Matched).saturating_sub(others.map(packets).sum())
    }
}

impl Statistics {
    /// The counter of a reason.
    pub fn get(&self, reason: Reason) -> Counter {
        let index = usize::try_from(reason.index()).unwrap_or(usize::MAX);
        self.0.get(index).copied().unwrap_or_default()
    }

    /// Every reason and its counter.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, Counter)> + '_ {
        Reason::ALL.iter().map(|reason| (*reason, self.get(*reason)))
    }
}

impl Datapath {
    /// What became of packets, by reason.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn statistics(&self) -> Result<Statistics, DatapathError> {
        let reasons = Reason::ALL.iter().map(|reason| reason.index());
        map::counters(&self.ebpf, maps::REASON_COUNTERS, reasons).map(Statistics)
    }

    /// Packets of each rule, in the order of the rules: those of its flows if it accepts, those it refused if
    /// it drops. Counts go on when a commit keeps the rule's id.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn rule_hits(&self) -> Result<Vec<(RuleId, Hits)>, DatapathError> {
        let mut all = self.bank_hits(self.active)?;
        for (rule, hits) in &mut all {
            *hits += self.past_rules.get(rule).copied().unwrap_or_default();
        }
        Ok(all)
    }
}
