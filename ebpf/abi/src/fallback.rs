//! The way back to the rules before, which the kernel takes by itself if nobody keeps new rules in time.

use crate::Active;

/// A timer of the kernel (linux/bpf.h, Linux 5.15), which finds it in a map's value by the name of its type.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct bpf_timer {
    /// The kernel's own.
    pub opaque: [u64; 2],
}

/// Value of [`crate::maps::FALLBACK`]: what a timer falls back to.
///
/// A program starts the timer, and writing the value stops it. What the kernel then does needs no process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fallback {
    /// Zero in what userspace writes.
    pub timer: bpf_timer,
    /// The word before, whose bank and features come back, in a new epoch.
    pub before: Active,
    /// Nanoseconds until then.
    pub nanoseconds: u64,
    /// 1 if there is something to fall back to, else 0.
    pub armed: u64,
}

const _: () = assert!(size_of::<Fallback>() == 40);
