//! Intercepted destinations to the kernel's table of them.

use std::collections::{BTreeMap, BTreeSet};

use nightgate_abi::{
    Address, Intercept, InterceptPorts, InterceptRange,
    intercept::{Bisection, door, is_before, position},
    limits,
};

/// A network, and ports of it, that a service intercepts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Destination {
    /// The network.
    pub network: Network,
    /// IP protocol number.
    pub protocol: u8,
    /// First and last port.
    pub ports: (u16, u16),
    /// What intercepts it.
    pub value: Intercept,
}

/// The addresses of a prefix, from the first to the last: as numbers, IPv4 addresses mapped into IPv6.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Network {
    first: u128,
    last: u128,
}

/// The table of intercepted destinations as the kernel holds it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct InterceptImage {
    ranges: Vec<InterceptRange>,
    ports: Vec<InterceptPorts>,
}

/// More destinations than the kernel's table takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "intercepted destinations: {found} stretches of {what}, expected at most {limit}; networks that lie in one \
     another count with the ports of all of them"
)]
pub struct TooManyDestinations {
    /// Addresses or ports.
    pub what: &'static str,
    /// How many there would be.
    pub found: usize,
    /// The limit.
    pub limit: usize,
}

impl Network {
    /// The addresses that share the first `length` bits of an address: at most 32 for IPv4, 128 for IPv6. More
    /// mean that address alone.
    pub fn new(address: std::net::IpAddr, length: u8) -> Self {
        let (bits, length) = match address {
            std::net::IpAddr::V4(_) => (32_u32, u32::from(length).min(32)),
            std::net::IpAddr::V6(_) => (128, u32::from(length).min(128)),
        };
        let hosts = 1_u128.checked_shl(bits - length).map_or(u128::MAX, |size| size - 1);
        let address = u128::from_be_bytes(Address::from(address).octets());
        Self { first: address & !hosts, last: address | hosts }
    }

    /// One address.
    pub fn host(address: std::net::IpAddr) -> Self {
        Self::new(address.to_canonical(), 128)
    }

    /// Whether it is one address.
    pub fn is_one(self) -> bool {
        self.first == self.last
    }

    /// Whether its addresses are IPv4.
    pub fn is_v4(self) -> bool {
        let mapped = Self { first: 0xffff_0000_0000, last: 0xffff_ffff_ffff };
        mapped.contains(self)
    }

    /// How many addresses there are, less one.
    fn size(self) -> u128 {
        self.last - self.first
    }

    /// Whether all of the other is in it.
    pub fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

impl InterceptImage {
    /// Makes the table of destinations. Where several cover the same address, protocol and port, the longest prefix
    /// has it, of equally long ones the one with the fewest ports, of these the one that is named first.
    ///
    /// # Errors
    /// There are too many.
    pub fn compile(destinations: &[Destination]) -> Result<Self, TooManyDestinations> {
        let mut image = Self::default();
        let networks: BTreeSet<Network> = destinations.iter().map(|d| d.network).collect();
        let mut by_network = BTreeMap::<Network, Vec<&Destination>>::new();
        for destination in destinations {
            by_network.entry(destination.network).or_default().push(destination);
        }
        let mut slices = BTreeMap::new();
        for (first, last, inside) in stretches(&networks) {
            let innermost = *inside.last().unwrap_or(&Network { first, last });
            let (ports_from, ports) = match slices.get(&innermost) {
                Some(slice) => *slice,
                None => {
                    let slice = image.add_ports(&inside, &by_network)?;
                    slices.insert(innermost, slice);
                    slice
                }
            };
            let [first, last] = [first, last].map(split);
            image.ranges.push(InterceptRange { first, last, ports_from, ports });
        }
        check("addresses", image.ranges.len(), limits::INTERCEPT_RANGES)?;
        Ok(image)
    }

    /// Adds the ports of networks that lie in one another, the widest first.
    fn add_ports(
        &mut self,
        inside: &[Network],
        by_network: &BTreeMap<Network, Vec<&Destination>>,
    ) -> Result<(u32, u32), TooManyDestinations> {
        let from = self.ports.len();
        let mut taken = BTreeMap::new();
        for network in inside.iter().rev() {
            let mut own = by_network.get(network).cloned().unwrap_or_default();
            // Stable, so that of equally many ports the one named first comes first.
            own.sort_by_key(|destination| destination.ports.1.saturating_sub(destination.ports.0));
            for destination in own {
                take(&mut taken, destination);
            }
        }
        self.ports.extend(taken.into_values());
        check("ports", self.ports.len(), limits::INTERCEPT_PORTS)?;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok((number(from), number(self.ports.len() - from)))
    }

