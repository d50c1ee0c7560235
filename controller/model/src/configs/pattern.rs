//! Addresses as `intercept.v1` and `host.v1` write them: names, wildcards, addresses and prefixes.

use std::net::IpAddr;

/// Which addresses or names are meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AddressPattern {
    /// One host name, lower case, without the dot at the end.
    Name(String),
    /// Every name below this one: `example.com` for `*.example.com`.
    Below(String),
    /// The addresses whose first bits are these.
    Prefix(IpPrefix),
}

/// The addresses of one family that begin with the same bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IpPrefix {
    address: IpAddr,
    length: u8,
}

/// Text that is no address, prefix, name or wildcard.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "address {0:?}, expected an IP address, a prefix as 10.0.0.0/8, a host name, or *. and a domain"
)]
pub struct AddressPatternError(String);

impl AddressPattern {
    /// Reads one.
    ///
    /// # Errors
    /// The text is none of them.
    pub fn parse(text: &str) -> Result<Self, AddressPatternError> {
        if let Some(prefix) = IpPrefix::parse(text) {
            return Ok(Self::Prefix(prefix));
        }
        let name = normal_name(text);
        let (below, domain) = match name.strip_prefix("*.") {
            Some(domain) => (true, domain.to_owned()),
            None => (false, name.clone()),
        };
        let label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        match domain.split('.').all(label) {
            true if below => Ok(Self::Below(domain)),
            true => Ok(Self::Name(domain)),
            false => Err(AddressPatternError(text.to_owned())),
        }
    }

    /// Whether an IP address is meant.
    pub fn matches_ip(&self, address: IpAddr) -> bool {
        match self {
            Self::Prefix(prefix) => prefix.contains(address),
            Self::Name(_) | Self::Below(_) => false,
        }
    }

    /// Whether a host name is meant, in whatever case.
    pub fn matches_name(&self, name: &str) -> bool {
        let name = normal_name(name);
        match self {
            Self::Name(own) => *own == name,
            Self::Below(domain) => {
                name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            Self::Prefix(_) => false,
        }
    }
}

/// Lower case, without the dot at the end.
fn normal_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl IpPrefix {
    /// The addresses whose first `length` bits are those of `address`; `None` for more bits than it has.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        (u32::from(length) <= bits(address)).then_some(Self { address, length })
    }

    /// Reads an address, or an address and a length. Bits after the length do not count.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('/') {
            Some((address, length)) => Self::new(address.parse().ok()?, length.parse().ok()?),
            None => {
                let address: IpAddr = text.parse().ok()?;
                Self::new(address, u8::try_from(bits(address)).ok()?)
            }
        }
    }

    /// The address it was made of.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many bits count.
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether it is one of them.
    pub fn contains(self, address: IpAddr) -> bool {
        self.onto(address, address).is_some()
    }

    /// Puts the first bits of `to` before the rest of `address`, if that is one of these; `None` otherwise, and
    /// where the families differ.
    pub fn onto(self, address: IpAddr, to: IpAddr) -> Option<IpAddr> {
        match (self.address, address, to) {
            (IpAddr::V4(own), IpAddr::V4(address), IpAddr::V4(to)) => {
                let rest = u32::MAX.checked_shr(self.length.into()).unwrap_or(0);
                let (own, address, to) = (own.to_bits(), address.to_bits(), to.to_bits());
                let inside = (own ^ address) & !rest == 0;
                inside.then(|| IpAddr::V4((to & !rest | address & rest).into()))
            }
            (IpAddr::V6(own), IpAddr::V6(address), IpAddr::V6(to)) => {
                let rest = u128::MAX.checked_shr(self.length.into()).unwrap_or(0);
                let (own, address, to) = (own.to_bits(), address.to_bits(), to.to_bits());
                let inside = (own ^ address) & !rest == 0;
                inside.then(|| IpAddr::V6((to & !rest | address & rest).into()))
            }
            _ => None,
        }
    }
}

fn bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_what_it_says() {
        let ip = |pattern: &str, address: &str| {
            AddressPattern::parse(pattern).unwrap().matches_ip(address.parse().unwrap())
        };
        assert!(ip("10.0.0.0/8", "10.255.0.1"));
        assert!(!ip("10.0.0.0/8", "11.0.0.1"));
        assert!(ip("0.0.0.0/0", "11.0.0.1"));
        assert!(!ip("0.0.0.0/0", "fd00::1"));
        assert!(ip("fd00::/64", "fd00::ffff:1"));
        assert!(!ip("fd00::/64", "fd00:0:0:1::1"));
        assert!(ip("fd00::7", "fd00::7"));
        let name =
            |pattern: &str, name: &str| AddressPattern::parse(pattern).unwrap().matches_name(name);
        assert!(name("db.Corp", "DB.corp."));
        assert!(!name("db.corp", "xdb.corp"));
        assert!(name("*.corp", "a.b.corp"));
        assert!(!name("*.corp", "corp"));
        assert!(!name("*.corp", ".corp"));
        assert!(!name("*.corp", "xcorp"));
        assert!(!name("10.0.0.1", "10.0.0.1"));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "*", "*.", "a..b", "10.0.0.0/33", "a b", "*.*.corp", "fd00::/129"] {
            assert!(AddressPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_bits_are_exchanged() {
        let prefix = IpPrefix::parse("10.1.0.0/16").unwrap();
        let onto = |address: &str, to: &str| {
            prefix.onto(address.parse().unwrap(), to.parse().unwrap()).map(|it| it.to_string())
        };
        assert_eq!(onto("10.1.2.3", "192.168.0.0").as_deref(), Some("192.168.2.3"));
        assert_eq!(onto("10.2.2.3", "192.168.0.0"), None);
        assert_eq!(onto("10.1.2.3", "fd00::"), None);
    }
}
