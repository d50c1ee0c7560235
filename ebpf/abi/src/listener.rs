//! Where intercepted connections are accepted.

use crate::Address;

/// Value of [`crate::maps::LISTENERS`], which has one slot for each [`crate::Family`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Listener {
    /// Address the transparent TCP socket listens on.
    pub address: Address,
    /// Its port, host order; 0 while there is no listener.
    pub port: u16,
    /// Zero.
    pub pad: [u8; 6],
}

const _: () = assert!(size_of::<Listener>() == 24);

impl Listener {
    /// No listener: intercepted packets are refused.
    pub const NONE: Self = Self { address: Address::UNSPECIFIED, port: 0, pad: [0; 6] };

    /// A listener at an address and port.
    pub const fn new(address: Address, port: u16) -> Self {
        Self { address, port, pad: [0; 6] }
    }
}
