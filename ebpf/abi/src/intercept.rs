//! The table of intercepted destinations: addresses in order, each stretch of them with its ports in order.
//!
//! Two banks hold a whole table each, and one word says which counts, so that every packet meets one whole
//! table. Both searches are bisections: a table of any size costs a handful of steps for the first packet of a
//! flow, and nothing for those that follow.

use crate::Address;

/// Value of [`crate::maps::INTERCEPT_TABLE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct InterceptTable {
    /// Bank in force, 0 or 1.
    pub bank: u32,
    /// Elements of it in [`crate::maps::INTERCEPT_RANGES`]; 0 while nothing is intercepted.
    pub ranges: u32,
}

const _: () = assert!(size_of::<InterceptTable>() == 8);

/// Element of a bank of [`crate::maps::INTERCEPT_RANGES`]: a stretch of addresses that share their ports. In the
/// order of the addresses, none in two.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct InterceptRange {
    /// First address, see [`position`].
    pub first: [u64; 2],
    /// Last address.
    pub last: [u64; 2],
    /// Index of its first element in [`crate::maps::INTERCEPT_PORTS`].
    pub ports_from: u32,
    /// How many it has there.
    pub ports: u32,
}

const _: () = assert!(size_of::<InterceptRange>() == 40);

/// Element of a bank of [`crate::maps::INTERCEPT_PORTS`]: a stretch of ports of one protocol that is one service's.
/// In the order of protocol and port, none in two.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct InterceptPorts {
    /// First protocol and port, see [`door`].
    pub first: u32,
    /// Last protocol and port.
    pub last: u32,
    /// What intercepts them.
    pub value: Intercept,
}

const _: () = assert!(size_of::<InterceptPorts>() == 16);

/// Upper half of the packet mark of what the gateway itself sends to servers of the services that it hosts ("NH").
pub const HOSTED_MARK: u32 = 0x4e48_0000;

/// The packet mark of connections that have a number among what is hosted: with [`HOSTED_MARK`] as its upper half in
/// [`crate::maps::HOSTED`], with [`crate::tunnel::HOSTED_MARK`] in [`crate::tunnel::maps::HOSTED`].
pub const fn hosted_mark(half: u32, number: u16) -> u32 {
    half | number as u32
}

/// The number of connections that are of no service that the kernel is told of, but have a source that may be no address of
/// this host. It has no entry in [`crate::maps::HOSTED`].
pub const HOSTED_ELSEWHERE: u16 = u16::MAX;

/// The number that a packet mark with this upper half says; 0 for none.
#[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
#[inline(always)]
pub const fn hosted_number(half: u32, mark: u32) -> u16 {
    if mark & 0xffff_0000 == half { mark as u16 } else { 0 }
}

/// What intercepts a destination, or what a connection to a server was hosted for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Intercept {
    /// Tag of the service, chosen by the gateway; not 0.
    pub service: u32,
    /// Claim of a mirror session to the service's flows (`mirror::claim`); 0 for none.
    pub mirror_session: u16,
    /// Bits of [`flags`].
    pub flags: u16,
}

const _: () = assert!(size_of::<Intercept>() == 8);

/// Bits of [`Intercept::flags`].
pub mod flags {
    /// The service can be reached, so echo requests are answered.
    pub const REACHABLE: u16 = 1;
}

impl Intercept {
    /// Not intercepted.
    pub const NONE: Self = Self::new(0, 0);

    /// The value for a service and its mirror session, 0 for none.
    pub const fn new(service: u32, mirror_session: u16) -> Self {
        Self { service, mirror_session, flags: 0 }
    }
}

/// An address as two numbers, the higher first, which are in the order of the addresses.
#[inline(always)]
pub const fn position(address: Address) -> [u64; 2] {
    let [high, low] = address.halves();
    [u64::from_be(high), u64::from_be(low)]
}

/// Whether a position is before another.
#[inline(always)]
pub const fn is_before(one: [u64; 2], other: [u64; 2]) -> bool {
    one[0] < other[0] || one[0] == other[0] && one[1] < other[1]
}

/// A protocol and a port as one number.
#[inline(always)]
pub const fn door(protocol: u8, port: u16) -> u32 {
    (protocol as u32) << 16 | port as u32
}

/// A search for the first element that does not end before what is looked for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bisection {
    low: u32,
    high: u32,
}

impl Bisection {
    /// More steps than any search has.
    pub const STEPS: u32 = 32;

    /// Among a number of elements from one on.
    #[inline(always)]
    pub const fn among(from: u32, count: u32) -> Self {
        Self { low: from, high: from.wrapping_add(count) }
    }

    /// The index of the element that has to be looked at next; `None` when the search is over.
    #[inline(always)]
    pub const fn wants(&self) -> Option<u32> {
        if self.low < self.high { Some(self.low + (self.high - self.low) / 2) } else { None }
    }

    /// Goes on, knowing whether the element at an index ends before what is looked for.
    #[inline(always)]
    pub const fn narrow(&mut self, index: u32, ends_before: bool) {
        if ends_before {
            self.low = index + 1;
        } else {
            self.high = index;
        }
    }

    /// The index of the element found, when the search is over. There may be no such element.
    #[inline(always)]
    pub const fn found(&self) -> u32 {
        self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel;

    #[test]
    fn a_mark_is_of_one_kind_of_hosts() {
        let mark = hosted_mark(tunnel::HOSTED_MARK, 7);
        assert_eq!(hosted_number(tunnel::HOSTED_MARK, mark), 7);
        assert_eq!(hosted_number(HOSTED_MARK, mark), 0);
    }

    #[test]
    fn positions_are_in_the_order_of_the_addresses() {
        let texts =
            ["0.0.0.0", "10.0.0.255", "10.0.1.0", "255.255.255.255", "fd00::1", "fd00:0:1::"];
        let positions =
            texts.map(|text| position(Address::from(text.parse::<core::net::IpAddr>().unwrap())));
        for pair in positions.windows(2) {
            assert!(is_before(pair[0], pair[1]) && !is_before(pair[1], pair[0]));
        }
        assert!(!is_before(positions[0], positions[0]));
        assert!(door(6, 65_535) < door(17, 0));
    }

    #[test]
    fn a_bisection_finds_the_first_element_that_does_not_end_before() {
        let ends = [3_u32, 7, 7, 20];
        for (wanted, expected) in [(0, 1), (3, 1), (4, 2), (7, 2), (8, 4), (20, 4), (21, 5)] {
            let mut search = Bisection::among(1, 4);
            while let Some(index) = search.wants() {
                search.narrow(index, ends[index as usize - 1] < wanted);
            }
            assert_eq!(search.found(), expected, "{wanted}");
        }
    }
}