    /// What intercepts a destination; [`Intercept::NONE`] if nothing does. The kernel takes the same steps.
    pub fn find(&self, protocol: u8, address: Address, port: u16) -> Intercept {
        let position = position(address);
        let count = u32::try_from(self.ranges.len()).unwrap_or(u32::MAX);
        let mut search = Bisection::among(0, count);
        while let Some(index) = search.wants() {
            search.narrow(index, is_before(self.ranges[index as usize].last, position));
        }
        let Some(range) = self.ranges.get(search.found() as usize) else { return Intercept::NONE };
        if is_before(position, range.first) {
            return Intercept::NONE;
        }
        let door = door(protocol, port);
        let mut search = Bisection::among(range.ports_from, range.ports);
        while let Some(index) = search.wants() {
            search.narrow(index, self.ports[index as usize].last < door);
        }
        let is_inside = search.found() < range.ports_from + range.ports;
        match self.ports.get(search.found() as usize) {
            Some(entry) if is_inside && entry.first <= door => entry.value,
            Some(_) | None => Intercept::NONE,
        }
    }

    /// Stretches of addresses, in their order.
    pub fn ranges(&self) -> &[InterceptRange] {
        &self.ranges
    }

    /// Stretches of ports: for each stretch of addresses those of a slice of them.
    pub fn ports(&self) -> &[InterceptPorts] {
        &self.ports
    }

    /// Tags of the services that have any part of the table, some more than once.
    pub fn services(&self) -> impl Iterator<Item = u32> {
        self.ports.iter().map(|entry| entry.value.service)
    }

