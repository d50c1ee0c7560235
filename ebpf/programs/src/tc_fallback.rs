//! Starts the timer that brings the rules before back. It is on no interface: userspace runs it once
//! (`BPF_PROG_TEST_RUN`) when it has written what to fall back to.

use core::ffi::{c_long, c_void};

use aya_ebpf::{
    helpers::generated::{bpf_timer_init, bpf_timer_set_callback, bpf_timer_start},
    macros::classifier,
    programs::TcContext,
};
use nightgate_abi::Fallback;

use crate::maps;

/// Clock of the timer: `CLOCK_MONOTONIC` (linux/time.h).
const MONOTONIC: u64 = 1;
/// There is no value, which cannot be.
const NO_VALUE: i32 = -1;

/// Returns 0, or the helpers' negative error.
#[classifier]
pub(crate) fn tc_fallback(_ctx: TcContext) -> i32 {
    let Some(fallback) = maps::FALLBACK.get_ptr_mut(0) else {
        return NO_VALUE;
    };
    let map = (&raw const maps::FALLBACK).cast_mut().cast::<c_void>();
    // SAFETY: the value stays in its map, and the timer is the field that the kernel found in it. The callback has
    // the signature that the kernel calls.
    let result = unsafe {
        let timer = (&raw mut (*fallback).timer).cast();
        let mut result = bpf_timer_init(timer, map, MONOTONIC);
        if result == 0 {
            result = bpf_timer_set_callback(timer, fall_back as *mut c_void);
        }
        if result == 0 {
            result = bpf_timer_start(timer, (*fallback).nanoseconds, 0);
        }
        result
    };
    result as i32
}

/// Brings the bank before back in a new epoch, unless it is in force already.
extern "C" fn fall_back(_map: *mut c_void, _key: *mut u32, fallback: *mut Fallback) -> c_long {
    let Some(active) = maps::ACTIVE.get_ptr_mut(0) else { return 0 };
    // SAFETY: both are values in maps, which stay there; a word is read and written as a whole.
    unsafe {
        let (now, before) = (active.read_volatile(), (*fallback).before);
        if (*fallback).armed != 0 && now.bank() != before.bank() {
            active.write_volatile(before.in_epoch(now.epoch() + 1));
            (*fallback).armed = 0;
        }
    }
    0
}
