//! Which terminator a dial reaches.

use std::{collections::BTreeMap, time::Instant};

use nightgate_model::{
    entity::{Terminator, TerminatorStrategy},
    id::{IdentityId, ServiceId, TerminatorId},
};

use crate::{
    Dial, DialRefusal, EndId, FailureCause, Router,
    path::{Lost, Path},
};

/// Dialers and services whose last terminator is remembered, for the sticky ones.
const MAX_STICKY: usize = 10_000;

/// Where identities reached sticky services last.
#[derive(Debug, Default)]
pub(crate) struct Sticky(BTreeMap<(IdentityId, ServiceId), TerminatorId>);

impl Sticky {
    fn last(&self, dial: &Dial) -> Option<&TerminatorId> {
        self.0.get(&(dial.dialer.clone(), dial.service.clone()))
    }

    fn remember(&mut self, dial: &Dial, terminator: &TerminatorId) {
        let key = (dial.dialer.clone(), dial.service.clone());
        if self.0.len() >= MAX_STICKY && !self.0.contains_key(&key) {
            self.0.pop_first();
        }
        self.0.insert(key, terminator.clone());
    }

    fn forget(&mut self, dial: &Dial) {
        self.0.remove(&(dial.dialer.clone(), dial.service.clone()));
    }
}

impl Router {
    /// The next such dial of a sticky service takes this terminator, as the dialer remembers it, in place of what this router
    /// does; of one that is not there, nothing is remembered.
    pub fn recall(&mut self, dial: &Dial, terminator: &TerminatorId) {
        if self.strategy(dial) != TerminatorStrategy::Sticky {
            return;
        }
        if self.hosts(dial, &[]).iter().any(|known| known.id == *terminator) {
            self.sticky.remember(dial, terminator);
        } else {
            self.sticky.forget(dial);
        }
    }

    /// The terminator that the dialer at this end may remember, if its service is sticky.
    pub fn sticky_terminator(&self, end: EndId) -> Option<TerminatorId> {
        let end = self.ends.get(&end)?;
        let service = self.replica.services.get(&end.service)?;
        let is_sticky = service.terminator_strategy == TerminatorStrategy::Sticky;
        end.terminator.clone().filter(|_| is_sticky)
    }

    fn strategy(&self, dial: &Dial) -> TerminatorStrategy {
        let service = self.replica.services.get(&dial.service);
        service.map(|service| service.terminator_strategy).unwrap_or_default()
    }

    /// The terminator that the service's strategy takes, among those of the best precedence of the instance that is
    /// dialed. As in OpenZiti, a dial without an instance reaches those that have none.
    pub(crate) fn choose_terminator(
        &mut self,
        dial: &Dial,
        tried: &[TerminatorId],
        avoid: &[Lost],
        now: Instant,
    ) -> Result<(Terminator, Path), DialRefusal> {
        let hosts = self.hosts(dial, tried);
        if hosts.is_empty() {
            return Err(self.nobody_hosts(dial));
        }
        let mut reached: Vec<(u64, Terminator)> = hosts
            .into_iter()
            .filter_map(|terminator| {
                let path = self.distance(&terminator.router, avoid)?;
                let load = self.loads.cost(&terminator.id, now);
                Some((path + u64::from(terminator.cost) + load, terminator))
            })
            .collect();
        let best = reached.iter().map(|(_, terminator)| terminator.precedence).min();
        reached.retain(|(_, terminator)| Some(terminator.precedence) == best);
        reached.sort_by(|(cost, a), (other, b)| (cost, &a.id).cmp(&(other, &b.id)));
        let costs: Vec<u64> = reached.iter().map(|(cost, _)| *cost).collect();
        if costs.is_empty() {
            return Err(self.no_links(dial));
        }
        let strategy = self.strategy(dial);
        let last = self.sticky.last(dial);
        let last = reached.iter().position(|(_, terminator)| Some(&terminator.id) == last);
        let at = pick(strategy, &costs, last, || self.random.number());
        let (_, terminator) = reached.swap_remove(at);
        let path = self.find_path(&terminator.router, avoid).ok_or_else(|| self.no_links(dial))?;
        if strategy == TerminatorStrategy::Sticky {
            self.sticky.remember(dial, &terminator.id);
        }
        Ok((terminator, path))
    }

