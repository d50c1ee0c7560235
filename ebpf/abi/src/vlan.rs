//! VLAN devices on top of interfaces.

/// Key of [`crate::maps::VLANS`]: a VLAN of an interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VlanKey {
    /// The interface that carries it.
    pub ifindex: u32,
    /// VLAN identifier, 1 to 4094 (IEEE 802.1Q).
    pub id: u16,
    /// Zero.
    pub pad: u16,
}

const _: () = assert!(size_of::<VlanKey>() == 8);

impl VlanKey {
    /// A VLAN of an interface. The upper four bits of tag control information are no part of the identifier.
    #[inline(always)]
    pub const fn new(ifindex: u32, tag_control: u16) -> Self {
        Self { ifindex, id: tag_control & 0xfff, pad: 0 }
    }
}
