//! Address prefixes.

use std::{fmt, net::IpAddr};

use crate::{
    decode::{self, Malformed},
    node::Node,
    reader::Reader,
};

/// An IPv4 or IPv6 prefix without host bits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// A prefix, if the length fits the family and no host bit is set.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let prefix = Self { address, length };
        (length <= prefix.width() && prefix.network() == bits(address)).then_some(prefix)
    }

    /// First address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Length in bits: up to 32 for IPv4, up to 128 for IPv6.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether it is IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether an address is in it. Addresses of the other family are not.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4()
            && Self { address, length: self.length }.network() == bits(self.address)
    }

    /// Bits of an address of the family.
    fn width(&self) -> u8 {
        if self.is_ipv4() { 32 } else { 128 }
    }

    /// The address with the host bits cleared, aligned to the right.
    fn network(&self) -> u128 {
        let host = u32::from(self.width() - self.length);
        bits(self.address).checked_shr(host).unwrap_or(0).checked_shl(host).unwrap_or(0)
    }

    pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Self> {
        decode::checked(reader, node, Self::check)
    }

    pub(crate) fn check(text: &str) -> Result<Self, Malformed> {
        let malformed = || {
            Malformed::new(
                "an IPv4 or IPv6 address or prefix",
                "write 10.0.0.0/8, 2001:db8::/32 or a single address",
            )
        };
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let address: IpAddr = address.parse().map_err(|_not_an_address| malformed())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let length: u8 = match length {
            Some(length) if length.bytes().all(|b| b.is_ascii_digit()) => {
                length.parse().map_err(|_not_a_number| malformed())?
            }
            Some(_) => return Err(malformed()),
            None => width,
        };
        if length > width {
            return Err(malformed());
        }
        Self::new(address, length).ok_or_else(|| {
            let network = Self { address, length }.network();
            Malformed::new(
                "a prefix without host bits",
                format!("write {}/{length} or a longer prefix", from_bits(network, address)),
            )
        })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address with these bits, of the family of another.
fn from_bits(bits: u128, like: IpAddr) -> IpAddr {
    let [.., a, b, c, d] = bits.to_be_bytes();
    match like {
        IpAddr::V4(_) => IpAddr::from([a, b, c, d]),
        IpAddr::V6(_) => IpAddr::from(bits.to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_hold_their_addresses_and_no_others() {
        for (prefix, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "255.1.2.3", "::"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"),
            ("::1/128", "::1", "::"),
        ] {
            let prefix = Prefix::check(prefix).unwrap();
            assert!(prefix.contains(inside.parse().unwrap()), "{inside} in {prefix}");
            assert!(!prefix.contains(outside.parse().unwrap()), "{outside} in {prefix}");
        }
    }

    #[test]
    fn host_bits_are_refused_with_the_prefix_that_was_meant() {
        let error = Prefix::check("10.1.2.3/8").unwrap_err();
        assert!(error.remedy.contains("10.0.0.0/8"), "{}", error.remedy);
        let error = Prefix::check("2001:db8::1/32").unwrap_err();
        assert!(error.remedy.contains("2001:db8::/32"), "{}", error.remedy);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "x", "/8"] {
            assert!(Prefix::check(text).is_err(), "{text}");
        }
    }
}