    fn hosts(&self, dial: &Dial, tried: &[TerminatorId]) -> Vec<Terminator> {
        let announced = self.announced(dial);
        let others = self.replica.terminators.iter().filter(|host| host.router != self.id);
        others
            .filter(|known| announced.iter().all(|it| it.id != known.id))
            .chain(self.hosted.values())
            .filter(|terminator| terminator.service == dial.service)
            .filter(|terminator| terminator.instance == dial.instance)
            .chain(announced.iter().copied())
            .filter(|terminator| !tried.contains(&terminator.id))
            .map(|terminator| self.replica.settled(terminator))
            .collect()
    }

    fn no_links(&self, dial: &Dial) -> DialRefusal {
        let name = self.service_name(dial);
        let detail = format!("no links lead from router {} to a host of {name}", self.id);
        DialRefusal::new(FailureCause::NoRoute, detail)
    }

    fn nobody_hosts(&self, dial: &Dial) -> DialRefusal {
        let name = self.service_name(dial);
        let detail = match dial.instance.as_str() {
            "" => format!("nobody hosts service {name}"),
            instance => format!("nobody hosts service {name} as instance {instance:?}"),
        };
        DialRefusal::new(FailureCause::NoTerminator, detail)
    }

    fn service_name<'a>(&'a self, dial: &'a Dial) -> &'a str {
        self.replica.services.get(&dial.service).map_or(dial.service.as_str(), |s| &s.name)
    }
}

/// The position of the one to take, of at least one whose costs are given in ascending order; `last` was taken last time.
fn pick(
    strategy: TerminatorStrategy,
    costs: &[u64],
    last: Option<usize>,
    roll: impl FnOnce() -> u64,
) -> usize {
    match strategy {
        TerminatorStrategy::SmartRouting => 0,
        TerminatorStrategy::Sticky => last.unwrap_or(0),
        TerminatorStrategy::Random => by_weight(&vec![1; costs.len()], roll()),
        TerminatorStrategy::Weighted => {
            // OpenZiti's weights: 1 - cost / sum of costs.
            let total: u64 = costs.iter().sum();
            let weights: Vec<u64> = costs.iter().map(|cost| total - cost).collect();
            if weights.iter().all(|weight| *weight == 0) {
                return by_weight(&vec![1; costs.len()], roll());
            }
            by_weight(&weights, roll())
        }
    }
}

/// The position that a number falls on, if each has as many numbers as it weighs.
fn by_weight(weights: &[u64], roll: u64) -> usize {
    let mut rest = roll % weights.iter().sum::<u64>().max(1);
    for (at, weight) in weights.iter().enumerate() {
        if rest < *weight {
            return at;
        }
        rest -= weight;
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn costs() -> impl Strategy<Value = Vec<u64>> {
        proptest::collection::vec(0..200_000_u64, 1..20).prop_map(|mut costs| {
            costs.sort_unstable();
            costs
        })
    }

    proptest! {
        #[test]
        fn every_strategy_takes_one_that_there_is(costs in costs(), last: Option<u8>, roll: u64) {
            let last = last.map(usize::from).filter(|last| *last < costs.len());
            for strategy in TerminatorStrategy::ALL {
                let at = pick(strategy, &costs, last, || roll);
                prop_assert!(at < costs.len());
                match strategy {
                    TerminatorStrategy::SmartRouting => prop_assert_eq!(at, 0),
                    TerminatorStrategy::Sticky => prop_assert_eq!(at, last.unwrap_or(0)),
                    TerminatorStrategy::Random | TerminatorStrategy::Weighted => {}
                }
            }
        }

        #[test]
        fn what_costs_less_is_never_taken_less_often(costs in proptest::collection::vec(0..50_u64, 2..5)) {
            let total: u64 = costs.iter().sum();
            let rolls = total * (costs.len() as u64 - 1);
            let mut counts = vec![0_u64; costs.len()];
            for roll in 0..rolls {
                counts[pick(TerminatorStrategy::Weighted, &costs, None, || roll)] += 1;
            }
            for (count, cost) in counts.iter().zip(&costs) {
                prop_assert!(rolls == 0 || *count == total - cost);
            }
        }
    }

    #[test]
    fn random_takes_all_alike() {
        let mut counts = [0; 4];
        for roll in 0..400 {
            counts[pick(TerminatorStrategy::Random, &[1, 50, 900, 60_000], None, || roll)] += 1;
        }
        assert_eq!(counts, [100; 4]);
    }
}
