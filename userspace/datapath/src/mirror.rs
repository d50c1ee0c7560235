//! The mirror's device, sessions and encapsulating program.

use std::collections::BTreeMap;

use nightgate_abi::{
    Counter, Hook, maps,
    mirror::{self, MirrorSession, MirrorSessionId, Outcome},
};

use crate::{
    datapath::Datapath,
    error::DatapathError,
    interface::IfIndex,
    link::{self, Place},
    map::{self, failed},
    statistics::MirrorStatistics,
};

/// Name of the program that encapsulates copies.
pub(crate) const TC_MIRROR: &str = "tc_mirror";

impl Datapath {
    /// Says which device copies of mirrored packets go to; `None` for none, which is counted for each copy.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_mirror_device(&mut self, device: Option<IfIndex>) -> Result<(), DatapathError> {
        map::array_mut(&mut self.ebpf, maps::MIRROR_DEVICE)?
            .set(0, device.map_or(0, IfIndex::get), 0)
            .map_err(failed("write", maps::MIRROR_DEVICE))
    }

    /// Attaches the encapsulating program to the ingress of the mirror's inner device.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn attach_mirror(&mut self, interface: &str) -> Result<(), DatapathError> {
        let index = IfIndex::of(interface)?;
        let place =
            Place { program: TC_MIRROR, interface, index, hook: Hook::Ingress, role: "mirror" };
        let link = link::attach(&mut self.ebpf, place, self.pins.as_ref())?;
        self.mirror_links.push(link);
        Ok(())
    }

    /// Sets or replaces a mirror session.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_mirror_session(
        &mut self,
        id: MirrorSessionId,
        session: MirrorSession,
    ) -> Result<(), DatapathError> {
        map::hash_mut(&mut self.ebpf, mirror::SESSIONS_MAP)?
            .insert(u32::from(id.number()), session, 0)
            .map_err(failed("write", mirror::SESSIONS_MAP))
    }

    /// Removes a mirror session; its copies are then counted as without session. One that is not set is no
    /// error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_mirror_session(&mut self, id: MirrorSessionId) -> Result<(), DatapathError> {
        let number = u32::from(id.number());
        let mut sessions =
            map::hash_mut::<u32, MirrorSession>(&mut self.ebpf, mirror::SESSIONS_MAP)?;
        match sessions.get(&number, 0) {
            Ok(_) => sessions.remove(&number).map_err(failed("write", mirror::SESSIONS_MAP)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(()),
            Err(source) => Err(failed("read", mirror::SESSIONS_MAP)(source)),
        }
    }

    /// What became of the copies.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mirror_statistics(&self) -> Result<MirrorStatistics, DatapathError> {
        let counters = map::counters(&self.ebpf, mirror::COUNTERS_MAP, 0..mirror::COUNTERS)?;
        let row = |session: u32| -> BTreeMap<Outcome, Counter> {
            Outcome::ALL
                .iter()
                .map(|outcome| {
                    let index = mirror::counter_index(session, *outcome);
                    let counter = usize::try_from(index).ok().and_then(|index| counters.get(index));
                    (*outcome, counter.copied().unwrap_or_default())
                })
                .collect()
        };
        Ok(MirrorStatistics {
            unknown: row(0),
            sessions: (1..=mirror::SESSIONS)
                .filter_map(MirrorSessionId::new)
                .map(|id| (id, row(u32::from(id.number()))))
                .filter(|(_, row)| row.values().any(|counter| counter.packets != 0))
                .collect(),
        })
    }
}
