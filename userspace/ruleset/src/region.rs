//! What a rule can match, as boxes in the space of all packets.

use nightgate_abi::{Address, Family};
use nightgate_config::{IcmpType, PortRange, Prefix, Protocol};

use crate::{
    compile::{CompiledRule, alternatives},
    entry::message_span,
};

/// Dimensions of [`Region::ranges`]: source, destination, source port, destination port or ICMP
/// message, protocol.
pub(crate) const RANGES: usize = 5;

/// A box: packets of one family, between sets of zones, with a range of values in every other field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Region {
    family: Family,
    /// Sets of zones of origin and destination, by [`nightgate_abi::ZoneId::bit`].
    zones: [u64; 2],
    /// Lowest and highest value by dimension.
    ranges: [(u128, u128); RANGES],
}

/// How well the regions of a rule describe it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fidelity {
    /// It matches everything in its regions.
    Exact,
    /// It matches in its regions what other conditions allow besides: see [`allows`].
    Narrowed,
    /// It matches nothing outside of its regions, but not everything inside.
    Within,
}

/// Regions of one rule at most; one with more combinations is described by what holds them all.
const MOST: usize = 4_096;

/// The regions of a rule. What narrows a rule and is not part of its regions makes them wider than the rule.
pub(crate) fn regions(rule: &CompiledRule) -> (Vec<Region>, Fidelity) {
    // Every field by name, so that a new one cannot be forgotten here.
    let CompiledRule {
        id: _,
        from,
        to,
        source: _,
        destination: _,
        protocol,
        source_ports,
        destination_ports,
        source_members,
        destination_members,
        source_port_members,
        destination_port_members,
        icmp_types,
        tcp_flags,
        dscp,
        source_mac,
        action: _,
        limit: _,
        connections: _,
        log: _,
    } = rule;
    let zones = [from, to].map(|zones| zones.iter().fold(0, |set, zone| set | zone.bit()));
    let mut regions = Vec::new();
    for family in families(*protocol) {
        for (source, destination) in rule.prefix_pairs() {
            let [Some(source), Some(destination)] =
                [source, destination].map(|prefix| addresses(prefix, family))
            else {
                continue;
            };
            for source_ports in alternatives(source_ports) {
                for last in messages_or_ports(icmp_types, destination_ports) {
                    let first = ports(source_ports);
                    let ranges = [source, destination, first, last, protocol_range(*protocol)];
                    regions.push(Region { family, zones, ranges });
                }
            }
        }
    }
    let has_members = source_members.is_some()
        || destination_members.is_some()
        || source_port_members.is_some()
        || destination_port_members.is_some();
    let is_narrowed = !tcp_flags.is_any() || !dscp.is_empty() || !source_mac.is_empty();
    match (regions.len() <= MOST, is_narrowed) {
        (true, _) if has_members => (regions, Fidelity::Within),
        (true, false) => (regions, Fidelity::Exact),
        (true, true) => (regions, Fidelity::Narrowed),
        (false, _) => (hulls(&regions), Fidelity::Within),
    }
}

/// Whether the conditions of `wide` that are not part of regions hold for every packet for which those of
/// `narrow` do. What is not known to be looser here has to be the same.
pub(crate) fn allows(wide: &CompiledRule, narrow: &CompiledRule) -> bool {
    let mut looser = CompiledRule {
        // Described by regions, or no condition.
        id: narrow.id.clone(),
        from: narrow.from.clone(),
        to: narrow.to.clone(),
        source: narrow.source.clone(),
        destination: narrow.destination.clone(),
        protocol: narrow.protocol,
        source_ports: narrow.source_ports.clone(),
        destination_ports: narrow.destination_ports.clone(),
        icmp_types: narrow.icmp_types.clone(),
        action: narrow.action,
        limit: narrow.limit,
        connections: narrow.connections,
        ..wide.clone()
    };
    if wide.tcp_flags.is_any() {
        looser.tcp_flags = narrow.tcp_flags;
    }
    if wide.dscp.is_empty() || (!narrow.dscp.is_empty() && narrow.dscp.is_subset(&wide.dscp)) {
        looser.dscp.clone_from(&narrow.dscp);
    }
    let is_in_wide = |mac| wide.source_mac.contains(mac);
    if wide.source_mac.is_empty()
        || (!narrow.source_mac.is_empty() && narrow.source_mac.iter().all(is_in_wide))
    {
        looser.source_mac.clone_from(&narrow.source_mac);
    }
    looser == *narrow
}

/// One region for each family, around all regions of a rule.
fn hulls(regions: &[Region]) -> Vec<Region> {
    let of_family = |family| {
        let mut members = regions.iter().filter(|region| region.family == family);
        let first = *members.next()?;
        Some(members.fold(first, |mut hull, region| {
            for (wide, range) in hull.ranges.iter_mut().zip(region.ranges) {
                *wide = (wide.0.min(range.0), wide.1.max(range.1));
            }
            hull
        }))
    };
    [Family::V4, Family::V6].into_iter().filter_map(of_family).collect()
}

impl Region {
    /// The range in a dimension.
    pub(crate) fn range(&self, dimension: usize) -> (u128, u128) {
        self.ranges[dimension]
    }

