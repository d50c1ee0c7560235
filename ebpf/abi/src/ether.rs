//! Protocols that are neither IP nor ARP.

/// Value of [`crate::maps::ETHER_TYPES`]: what a zone lets pass, in both directions; zero for none.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EtherTypes(pub [u16; ETHER_TYPES]);

/// How many a zone lets pass.
pub const ETHER_TYPES: usize = 8;

impl EtherTypes {
    /// Whether one is among them.
    #[inline(always)]
    pub fn contains(&self, ether_type: u16) -> bool {
        ether_type != 0 && self.0.contains(&ether_type)
    }
}
