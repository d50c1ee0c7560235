//! Flows and addresses that an alert has limited.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use nightgate_abi::{
    FlowKey, Reason,
    limit::{LimitKey, Per},
};

use crate::{
    maps,
    stage::{Work, lend, limit},
};

/// Refuses a packet beyond what its flow, or an end of it, may send and get. `frames` is what it is on a wire.
///
/// # Errors
/// It is.
#[inline(always)]
pub(crate) fn check(work: &mut Work, frames: u32) -> Result<(), Reason> {
    lend(work);
    if nightgate_throttle(frames) == 0 { Ok(()) } else { Err(Reason::Throttled) }
}

/// Does it. A global function, as `nightgate_classify` is. Returns 0 if the packet may pass.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_throttle(frames: u32) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: the slot belongs to this CPU; `check` has lent its reference to it.
    let key = unsafe { &(*work).key };
    let is_refused = is_beyond(key, frames)
        || is_beyond(&FlowKey::of_address(key.low), frames)
        || is_beyond(&FlowKey::of_address(key.high), frames);
    u32::from(is_refused)
}

/// Takes the packet's frames from the bucket of a flow or address, if it is limited.
#[inline(never)]
fn is_beyond(subject: &FlowKey, frames: u32) -> bool {
    // SAFETY: the entry is not changed in place (BPF_F_NO_PREALLOC).
    let Some(throttle) = (unsafe { maps::THROTTLED.get(subject) }) else {
        return false;
    };
    // SAFETY: reads the clock.
    if unsafe { bpf_ktime_get_coarse_ns() } >= throttle.until {
        return false;
    }
    let key = LimitKey::new(throttle.tag, Per::Rule, subject.low);
    limit::take(&key, &throttle.rate, frames).is_err()
}
