//! What this router's own dials say of terminators, added to the cost that their hosts ask for.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use nightgate_model::id::TerminatorId;

/// Cost of a circuit, of a dial that failed, and what a dial that did not fail takes off: OpenZiti's.
const CIRCUIT: u64 = 2;
const FAILURE: u64 = 20;
const SUCCESS: u64 = 2;

/// Failures cost half as much after this time.
const HALF_LIFE: Duration = Duration::from_secs(60);

/// Most that failures cost, so that they are forgotten after some ten half-lives.
const MAX_FAILURES: u64 = 1_000;

/// Terminators without circuits are forgotten when there are so many.
const MAX_LOADS: usize = 10_000;

/// Terminators by id.
#[derive(Debug, Default)]
pub(crate) struct Loads(BTreeMap<TerminatorId, Load>);

#[derive(Debug)]
struct Load {
    circuits: u64,
    failures: u64,
    /// Since when the failures cost that much.
    since: Instant,
}

impl Load {
    fn failures(&self, now: Instant) -> u64 {
        let halved = now.saturating_duration_since(self.since).as_secs() / HALF_LIFE.as_secs();
        u32::try_from(halved).ok().and_then(|halved| self.failures.checked_shr(halved)).unwrap_or(0)
    }
}

impl Loads {
    /// What is added to the cost of a terminator.
    pub(crate) fn cost(&self, terminator: &TerminatorId, now: Instant) -> u64 {
        self.0.get(terminator).map_or(0, |load| CIRCUIT * load.circuits + load.failures(now))
    }

    /// A circuit to it begins.
    pub(crate) fn begin(&mut self, terminator: &TerminatorId, now: Instant) {
        if self.0.len() >= MAX_LOADS {
            self.0.retain(|_, load| load.circuits > 0);
        }
        self.load(terminator, now).circuits += 1;
    }

    /// A circuit to it is over, or did not come about.
    pub(crate) fn end(&mut self, terminator: &TerminatorId) {
        if let Some(load) = self.0.get_mut(terminator) {
            load.circuits = load.circuits.saturating_sub(1);
            if load.circuits == 0 && load.failures == 0 {
                self.0.remove(terminator);
            }
        }
    }

    /// A dial failed there.
    pub(crate) fn fail(&mut self, terminator: &TerminatorId, now: Instant) {
        let load = self.load(terminator, now);
        load.failures = (load.failures(now) + FAILURE).min(MAX_FAILURES);
        load.since = now;
    }

    /// A dial did not fail there.
    pub(crate) fn succeed(&mut self, terminator: &TerminatorId, now: Instant) {
        let load = self.load(terminator, now);
        load.failures = load.failures(now).saturating_sub(SUCCESS);
        load.since = now;
    }

    fn load(&mut self, terminator: &TerminatorId, now: Instant) -> &mut Load {
        let fresh = || Load { circuits: 0, failures: 0, since: now };
        self.0.entry(terminator.clone()).or_insert_with(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circuits_cost_while_they_last_and_failures_until_they_are_forgotten() {
        let now = Instant::now();
        let (mut loads, busy) = (Loads::default(), TerminatorId::new("busy"));
        loads.begin(&busy, now);
        loads.begin(&busy, now);
        assert_eq!(loads.cost(&busy, now), 2 * CIRCUIT);
        loads.fail(&busy, now);
        loads.fail(&busy, now);
        assert_eq!(loads.cost(&busy, now), 2 * CIRCUIT + 2 * FAILURE);
        loads.succeed(&busy, now);
        loads.end(&busy);
        loads.end(&busy);
        assert_eq!(loads.cost(&busy, now), 2 * FAILURE - SUCCESS);
        assert_eq!(loads.cost(&busy, now + HALF_LIFE), (2 * FAILURE - SUCCESS) / 2);
        assert_eq!(loads.cost(&busy, now + 100 * HALF_LIFE), 0);
        for _ in 0..1_000 {
            loads.fail(&busy, now);
        }
        assert_eq!(loads.cost(&busy, now), MAX_FAILURES);
    }
}
