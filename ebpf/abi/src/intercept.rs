//! The table of intercepted destinations.

use crate::Address;

/// Key of [`crate::maps::INTERCEPTS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct InterceptKey {
    /// Destination address.
    pub address: Address,
    /// Destination port, host order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 5],
}

const _: () = assert!(size_of::<InterceptKey>() == 24);

impl InterceptKey {
    /// The key of a destination.
    #[inline(always)]
    pub const fn new(protocol: u8, address: Address, port: u16) -> Self {
        Self { address, port, protocol, pad: [0; 5] }
    }
}

/// Value of [`crate::maps::INTERCEPTS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Intercept {
    /// Tag of the service, chosen by the gateway; not 0.
    pub service: u32,
    /// Mirror session of the service's flows; 0 for none.
    pub mirror_session: u16,
    /// Zero.
    pub pad: u16,
}

const _: () = assert!(size_of::<Intercept>() == 8);

impl Intercept {
    /// Not intercepted.
    pub const NONE: Self = Self::new(0, 0);

    /// The value for a service and its mirror session, 0 for none.
    pub const fn new(service: u32, mirror_session: u16) -> Self {
        Self { service, mirror_session, pad: 0 }
    }
}
