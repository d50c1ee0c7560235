//! Zones and the interfaces in them.

use crate::Address;

/// Identifies a zone: 0 is none, 1 and 2 are reserved, configured zones follow. Below
/// [`crate::limits::ZONES`].
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ZoneId(u8);

impl ZoneId {
    /// No zone: the interface is not in the rule set.
    pub const NONE: Self = Self(0);
    /// The gateway itself.
    pub const LOCAL: Self = Self(1);
    /// Destinations that intercepts cover.
    pub const OVERLAY: Self = Self(2);
    /// The first configured zone.
    pub const FIRST: Self = Self(3);

    /// The zone with this number, if it is below [`crate::limits::ZONES`].
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < crate::limits::ZONES { Some(Self(number)) } else { None }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its bit in a set of zones. [`ZoneId::NONE`] is in no set.
    #[inline(always)]
    pub const fn bit(self) -> u64 {
        (1 << (self.0 & 63)) & !1
    }
}

/// Value of [`crate::maps::INTERFACES`]: the interface's zone in each bank, so that zones and rules change
/// with the same word; and what it is called by others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Interface {
    /// Zone by bank.
    pub zones: [ZoneId; 2],
    /// Zero.
    pub pad: [u8; 6],
    /// Address that masqueraded flows get, by [`crate::Family`]; unspecified while there is none.
    pub addresses: [Address; 2],
}

const _: () = assert!(size_of::<Interface>() == 40);
