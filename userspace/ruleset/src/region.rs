//! What a rule can match, as boxes in the space of all packets.

use nightgate_abi::{Address, Family};
use nightgate_config::{IcmpType, PortRange, Prefix, Protocol, Sense};

use crate::{compile::CompiledRule, entry::message_span, members::Members};

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

/// Regions of one rule at most; one with more combinations is described by what holds them all. Each combination takes
/// room in a bank as well.
const MOST: usize = 4_096;
/// Likewise for a rule that names sets or what must not be: in a bank all rules share a set.
const MOST_OF_SETS: usize = 64;
/// Regions of all those rules together.
const ALL_OF_SETS: usize = 200_000;

/// Describes rules by regions.
#[derive(Debug)]
pub(crate) struct Regions {
    /// Left of [`ALL_OF_SETS`].
    left: usize,
}

impl Regions {
    pub(crate) fn new() -> Self {
        Self { left: ALL_OF_SETS }
    }

    /// The regions of a rule. What narrows a rule and is not part of its regions makes them wider than the rule.
    pub(crate) fn of(&mut self, rule: &CompiledRule) -> (Vec<Region>, Fidelity) {
        let has_members = rule.source_members.is_some()
            || rule.destination_members.is_some()
            || rule.source_port_members.is_some()
            || rule.destination_port_members.is_some();
        if !has_members {
            return regions(rule, MOST);
        }
        let mut looser = rule.clone();
        let is_looser = [
            forget_large(&mut looser.source_members),
            forget_large(&mut looser.destination_members),
            forget_large(&mut looser.source_port_members),
            forget_large(&mut looser.destination_port_members),
        ];
        let (found, fidelity) = regions(&looser, MOST_OF_SETS.min(self.left));
        self.left = self.left.saturating_sub(found.len());
        let is_looser = is_looser.contains(&true);
        (found, if is_looser { Fidelity::Within } else { fidelity })
    }
}

/// Makes members that are many restrict nothing. Returns whether there were such.
fn forget_large<T>(members: &mut Option<Members<T>>) -> bool {
    let is_large = members.as_ref().is_some_and(|members| members.all.len() > 4 * MOST_OF_SETS);
    if is_large {
        *members = None;
    }
    is_large
}

