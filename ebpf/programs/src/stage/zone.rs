//! Zones of interfaces.

use nightgate_abi::{Active, ZoneId};

use crate::maps;

/// The zone of an interface in the bank in force, if it has one.
#[inline(always)]
pub(crate) fn of_interface(ifindex: u32, active: Active) -> Option<ZoneId> {
    // SAFETY: the reference is read at once; userspace replaces whole values only.
    let interface = unsafe { maps::INTERFACES.get(&ifindex) }?;
    let zone = interface.zones[active.bank() as usize];
    if zone == ZoneId::NONE { None } else { Some(zone) }
}
