//! Synthetic addresses: each host name that may be dialed gets one address of each family, so that
//! the kernel can tell the names apart by destination address.

mod below;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nightgate_ruleset::Network;

use below::Layout;
pub use below::{Block, Domains};

/// A host name in the form names are compared in: lower case, without the dot at the end.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostName(String);

/// The synthetic addresses of one name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NameAddresses {
    /// Answer to an A query.
    pub v4: Ipv4Addr,
    /// Answer to an AAAA query.
    pub v6: Ipv6Addr,
}

/// The ranges that synthetic addresses come from: network address and prefix length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SyntheticRanges {
    /// IPv4 range.
    pub v4: (Ipv4Addr, u8),
    /// IPv6 range.
    pub v6: (Ipv6Addr, u8),
}

/// Which name has which synthetic addresses.
///
/// A name keeps its addresses for as long as it is wanted. Where the search for a free address starts
/// depends on the name alone, so a name usually has the same addresses after a restart, and the
/// addresses of a name that went are not the next to be given away.
#[derive(Clone, Debug)]
pub struct Names {
    v4: Pool,
    v6: Pool,
    assigned: BTreeMap<HostName, NameAddresses>,
    layout: Option<Layout>,
    below: SharedDomains,
    networks: [Network; 2],
}

/// The domains whose names get addresses when they are asked for.
#[derive(Clone, Debug, Default)]
pub struct SharedDomains(Arc<Mutex<Domains>>);

#[derive(Clone, Debug)]
struct Pool {
    first: u128,
    size: u128,
    used: BTreeSet<u128>,
}

/// Text that is no host name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "host name {0:?}: expected 1 to 253 letters, digits, hyphens, underscores and dots, \
     1 to 63 of them between two dots"
)]
pub struct HostNameError(String);

impl TryFrom<&str> for HostName {
    type Error = HostNameError;

    /// Limits of RFC 1035 section 2.3.4; underscores as they occur in practice (RFC 2181 section 11).
    fn try_from(text: &str) -> Result<Self, HostNameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let labels_fit = name
            .split('.')
            .all(|label| (1..=63).contains(&label.len()) && label.bytes().all(legal));
        if name.len() > 253 || !labels_fit {
            return Err(HostNameError(text.into()));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

impl HostName {
    /// The name's text, lower case, without the dot at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domains it is in, the longest first.
    pub fn parents(&self) -> impl Iterator<Item = Self> {
        let dots = self.0.match_indices('.');
        dots.map(|(dot, _)| Self(self.0[dot + 1..].to_owned()))
    }
}

impl std::fmt::Display for HostName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl NameAddresses {
    /// Both addresses.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        [IpAddr::V4(self.v4), IpAddr::V6(self.v6)].into_iter()
    }
}

impl SharedDomains {
    /// The domains, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Domains> {
        // Nothing that is done to them can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    /// Makes an empty table that assigns from `ranges`: names from the lower half, domains from the upper one, unless
    /// the ranges are too small for domains.
    pub fn new(ranges: SyntheticRanges) -> Self {
        let layout = Layout::of(ranges);
        let halved = u8::from(layout.is_some());
        let (v4, v4_length) = ranges.v4;
        let (v6, v6_length) = ranges.v6;
        let mask = |bits: u8| u128::MAX.checked_shl(bits.into()).unwrap_or(0);
        let (v4_bits, v6_bits) =
            (32_u8.saturating_sub(v4_length), 128_u8.saturating_sub(v6_length));
        Self {
            v4: Pool::new(
                u128::from(u32::from(v4)) & mask(v4_bits),
                v4_bits.saturating_sub(halved),
            ),
            v6: Pool::new(u128::from(v6) & mask(v6_bits), v6_bits.saturating_sub(halved)),
            assigned: BTreeMap::new(),
            layout,
            below: SharedDomains::default(),
            networks: [Network::new(v4.into(), v4_length), Network::new(v6.into(), v6_length)],
        }
    }

    /// The ranges.
    pub fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// As [`Names::assign`], for domains. Returns those for which no block of addresses was left.
    pub fn assign_domains(&mut self, wanted: &BTreeSet<HostName>) -> Vec<HostName> {
        self.below.lock().assign(self.layout.as_ref(), wanted)
    }

    /// The domains, which others may ask for names below them.
    pub fn below(&self) -> &SharedDomains {
        &self.below
    }

    /// Forgets the names that are not wanted any longer, then gives each new one its addresses.
    /// Returns the names for which no address was left.
    pub fn assign(&mut self, wanted: &BTreeSet<HostName>) -> Vec<HostName> {
        let Self { v4, v6, assigned, .. } = self;
        assigned.retain(|name, addresses| {
            let keep = wanted.contains(name);
            if !keep {
                v4.release(u128::from(u32::from(addresses.v4)));
                v6.release(u128::from(addresses.v6));
            }
            keep
        });
        let mut without = Vec::new();
        for name in wanted {
            if self.assigned.contains_key(name) {
                continue;
            }
            match self.take(name) {
                Some(addresses) => {
                    self.assigned.insert(name.clone(), addresses);
                }
                None => without.push(name.clone()),
            }
        }
        without
    }