fn regions(rule: &CompiledRule, most: usize) -> (Vec<Region>, Fidelity) {
    // Every field by name, so that a new one cannot be forgotten here.
    let CompiledRule {
        id: _,
        from,
        to,
        source,
        destination,
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
    let source_ports = ports(source_ports, source_port_members);
    let last = if icmp_types.is_empty() {
        ports(destination_ports, destination_port_members)
    } else {
        messages(icmp_types)
    };
    let protocols = protocol_range(*protocol);
    let mut regions = Vec::new();
    let mut is_exact = true;
    for family in families(*protocol) {
        let mut fields: [Vec<(u128, u128)>; RANGES - 1] = [
            addresses(source, source_members, family),
            addresses(destination, destination_members, family),
            source_ports.clone(),
            last.clone(),
        ];
        if fields.iter().map(Vec::len).product::<usize>() > most {
            is_exact = false;
            fields.iter_mut().for_each(hull);
        }
        let [sources, destinations, firsts, lasts] = &fields;
        for (source, destination) in pairs(sources, destinations) {
            for (first, last) in pairs(firsts, lasts) {
                let ranges = [source, destination, first, last, protocols];
                regions.push(Region { family, zones, ranges });
            }
        }
    }
    let is_narrowed = !tcp_flags.is_any() || !dscp.is_empty() || !source_mac.is_empty();
    let fidelity = match (is_exact, is_narrowed) {
        (true, false) => Fidelity::Exact,
        (true, true) => Fidelity::Narrowed,
        (false, _) => Fidelity::Within,
    };
    (regions, fidelity)
}

fn pairs(
    a: &[(u128, u128)],
    b: &[(u128, u128)],
) -> impl Iterator<Item = ((u128, u128), (u128, u128))> {
    a.iter().flat_map(|a| b.iter().map(|b| (*a, *b)))
}

/// Makes one range of many, with what is between them.
fn hull(ranges: &mut Vec<(u128, u128)>) {
    if let (Some((low, _)), Some((_, high))) = (ranges.first(), ranges.last()) {
        *ranges = vec![(*low, *high)];
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
        source_members: narrow.source_members.clone(),
        destination_members: narrow.destination_members.clone(),
        source_port_members: narrow.source_port_members.clone(),
        destination_port_members: narrow.destination_port_members.clone(),
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

/// The addresses of a family that a rule lists, or that its members allow, in ranges that do not meet.
fn addresses(
    list: &[Prefix],
    members: &Option<Members<Prefix>>,
    family: Family,
) -> Vec<(u128, u128)> {
    let width = match family {
        Family::V4 => 32,
        Family::V6 => 128,
    };
    let most = u128::MAX >> (128 - width);
    chosen(list, members, most, |prefix| {
        if prefix.is_ipv4() != (family == Family::V4) {
            return None;
        }
        let [high, low] = Address::from(prefix.address()).halves().map(u64::from_be);
        let first = (u128::from(high) << 64 | u128::from(low)) & most;
        let hosts = most.checked_shr(u32::from(prefix.length())).unwrap_or(0);
        Some((first, first | hosts))
    })
}

fn ports(list: &[PortRange], members: &Option<Members<PortRange>>) -> Vec<(u128, u128)> {
    let range = |ports: &PortRange| Some((ports.low().into(), ports.high().into()));
    chosen(list, members, u16::MAX.into(), range)
}

/// Messages in the place of destination ports, as the kernel programs compare them.
fn messages(messages: &[IcmpType]) -> Vec<(u128, u128)> {
    let range = |(first, span): (u16, u16)| (first.into(), (first + span).into());
    merged(messages.iter().map(|message| range(message_span(*message))).collect())
}

/// The values up to `most` that a list allows, which does not restrict if it is empty, or that members allow.
fn chosen<T>(
    list: &[T],
    members: &Option<Members<T>>,
    most: u128,
    range: impl Fn(&T) -> Option<(u128, u128)>,
) -> Vec<(u128, u128)> {
    match members {
        None if list.is_empty() => vec![(0, most)],
        None => merged(list.iter().filter_map(range).collect()),
        Some(members) => {
            let ranges = merged(members.all.iter().filter_map(range).collect());
            match members.membership.sense {
                Sense::In => ranges,
                Sense::NotIn => gaps(&ranges, most),
            }
        }
    }
}

/// The same values, in order, without ranges that overlap or touch.
fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            Some(_) | None => merged.push((low, high)),
        }
    }
    merged
}

/// The values up to `most` that merged ranges leave out.
fn gaps(ranges: &[(u128, u128)], most: u128) -> Vec<(u128, u128)> {
    let mut gaps = Vec::with_capacity(ranges.len() + 1);
    let mut next = Some(0);
    for (low, high) in ranges {
        gaps.extend(next.filter(|next| next < low).map(|next| (next, low - 1)));
        next = high.checked_add(1);
    }
    gaps.extend(next.filter(|next| *next <= most).map(|next| (next, most)));
    gaps
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
    fn ranges_that_touch_are_one_and_gaps_are_what_they_leave_out() {
        assert_eq!(merged(vec![(5, 6), (1, 2), (3, 4), (9, 9), (2, 3)]), [(1, 6), (9, 9)]);
        assert_eq!(gaps(&[(1, 6), (9, 9)], 9), [(0, 0), (7, 8)]);
        assert_eq!(gaps(&[], 9), [(0, 9)]);
        assert_eq!(gaps(&[(0, u128::MAX)], u128::MAX), []);
        let mut ranges = vec![(1, 6), (9, 9)];
        hull(&mut ranges);
        assert_eq!(ranges, [(1, 9)]);
    }

    #[test]
    fn a_prefix_holds_its_first_and_last_address() {
        let range = |address: &str, length, family| {
            let prefix = Prefix::new(address.parse().unwrap(), length).unwrap();
            addresses(&[prefix], &None, family)
        };
        assert_eq!(range("10.1.0.0", 16, Family::V4), [(0x0a01_0000, 0x0a01_ffff)]);
        assert_eq!(range("10.1.0.0", 16, Family::V6), []);
        let v6 = range("2001:db8::", 32, Family::V6)[0];
        assert_eq!((v6.0 >> 96, v6.1 - v6.0), (0x2001_0db8, u128::MAX >> 32));
        assert_eq!(range("::", 0, Family::V6), addresses(&[], &None, Family::V6));
    }
}