    /// Whether a packet can be in both.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.family == other.family
            && self.zones[0] & other.zones[0] != 0
            && self.zones[1] & other.zones[1] != 0
            && self.ranges.iter().zip(&other.ranges).all(|(a, b)| a.0 <= b.1 && b.0 <= a.1)
    }

    /// Whether every packet in `other` is in this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.family == other.family
            && other.zones[0] & !self.zones[0] == 0
            && other.zones[1] & !self.zones[1] == 0
            && self.ranges.iter().zip(&other.ranges).all(|(a, b)| a.0 <= b.0 && b.1 <= a.1)
    }

    /// What is left of this one without `other`: boxes that do not meet.
    pub(crate) fn without(&self, other: &Self) -> Vec<Self> {
        if !self.meets(other) {
            return vec![*self];
        }
        let mut left = Vec::new();
        let mut rest = *self;
        for side in 0..2 {
            let outside = rest.zones[side] & !other.zones[side];
            if outside != 0 {
                let mut part = rest;
                part.zones[side] = outside;
                left.push(part);
                rest.zones[side] &= other.zones[side];
            }
        }
        for dimension in 0..RANGES {
            let (low, high) = rest.ranges[dimension];
            let (other_low, other_high) = other.ranges[dimension];
            if low < other_low {
                let mut part = rest;
                part.ranges[dimension] = (low, other_low - 1);
                left.push(part);
            }
            if other_high < high {
                let mut part = rest;
                part.ranges[dimension] = (other_high + 1, high);
                left.push(part);
            }
            rest.ranges[dimension] = (low.max(other_low), high.min(other_high));
        }
        left
    }
}

/// Families in which a protocol occurs.
fn families(protocol: Protocol) -> Vec<Family> {
    match protocol {
        Protocol::ICMP => vec![Family::V4],
        Protocol::ICMPV6 => vec![Family::V6],
        Protocol::Any | Protocol::Number(_) => vec![Family::V4, Family::V6],
    }
}

/// The addresses of a prefix; `None` if it is of the other family.
fn addresses(prefix: Option<Prefix>, family: Family) -> Option<(u128, u128)> {
    let width = match family {
        Family::V4 => 32,
        Family::V6 => 128,
    };
    let most = u128::MAX >> (128 - width);
    let Some(prefix) = prefix else { return Some((0, most)) };
    if prefix.is_ipv4() != (family == Family::V4) {
        return None;
    }
    let [high, low] = Address::from(prefix.address()).halves().map(u64::from_be);
    let first = (u128::from(high) << 64 | u128::from(low)) & most;
    let hosts = most.checked_shr(u32::from(prefix.length())).unwrap_or(0);
    Some((first, first | hosts))
}

/// The ranges of destination ports; of messages where there are any, as the kernel programs compare them.
fn messages_or_ports(messages: &[IcmpType], ports: &[PortRange]) -> Vec<(u128, u128)> {
    if messages.is_empty() {
        return alternatives(ports).into_iter().map(self::ports).collect();
    }
    let range = |(first, span): (u16, u16)| (first.into(), (first + span).into());
    messages.iter().map(|message| range(message_span(*message))).collect()
}

fn ports(range: Option<PortRange>) -> (u128, u128) {
    let (low, high) = range.map_or((0, u16::MAX), |range| (range.low(), range.high()));
    (low.into(), high.into())
}

fn protocol_range(protocol: Protocol) -> (u128, u128) {
    match protocol {
        Protocol::Any => (0, u128::from(u8::MAX)),
        Protocol::Number(number) => (number.into(), number.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(zones: [u64; 2], source: (u128, u128), port: (u128, u128)) -> Region {
        let all = (0, u128::from(u32::MAX));
        Region { family: Family::V4, zones, ranges: [source, all, (0, 9), port, (6, 6)] }
    }

    #[test]
    fn what_is_left_is_what_was_there_less_what_was_taken() {
        let whole = region([0b1110, 0b110], (10, 20), (0, 100));
        let taken = region([0b0110, 0b100], (12, 30), (50, 60));
        let left = whole.without(&taken);

        for (index, part) in left.iter().enumerate() {
            assert!(whole.covers(part) && !part.meets(&taken), "{part:?}");
            assert!(left[..index].iter().all(|other| !other.meets(part)), "{part:?}");
        }
        let size = |part: &Region| -> u128 {
            let zones = part.zones.iter().map(|set| u128::from(set.count_ones()));
            let ranges = part.ranges.iter().map(|(low, high)| high - low + 1);
            zones.chain(ranges).product()
        };
        let both = region([0b0110, 0b100], (12, 20), (50, 60));
        assert_eq!(left.iter().map(size).sum::<u128>(), size(&whole) - size(&both));
        assert_eq!(whole.without(&whole), []);
        assert_eq!(taken.without(&region([8, 8], (0, 1), (0, 1))), [taken]);
    }

    #[test]
    fn very_many_regions_become_one_around_them() {
        let [low, high] = [(5, 6), (9, 20)].map(|source| region([2, 2], source, (1, 2)));
        assert_eq!(hulls(&[low, high]), [region([2, 2], (5, 20), (1, 2))]);
    }

    #[test]
    fn a_prefix_holds_its_first_and_last_address() {
        let prefix = |address: &str, length| Prefix::new(address.parse().unwrap(), length);
        let v4 = addresses(prefix("10.1.0.0", 16), Family::V4);
        assert_eq!(v4, Some((0x0a01_0000, 0x0a01_ffff)));
        assert_eq!(addresses(prefix("10.1.0.0", 16), Family::V6), None);
        let v6 = addresses(prefix("2001:db8::", 32), Family::V6).unwrap();
        assert_eq!((v6.0 >> 96, v6.1 - v6.0), (0x2001_0db8, u128::MAX >> 32));
        assert_eq!(addresses(prefix("::", 0), Family::V6), addresses(None, Family::V6));
    }
}
