//! Addresses that are cut off for a while.

use std::{collections::BTreeMap, net::IpAddr};

use aya::maps::MapError;
use nightgate_abi::{Active, Address, Features, limits::QUARANTINED, maps};

use crate::{
    datapath::Datapath,
    error::DatapathError,
    map::{self, failed},
};

impl Datapath {
    /// Refuses everything from and to an address until a moment: nanoseconds since boot by `CLOCK_MONOTONIC`. Flows
    /// it has are judged again by their next packet, and end. A later moment replaces an earlier one.
    ///
    /// # Errors
    /// As many addresses as there may be are in quarantine, or the kernel refuses.
    pub fn quarantine(&mut self, address: IpAddr, until: u64) -> Result<(), DatapathError> {
        let key = Address::from(address.to_canonical());
        match self.quarantine_map()?.insert(key, until, 0) {
            Ok(()) => {}
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(nix::libc::E2BIG) =>
            {
                return Err(DatapathError::QuarantineFull { limit: QUARANTINED });
            }
            Err(source) => return Err(failed("write", maps::QUARANTINE)(source)),
        }
        self.always = self.always.with(Features::QUARANTINE);
        self.refresh()?;
        let features = self.active.features().with(Features::QUARANTINE);
        self.active = self.active.with_features(features);
        if self.committed.is_some() { self.judge_flows_again() } else { Ok(()) }
    }

    /// Ends the quarantine of an address; gives whether it was in one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn release_address(&mut self, address: IpAddr) -> Result<bool, DatapathError> {
        let key = Address::from(address.to_canonical());
        let removed = map::removed(self.quarantine_map()?.remove(&key));
        let removed = removed.map_err(failed("write", maps::QUARANTINE))?;
        if removed && self.quarantined()?.is_empty() {
            self.always = self.always.without(Features::QUARANTINE);
            self.write_features(self.active.features().without(Features::QUARANTINE))?;
        }
        Ok(removed)
    }

    /// The addresses in quarantine, and until when: nanoseconds since boot by `CLOCK_MONOTONIC`. Those whose
    /// time is over are among them until they are released.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn quarantined(&self) -> Result<BTreeMap<IpAddr, u64>, DatapathError> {
        let entries = map::hash::<Address, u64>(&self.ebpf, maps::QUARANTINE)?;
        entries
            .iter()
            .map(|entry| entry.map(|(address, until)| (address.to_ip(), until)))
            .collect::<Result<_, _>>()
            .map_err(failed("read", maps::QUARANTINE))
    }

    /// Notices what an earlier process has put in quarantine.
    pub(crate) fn take_over_quarantine(&mut self) -> Result<(), DatapathError> {
        if !self.quarantined()?.is_empty() {
            self.always = self.always.with(Features::QUARANTINE);
        }
        Ok(())
    }

    /// The word with what is used whatever its rules say: the kernel's going back brings a word of before.
    pub(crate) fn with_always(&self, active: Active) -> Active {
        active.with_features(active.features().with(self.always))
    }

    fn quarantine_map(
        &mut self,
    ) -> Result<aya::maps::HashMap<&mut aya::maps::MapData, Address, u64>, DatapathError> {
        map::hash_mut(&mut self.ebpf, maps::QUARANTINE)
    }
}
