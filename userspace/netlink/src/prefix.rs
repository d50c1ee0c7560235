use std::{fmt, net::IpAddr};

/// An address and the length of its network part.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// A prefix length beyond what the address family has.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{address}/{length}: expected a prefix length of at most {maximum}")]
pub struct InvalidPrefix {
    address: IpAddr,
    length: u8,
    maximum: u8,
}

impl Prefix {
    /// Pairs an address with a prefix length of 0..=32 (IPv4) or 0..=128 (IPv6) bits.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, InvalidPrefix> {
        let maximum = maximum_length(address);
        if length > maximum {
            return Err(InvalidPrefix { address, length, maximum });
        }
        Ok(Self { address, length })
    }

    /// The prefix that holds this one address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self { address, length: maximum_length(address) }
    }

    /// The address, host bits included.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Length of the network part, bits.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

fn maximum_length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_family_is_refused() {
        let v4 = "10.0.0.1".parse().unwrap();
        let v6 = "fd00::1".parse().unwrap();
        assert_eq!(Prefix::new(v4, 32).unwrap(), Prefix::host(v4));
        assert!(Prefix::new(v4, 33).is_err());
        assert_eq!(Prefix::new(v6, 128).unwrap().to_string(), "fd00::1/128");
        assert!(Prefix::new(v6, 129).is_err());
    }
}
