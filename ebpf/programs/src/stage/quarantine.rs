//! Addresses that an alert has cut off.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use nightgate_abi::{Address, Reason};

use crate::maps;

/// Refuses a flow if an end of it is in quarantine.
///
/// # Errors
/// One is.
#[inline(never)]
pub(crate) fn check(ends: &[Address; 2]) -> Result<(), Reason> {
    // SAFETY: reads the clock.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    for end in ends {
        // SAFETY: the entry is never changed in place.
        if let Some(until) = unsafe { maps::QUARANTINE.get(end) }
            && now < *until
        {
            return Err(Reason::Quarantined);
        }
    }
    Ok(())
}
