//! Where intercepted connections are accepted, and intercepted datagrams received.

use crate::{Address, Family};

/// How many listeners there can be: one for each family, of connections and of datagrams.
pub const LISTENERS: usize = 4;

/// What a listener takes. The value is added to the index of its family.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// TCP connections.
    Tcp = 0,
    /// UDP datagrams.
    Udp = 2,
}

/// Index of [`crate::maps::LISTENERS`].
#[inline(always)]
pub const fn index(transport: Transport, family: Family) -> u32 {
    transport as u32 + family.index()
}

/// Value of [`crate::maps::LISTENERS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Listener {
    /// Address the transparent socket is bound to.
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
