//! Network interfaces.

use std::{fmt, io};

use crate::error::DatapathError;

/// Index of a network interface; not 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IfIndex(u32);

impl IfIndex {
    /// The interface with this index, if it can be one.
    pub fn new(index: u32) -> Option<Self> {
        (index != 0).then_some(Self(index))
    }

    /// The interface with this name in the calling thread's network namespace.
    ///
    /// # Errors
    /// There is none.
    pub fn of(interface: &str) -> Result<Self, DatapathError> {
        nix::net::if_::if_nametoindex(interface).map(Self).map_err(|errno| {
            DatapathError::Interface {
                interface: interface.to_owned(),
                source: io::Error::from(errno),
            }
        })
    }

    /// Whether the calling thread's network namespace has an interface with this number.
    pub fn exists(self) -> bool {
        nix::net::if_::if_indextoname(self.0).is_ok()
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
