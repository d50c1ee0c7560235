//! What one end of a flow has sent.

/// What is known of what one end of a flow has sent. Of other protocols than TCP, only the flags.
///
/// Only packets of that end change it, so CPUs that carry the two directions do not undo each other's writes. The
/// one exception is a connection that is opened anew while the flow still stands.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sender {
    /// Sequence number behind the last that it has sent.
    pub end: u32,
    /// Highest sequence number that it has acknowledged.
    pub acknowledged: u32,
    /// Sequence number behind the last that it has room for: highest acknowledgement plus window.
    pub granted: u32,
    /// Largest window it has announced, in bytes, at least 1.
    pub window: u32,
    /// Shift of its windows (RFC 7323 section 2.2), if both ends have [`sent::SCALE`].
    pub scale: u8,
    /// [`sent`] bits.
    pub flags: u8,
    /// TCP flags of all that it has sent.
    pub seen: u8,
    /// Zero.
    pub pad: u8,
}

const _: () = assert!(size_of::<Sender>() == 20);

impl Sender {
    /// Whether any of these [`sent`] bits is set.
    #[inline(always)]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Notes the TCP flags of a segment that it has sent. Most say nothing new, and cost no write.
    #[inline(always)]
    pub const fn see(&mut self, flags: u8) {
        if self.seen & flags != flags {
            self.seen |= flags;
        }
    }

    /// Shift of the windows it announces to another end, of which nothing may be known yet.
    #[inline(always)]
    pub const fn shift(&self, other: &Self) -> u8 {
        let is_scaled =
            self.has(sent::SCALE) && (other.has(sent::SCALE) || !other.has(sent::ANYTHING));
        if is_scaled { self.scale } else { 0 }
    }
}

/// Bits of [`Sender::flags`].
pub mod sent {
    /// A packet.
    pub const ANYTHING: u8 = 1 << 0;
    /// A packet after an answer, which of TCP acknowledges: see [`crate::maps::OPENING`]. Originators only.
    pub const CONFIRMATION: u8 = 1 << 1;
    /// A TCP FIN.
    pub const FIN: u8 = 1 << 2;
    /// A TCP RST that the other end obeys.
    pub const RESET: u8 = 1 << 3;
    /// A TCP acknowledgement: `acknowledged` and `granted` say which.
    pub const ACKNOWLEDGEMENT: u8 = 1 << 4;
    /// The window scale option, or it may have been sent before the flow was known.
    pub const SCALE: u8 = 1 << 5;
    /// A SYN in an open connection, which the other end may have forgotten. Originators only.
    pub const ANOTHER_SYN: u8 = 1 << 6;
}

/// Largest shift of a window (RFC 7323 section 2.3).
pub const SCALE_MAX: u8 = 14;
