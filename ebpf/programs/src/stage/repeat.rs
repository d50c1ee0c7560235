//! Loops that the kernel turns: one in a program itself would be verified anew for every step.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;

/// Whether a loop goes on after a step. The numbers are those that `bpf_loop` wants of its callback.
#[repr(i64)]
pub(crate) enum Turn {
    /// It does.
    Continue = 0,
    /// It is over.
    Break = 1,
}

/// Takes steps until one breaks the loop, at most as many as given. A step gets its number, from 0 on, and the state
/// (bpf_loop: Linux 5.17).
#[inline(always)]
pub(crate) fn repeat<T>(most: u32, step: extern "C" fn(u64, &mut T) -> Turn, state: &mut T) {
    // SAFETY: the step has the signature that bpf_loop calls, and gets the state given here, which nothing else uses
    // meanwhile.
    unsafe {
        bpf_loop(most, step as *mut c_void, (&raw mut *state).cast(), 0);
    }
}
