//! Connection limits: how many flows there are.

use std::collections::BTreeMap;

use nightgate_abi::{flow::Phase, limit::LimitKey, maps};

use crate::{
    datapath::Datapath,
    error::DatapathError,
    map::{self, failed},
};

impl Datapath {
    /// Counts the flows of rules with connection limits anew. The kernel counts what begins and what closes; this
    /// finds what went otherwise: flows that were idle for too long or made room for others. Costs nothing if no
    /// rule has such a limit. `now` is nanoseconds since boot by `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn recount_connections(&mut self, now: u64) -> Result<(), DatapathError> {
        if self.limits.values().all(|limits| limits.connections.is_none()) {
            return Ok(());
        }
        let mut counts = BTreeMap::<LimitKey, u64>::new();
        self.each_flow(|key, flow| {
            let is_over = flow.phase() == Phase::Closed || flow.is_idle(now);
            let limits = self.limits.get(&flow.rule).filter(|_| !is_over);
            let connections = limits.and_then(|limits| Some((limits.tag, limits.connections?.1)));
            if let Some((tag, per)) = connections
                && flow.epoch == self.active.epoch()
            {
                let (source, _) = key.endpoint(flow.originator());
                *counts.entry(LimitKey::new(tag, per, source)).or_default() += 1;
            }
        })?;
        let name = maps::CONNECTIONS;
        let mut map = map::hash_mut::<LimitKey, u64>(&mut self.ebpf, name)?;
        let known: Vec<LimitKey> =
            map.keys().collect::<Result<_, _>>().map_err(failed("read", name))?;
        for key in known.into_iter().filter(|key| !counts.contains_key(key)) {
            map::removed(map.remove(&key)).map_err(failed("write", name))?;
        }
        for (key, count) in counts {
            map.insert(key, count, 0).map_err(failed("write", name))?;
        }
        Ok(())
    }
}
