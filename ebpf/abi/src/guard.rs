//! What is refused before anything else: blocked sources and floods.

use crate::{Address, Family, Rate, ZoneId, limits};

/// Value of [`crate::maps::GUARDS`]: what a zone guards itself against, beside the sources it blocks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Guard {
    /// How fast one source may send, by [`Flood`].
    pub rates: [Rate; FLOODS],
    /// Floods that are guarded against: bits by [`Flood`].
    pub floods: u32,
    /// 1 if there are prefixes of the zone in [`crate::maps::GUARD_PREFIXES`], else 0.
    pub prefixes: u32,
}

const _: () = assert!(size_of::<Guard>() == 56);

/// Number of floods.
pub const FLOODS: usize = 3;

/// A kind of packet of which one source may send too many.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flood {
    /// TCP segments that open connections.
    Syn = 0,
    /// UDP.
    Udp = 1,
    /// ICMP and ICMPv6.
    Icmp = 2,
}

impl Guard {
    /// The rate of a flood, if it is guarded against.
    #[inline(always)]
    pub const fn rate(&self, flood: Flood) -> Option<Rate> {
        if self.floods & 1 << flood as u32 == 0 { None } else { Some(self.rates[flood as usize]) }
    }

    /// The guard with a rate for a flood.
    #[must_use]
    pub const fn with_rate(mut self, flood: Flood, rate: Rate) -> Self {
        self.floods |= 1 << flood as u32;
        self.rates[flood as usize] = rate;
        self
    }
}

/// Index in [`crate::maps::GUARDS`] of a zone in a bank.
#[expect(clippy::cast_possible_truncation, reason = "there are 64 zones")]
#[inline(always)]
pub const fn index(bank: u32, zone: ZoneId) -> u32 {
    bank * limits::ZONES as u32 + zone.number() as u32
}

/// Data of a key of [`crate::maps::GUARD_PREFIXES`]: bank, zone, address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct GuardPrefix(pub [u8; 18]);

impl GuardPrefix {
    /// Bits before the address.
    pub const OFFSET: u32 = 16;
    /// Bits of a whole address with what is before it.
    pub const LENGTH: u32 = Self::OFFSET + 128;

    /// An address in a zone's list.
    #[inline(always)]
    pub const fn new(bank: u32, zone: ZoneId, address: Address) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets();
        let (bank, zone) = ((bank & 1) as u8, zone.number());
        Self([bank, zone, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// The bank.
    pub const fn bank(&self) -> u32 {
        self.0[0] as u32
    }
}

/// Values of [`crate::maps::GUARD_PREFIXES`]: the longest prefix that a source is in decides.
pub mod list {
    /// What the source sends is refused.
    pub const BLOCK: u8 = 1;
    /// What the source sends is not looked at.
    pub const ALLOW: u8 = 2;
}

/// Key of [`crate::maps::SOURCES`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SourceKey {
    /// The source; of IPv6, its /64 prefix.
    pub source: Address,
    /// The zone it is in.
    pub zone: ZoneId,
    /// [`Flood`].
    pub flood: u8,
    /// Zero.
    pub pad: [u8; 6],
}

const _: () = assert!(size_of::<SourceKey>() == 24);

impl SourceKey {
    /// A source in a zone.
    #[inline(always)]
    pub const fn new(source: Address, zone: ZoneId, flood: Flood) -> Self {
        let source = match source.family() {
            Family::V4 => source,
            Family::V6 => Address::from_halves([source.halves()[0], 0]),
        };
        Self { source, zone, flood: flood as u8, pad: [0; 6] }
    }
}
