//! What was refused, by interface.

use aya::maps::{MapError, PerCpuHashMap};
use nightgate_abi::{Counter, Hook, Reason, counter::DropKey, maps};

use crate::{
    datapath::Datapath,
    error::DatapathError,
    interface::IfIndex,
    map::{self, failed},
};

/// What was refused on one side of an interface for one reason.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Drops {
    /// The interface.
    pub interface: IfIndex,
    /// Its side.
    pub hook: Hook,
    /// Why.
    pub reason: Reason,
    /// How much; never nothing.
    pub counter: Counter,
}

impl Datapath {
    /// What was refused, by interface, side and reason. An interface's counts end when it is detached.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn drops(&self) -> Result<Vec<Drops>, DatapathError> {
        let map: PerCpuHashMap<_, DropKey, Counter> =
            PerCpuHashMap::try_from(map::map(&self.ebpf, maps::DROPS)?)
                .map_err(failed("open", maps::DROPS))?;
        let mut drops = Vec::new();
        for key in self.drop_keys()? {
            let sum = match map.get(&key, 0) {
                Ok(values) => map::sum(&values),
                Err(MapError::KeyNotFound) => continue,
                Err(source) => return Err(failed("read", maps::DROPS)(source)),
            };
            drops.extend(describe(&key, sum));
        }
        drops.sort_unstable();
        Ok(drops)
    }

    /// Forgets what was refused on an interface, whose number may name another one later.
    pub(crate) fn forget_drops(&mut self, index: IfIndex) -> Result<(), DatapathError> {
        let keys = self.drop_keys()?;
        let mut map: PerCpuHashMap<_, DropKey, Counter> =
            PerCpuHashMap::try_from(map::map_mut(&mut self.ebpf, maps::DROPS)?)
                .map_err(failed("open", maps::DROPS))?;
        for key in keys.iter().filter(|key| key.ifindex == index.get()) {
            map.remove(key).map_err(failed("write", maps::DROPS))?;
        }
        Ok(())
    }

    fn drop_keys(&self) -> Result<Vec<DropKey>, DatapathError> {
        let map: PerCpuHashMap<_, DropKey, Counter> =
            PerCpuHashMap::try_from(map::map(&self.ebpf, maps::DROPS)?)
                .map_err(failed("open", maps::DROPS))?;
        map.keys().collect::<Result<_, _>>().map_err(failed("read", maps::DROPS))
    }
}

fn describe(key: &DropKey, counter: Counter) -> Option<Drops> {
    Some(Drops {
        interface: IfIndex::new(key.ifindex)?,
        hook: Hook::from_number(key.hook)?,
        reason: Reason::from_index(key.reason.into())?,
        counter,
    })
}
