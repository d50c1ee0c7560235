//! What somebody may send and get, while an alert has it limited.

use crate::{Address, FlowKey, Rate};

/// Value of [`crate::maps::THROTTLED`]: packets of a flow, both directions together, or from and to an address
/// ([`FlowKey::of_address`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Throttle {
    /// How fast frames may come.
    pub rate: Rate,
    /// Until when: nanoseconds since boot by `CLOCK_MONOTONIC`.
    pub until: u64,
    /// [`crate::limit::LimitKey::tag`] of the bucket: those with the same one share it.
    pub tag: u64,
}

const _: () = assert!(size_of::<Throttle>() == 32);

impl FlowKey {
    /// The key of everything from and to an address. No flow has it: none is of protocol 0 with the unspecified address.
    #[inline(always)]
    pub const fn of_address(address: Address) -> Self {
        Self {
            low: address,
            high: Address::UNSPECIFIED,
            low_port: 0,
            high_port: 0,
            protocol: 0,
            icmp_type: 0,
            icmp_code: 0,
            pad: 0,
        }
    }

    /// The address, if it is the key of one.
    pub fn as_address(&self) -> Option<Address> {
        (*self == Self::of_address(self.low)).then_some(self.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_no_flow() {
        let (a, b) = (Address::from_v4([10, 0, 0, 9]), Address::from_v4([10, 0, 0, 1]));
        assert_eq!(FlowKey::of_address(a).as_address(), Some(a));
        assert_eq!(FlowKey::new(17, (a, 1), (b, 2)).0.as_address(), None);
    }
}