    /// The table with mirror sessions, which a service's tag tells; 0 for none.
    #[must_use]
    pub fn with_sessions(mut self, session_of: impl Fn(u32) -> u16) -> Self {
        for entry in &mut self.ports {
            let service = entry.value.service;
            entry.value.mirror_session = session_of(service);
        }
        self
    }
}

fn check(what: &'static str, found: usize, limit: usize) -> Result<(), TooManyDestinations> {
    if found > limit { Err(TooManyDestinations { what, found, limit }) } else { Ok(()) }
}

/// The halves of a number, the higher first.
#[expect(clippy::cast_possible_truncation, reason = "takes the number apart")]
fn split(number: u128) -> [u64; 2] {
    [(number >> 64) as u64, number as u64]
}

/// Cuts networks, of which each lies in another or beside it, into stretches that are in the same networks: first
/// and last address, and those networks, the widest first.
fn stretches(networks: &BTreeSet<Network>) -> Vec<(u128, u128, Vec<Network>)> {
    let mut sorted: Vec<Network> = networks.iter().copied().collect();
    sorted.sort_by_key(|network| (network.first, std::cmp::Reverse(network.size())));
    let mut stretches = Vec::new();
    let mut open: Vec<Network> = Vec::new();
    // The first address that is in no stretch yet; none behind the last address of all.
    let mut next = Some(0_u128);
    let mut close = |open: &mut Vec<Network>, next: &mut Option<u128>, until: Option<u128>| {
        while let Some(innermost) = open.last().copied() {
            let ends_before = until.is_none_or(|until| innermost.last < until);
            let last = if ends_before {
                Some(innermost.last)
            } else {
                until.and_then(|u| u.checked_sub(1))
            };
            if let (Some(first), Some(last)) = (*next, last)
                && first <= last
            {
                stretches.push((first, last, open.clone()));
                *next = last.checked_add(1);
            }
            if !ends_before {
                return;
            }
            open.pop();
        }
    };
    for network in sorted {
        close(&mut open, &mut next, Some(network.first));
        debug_assert!(open.last().is_none_or(|outer| outer.contains(network)));
        next = Some(network.first);
        open.push(network);
    }
    close(&mut open, &mut next, None);
    stretches
}

/// Adds what nobody has of a destination's ports.
fn take(taken: &mut BTreeMap<u32, InterceptPorts>, destination: &Destination) {
    let (low, high) = destination.ports;
    if low > high {
        return;
    }
    let (mut first, last) = (door(destination.protocol, low), door(destination.protocol, high));
    let before =
        taken.range(..first).next_back().map_or(first, |(_, entry)| entry.last.max(first - 1) + 1);
    first = first.max(before);
    let others: Vec<(u32, u32)> = taken
        .range(first..)
        .take_while(|(start, _)| **start <= last)
        .map(|(s, e)| (*s, e.last))
        .collect();
    let value = destination.value;
    for (start, end) in others {
        if first < start {
            taken.insert(first, InterceptPorts { first, last: start - 1, value });
        }
        first = end + 1;
    }
    if first <= last {
        taken.insert(first, InterceptPorts { first, last, value });
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    const TCP: u8 = 6;
    const UDP: u8 = 17;

    #[test]
    fn networks_addresses_protocols_and_ports_are_told_apart() {
        let image = compile(&[
            ("10.0.0.0", 8, TCP, (80, 89), 1),
            ("10.1.2.3", 32, TCP, (85, 85), 2),
            ("10.1.2.3", 32, UDP, (53, 53), 3),
            ("fd00::", 64, UDP, (1, 65_535), 4),
            ("0.0.0.0", 0, TCP, (9, 9), 5),
        ]);
        for (protocol, address, port, service) in [
            (TCP, "10.0.0.0", 80, 1),
            (TCP, "10.255.255.255", 89, 1),
            (TCP, "10.1.2.3", 84, 1),
            (TCP, "10.1.2.3", 85, 2),
            (UDP, "10.1.2.3", 53, 3),
            (UDP, "10.1.2.3", 54, 0),
            (TCP, "11.0.0.0", 80, 0),
            (TCP, "255.255.255.255", 9, 5),
            (TCP, "10.1.2.3", 9, 5),
            (UDP, "fd00::1", 65_535, 4),
            (UDP, "fd00::1", 0, 0),
            (TCP, "fd00::1", 9, 0),
            (UDP, "fd00:0:0:1::", 9, 0),
        ] {
            assert_eq!(
                found(&image, protocol, address, port),
                service,
                "{protocol} {address}:{port}"
            );
        }
    }

    #[test]
    fn of_equal_networks_the_fewest_ports_count_and_then_the_first_named() {
        let image = compile(&[
            ("10.0.0.1", 32, TCP, (80, 90), 1),
            ("10.0.0.1", 32, TCP, (85, 86), 2),
            ("10.0.0.1", 32, TCP, (86, 87), 3),
        ]);
        let services = [84, 85, 86, 87, 88].map(|port| found(&image, TCP, "10.0.0.1", port));
        assert_eq!(services, [1, 2, 2, 3, 1]);
        assert_eq!(image.services().collect::<BTreeSet<_>>(), [1, 2, 3].into());
        let image = image.with_sessions(|service| u16::from(service == 2));
        let session =
            |port| image.find(TCP, IpAddr::from([10, 0, 0, 1]).into(), port).mirror_session;
        assert_eq!([84, 85].map(session), [0, 1]);
    }

    #[test]
    fn every_address_and_nothing_can_be_intercepted() {
        let image = compile(&[("::", 0, TCP, (0, 65_535), 1)]);
        assert_eq!(image.ranges().len(), 1);
        for address in ["::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "10.0.0.1"] {
            assert_eq!(found(&image, TCP, address, 7), 1);
        }
        assert_eq!(found(&InterceptImage::default(), TCP, "10.0.0.1", 7), 0);
    }

    #[test]
    fn inverted_ports_intercept_nothing() {
        assert_eq!(found(&compile(&[("10.0.0.1", 32, TCP, (90, 80), 1)]), TCP, "10.0.0.1", 85), 0);
    }

    proptest! {
        #[test]
        fn the_table_says_what_its_destinations_say(
            destinations in proptest::collection::vec(destination(), 0..12),
            asked in proptest::collection::vec((0_u8..16, 0_u16..9, any::<bool>()), 40),
        ) {
            let image = InterceptImage::compile(&destinations).unwrap();
            for (address, port, is_tcp) in asked {
                let address = IpAddr::from([10, 0, 0, address]);
                let protocol = if is_tcp { TCP } else { UDP };
                let point = Network::new(address, 32);
                let expected = destinations
                    .iter()
                    .filter(|d| d.network.contains(point) && d.protocol == protocol)
                    .filter(|d| (d.ports.0..=d.ports.1).contains(&port))
                    .min_by_key(|d| (d.network.size(), d.ports.1 - d.ports.0))
                    .map_or(Intercept::NONE, |d| d.value);
                prop_assert_eq!(image.find(protocol, address.into(), port), expected);
            }
        }
    }

    prop_compose! {
        fn destination()(
            address in 0_u8..16, length in 26_u8..=32, is_tcp in any::<bool>(),
            low in 0_u16..8, size in 0_u16..6, service in 1_u32..9,
        ) -> Destination {
            Destination {
                network: Network::new(IpAddr::from([10, 0, 0, address]), length),
                protocol: if is_tcp { TCP } else { UDP },
                ports: (low, low + size),
                value: Intercept::new(service, 0),
            }
        }
    }

    /// Network and length, protocol, ports, service.
    type Row = (&'static str, u8, u8, (u16, u16), u32);

    fn compile(list: &[Row]) -> InterceptImage {
        let destination = |(address, length, protocol, ports, service): &Row| Destination {
            network: Network::new(address.parse().unwrap(), *length),
            protocol: *protocol,
            ports: *ports,
            value: Intercept::new(*service, 0),
        };
        InterceptImage::compile(&list.iter().map(destination).collect::<Vec<_>>()).unwrap()
    }

    fn found(image: &InterceptImage, protocol: u8, address: &str, port: u16) -> u32 {
        let address: IpAddr = address.parse().unwrap();
        image.find(protocol, address.into(), port).service
    }
}
