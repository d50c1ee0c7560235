//! Which of the two tables a flow is in.

use aya_ebpf::bindings::BPF_NOEXIST;
use nightgate_abi::{Flow, FlowKey};

use crate::maps;

/// A flow table.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Table {
    /// [`nightgate_abi::maps::OPENING`].
    Opening,
    /// [`nightgate_abi::maps::FLOWS`].
    Established,
}

/// Finds a flow, established ones first. What is in neither may have moved between the two looks: another CPU writes
/// it to the table of established ones before it takes it out of the other.
#[inline(always)]
pub(crate) fn find(key: &FlowKey) -> Option<(*mut Flow, Table)> {
    let established = || maps::FLOWS.get_ptr_mut(key).map(|slot| (slot, Table::Established));
    established()
        .or_else(|| maps::OPENING.get_ptr_mut(key).map(|slot| (slot, Table::Opening)))
        .or_else(established)
}

impl Table {
    /// Finds a flow in this table.
    #[inline(always)]
    pub(crate) fn get(self, key: &FlowKey) -> Option<*const Flow> {
        match self {
            Self::Opening => maps::OPENING.get_ptr(key),
            Self::Established => maps::FLOWS.get_ptr(key),
        }
    }

    /// Writes a flow.
    ///
    /// # Errors
    /// The kernel has no room.
    #[inline(always)]
    pub(crate) fn insert(self, key: &FlowKey, flow: &Flow) -> Result<(), i32> {
        match self {
            Self::Opening => maps::OPENING.insert(key, flow, 0),
            Self::Established => maps::FLOWS.insert(key, flow, 0),
        }
    }

    /// Writes an entry where there is none.
    ///
    /// # Errors
    /// There is one, or the kernel has no room.
    #[inline(always)]
    pub(crate) fn insert_new(self, key: &FlowKey, flow: &Flow) -> Result<(), i32> {
        let only_new = u64::from(BPF_NOEXIST);
        match self {
            Self::Opening => maps::OPENING.insert(key, flow, only_new),
            Self::Established => maps::FLOWS.insert(key, flow, only_new),
        }
    }

    /// Removes a flow. One that another CPU has just removed is as good.
    #[inline(always)]
    pub(crate) fn forget(self, key: &FlowKey) {
        let _already_gone = match self {
            Self::Opening => maps::OPENING.remove(key),
            Self::Established => maps::FLOWS.remove(key),
        };
    }
}
