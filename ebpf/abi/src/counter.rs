//! Packet and byte counters.

/// Packets and bytes. Bytes are those of whole frames, link layer included; a frame that the interface will
/// split later counts once, with its whole length.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Counter {
    /// Frames.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

const _: () = assert!(size_of::<Counter>() == 16);

/// What a rule has decided.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Hits {
    /// Packets and bytes.
    pub counter: Counter,
    /// Nanoseconds since boot (`CLOCK_MONOTONIC`, a few milliseconds coarse) of the last one; 0 for none.
    pub last_seen: u64,
}

const _: () = assert!(size_of::<Hits>() == 24);

/// Key of [`crate::maps::DROPS`]: what was refused where, and why.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DropKey {
    /// Index of the interface.
    pub ifindex: u32,
    /// [`crate::Reason::index`].
    pub reason: u16,
    /// [`crate::Hook::number`].
    pub hook: u8,
    /// Zero.
    pub pad: u8,
}

const _: () = assert!(size_of::<DropKey>() == 8);

impl core::ops::AddAssign for Hits {
    fn add_assign(&mut self, other: Self) {
        self.counter += other.counter;
        self.last_seen = self.last_seen.max(other.last_seen);
    }
}

impl core::ops::AddAssign for Counter {
    fn add_assign(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}
