//! Addresses of both families in one form.

use core::net::{IpAddr, Ipv6Addr};

/// An IP address in 16 bytes of network order, IPv4 mapped into IPv6 (RFC 4291 section 2.5.5.2).
///
/// One form serves both families in every key. Packets that carry a mapped address on the wire are refused,
/// so the two cannot be confused. Held as two words whose bytes in memory are the address, which is how
/// kernel programs compare and mask it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Address([u64; 2]);

const _: () = assert!(size_of::<Address>() == 16);

/// The first half of every IPv4 address.
const V4_HIGH: u64 = 0;
/// The third quarter of every IPv4 address.
const V4_PREFIX: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
/// Where it is.
const V4_PREFIX_MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

impl Address {
    /// The unspecified IPv6 address.
    pub const UNSPECIFIED: Self = Self([0; 2]);

    /// Wraps the two halves of an IPv6 address, each in network order.
    #[inline(always)]
    pub const fn from_halves(halves: [u64; 2]) -> Self {
        Self(halves)
    }

    /// Wraps the bytes of an IPv6 address.
    #[inline(always)]
    pub const fn from_v6(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self([
            u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        ])
    }

    /// Maps the bytes of an IPv4 address.
    #[inline(always)]
    pub const fn from_v4(bytes: [u8; 4]) -> Self {
        let [a, b, c, d] = bytes;
        Self([V4_HIGH, V4_PREFIX | u64::from_ne_bytes([0, 0, 0, 0, a, b, c, d])])
    }

    /// The 16 bytes in network order.
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.0[0].to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.0[1].to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// The last four bytes: the IPv4 address, if it is one.
    #[inline(always)]
    pub const fn v4_octets(self) -> [u8; 4] {
        self.quarters()[3].to_ne_bytes()
    }

    /// The four quarters in network order.
    #[inline(always)]
    pub const fn quarters(self) -> [u32; 4] {
        let [a, b, c, d, e, f, g, h] = self.0[0].to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.0[1].to_ne_bytes();
        [
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ]
    }

    /// Wraps the four quarters of an IPv6 address, each in network order.
    #[inline(always)]
    pub const fn from_quarters([first, second, third, fourth]: [u32; 4]) -> Self {
        Self([half(first, second), half(third, fourth)])
    }

    /// Whether it is the host's own: 127.0.0.0/8 (RFC 1122 section 3.2.1.3) or ::1 (RFC 4291 section 2.5.3).
    #[inline(always)]
    pub const fn is_loopback(self) -> bool {
        match self.family() {
            Family::V4 => self.v4_octets()[0] == 127,
            Family::V6 => self.0[0] == 0 && self.0[1] == 1_u64.to_be(),
        }
    }

    /// The two halves in network order, for masking.
    #[inline(always)]
    pub const fn halves(self) -> [u64; 2] {
        self.0
    }

    /// Whether it is IPv4 or IPv6.
    #[inline(always)]
    pub const fn family(self) -> Family {
        if self.0[0] == V4_HIGH && self.0[1] & V4_PREFIX_MASK == V4_PREFIX {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// The standard library's form.
    pub fn to_ip(self) -> IpAddr {
        match self.family() {
            Family::V4 => IpAddr::from(self.v4_octets()),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(self.octets())),
        }
    }
}

/// Half of an address: two quarters that follow each other, in network order like it.
#[inline(always)]
const fn half(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            IpAddr::V6(v6) => Self::from_v6(v6.octets()),
        }
    }
}

/// An address family. The value is the index of per-family arrays.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

impl Family {
    /// Index of per-family arrays.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// One bit of a set of families.
    #[inline(always)]
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip_with_their_family() {
        for (text, family) in [
            ("10.1.2.3", Family::V4),
            ("0.0.0.0", Family::V4),
            ("255.255.255.255", Family::V4),
            ("::", Family::V6),
            ("::1", Family::V6),
            ("2001:db8::ffff:0:1", Family::V6),
        ] {
            let ip: IpAddr = text.parse().unwrap();
            let address = Address::from(ip);
            assert_eq!(address.family(), family, "{text}");
            assert_eq!(address.to_ip(), ip, "{text}");
            assert_eq!(Address::from_quarters(address.quarters()), address, "{text}");
            assert_eq!(address.is_loopback(), ip.is_loopback(), "{text}");
        }
    }
}