    /// The addresses of a name that is wanted now.
    pub fn addresses(&self, name: &HostName) -> Option<NameAddresses> {
        self.assigned.get(name).copied()
    }

    fn take(&mut self, name: &HostName) -> Option<NameAddresses> {
        let start = fnv1a(name.as_str().as_bytes());
        let v4 = self.v4.take(start)?;
        let Some(v6) = self.v6.take(start) else {
            self.v4.release(v4);
            return None;
        };
        let v4 = u32::try_from(v4).ok().map(Ipv4Addr::from)?;
        Some(NameAddresses { v4, v6: Ipv6Addr::from(v6) })
    }
}

impl Pool {
    /// The addresses of a network of `host_bits` bits without the first (the subnet-router anycast
    /// address, RFC 4291 section 2.6.1) and the last (the broadcast address, RFC 919 section 7).
    fn new(network: u128, host_bits: u8) -> Self {
        let addresses = 1_u128.checked_shl(u32::from(host_bits)).unwrap_or(0);
        let network = network & !addresses.wrapping_sub(1);
        Self { first: network + 1, size: addresses.saturating_sub(2), used: BTreeSet::new() }
    }

    fn take(&mut self, start: u64) -> Option<u128> {
        if self.used.len() as u128 >= self.size {
            return None;
        }
        let start = u128::from(start) % self.size;
        let address = (0..self.size)
            .map(|step| self.first + (start + step) % self.size)
            .find(|address| !self.used.contains(address))?;
        self.used.insert(address);
        Some(address)
    }

    fn release(&mut self, address: u128) {
        self.used.remove(&address);
    }
}

/// FNV-1a, 64 bits: offset basis and prime of draft-eastlake-fnv section 5.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gets_an_address_of_each_range() {
        let mut names = Names::new(ranges(10, 64));

        assert_eq!(names.assign(&set(&["web.example"])), []);

        let addresses = names.addresses(&name("web.example")).unwrap();
        assert_eq!(addresses.v4.octets()[0], 100);
        assert!((64..96).contains(&addresses.v4.octets()[1]), "{addresses:?}");
        assert_eq!(addresses.v6.segments()[..4], [0xfd64, 0x6e67, 0, 0]);
    }

    #[test]
    fn a_name_keeps_its_addresses_while_others_come_and_go() {
        let mut names = Names::new(ranges(28, 64));
        names.assign(&set(&["a", "b", "c"]));
        let before = names.addresses(&name("b"));

        names.assign(&set(&["b"]));
        names.assign(&set(&["b", "d", "e", "f"]));

        assert_eq!(names.addresses(&name("b")), before);
        assert_eq!(names.addresses(&name("a")), None);
    }

    #[test]
    fn a_name_has_the_same_addresses_in_another_table() {
        let mut one = Names::new(ranges(10, 64));
        let mut other = Names::new(ranges(10, 64));
        one.assign(&set(&["x", "web.example"]));
        other.assign(&set(&["web.example"]));

        let web = name("web.example");
        assert_eq!(one.addresses(&web), other.addresses(&web));
    }

    #[test]
    fn a_full_range_refuses_and_serves_again_after_a_release() {
        let mut names = Names::new(ranges(30, 64));

        assert_eq!(names.assign(&set(&["a", "b", "c"])), [name("c")]);
        assert_eq!(names.assign(&set(&["b", "c"])), []);

        let b = names.addresses(&name("b")).unwrap();
        let c = names.addresses(&name("c")).unwrap();
        assert_ne!(b.v4, c.v4);
        assert_ne!(b.v6, c.v6);
        for v4 in [b.v4, c.v4] {
            assert!(matches!(v4.octets()[3], 1 | 2), "network or broadcast address {v4}");
        }
    }

    #[test]
    fn a_range_without_room_serves_nothing_and_does_not_panic() {
        for (v4, v6) in [(31, 64), (32, 64), (10, 127), (10, 128)] {
            assert_eq!(Names::new(ranges(v4, v6)).assign(&set(&["a"])), [name("a")]);
        }
    }

    #[test]
    fn names_are_compared_in_lower_case_without_the_last_dot() {
        assert_eq!(name("Web.Example."), name("web.example"));
        for wrong in ["", ".", "a..b", "*.example", "a b", "ü.example", &"a".repeat(64)] {
            assert!(HostName::try_from(wrong).is_err(), "{wrong:?}");
        }
        assert!(HostName::try_from(vec!["a".repeat(50); 6].join(".").as_str()).is_err());
    }

    fn ranges(v4_length: u8, v6_length: u8) -> SyntheticRanges {
        SyntheticRanges {
            v4: (Ipv4Addr::new(100, 64, 0, 0), v4_length),
            v6: (Ipv6Addr::new(0xfd64, 0x6e67, 0, 0, 0, 0, 0, 0), v6_length),
        }
    }

    fn set(names: &[&str]) -> BTreeSet<HostName> {
        names.iter().map(|text| name(text)).collect()
    }

    fn name(text: &str) -> HostName {
        HostName::try_from(text).unwrap()
    }
}
