//! What zones guard themselves against, as the kernel reads it.

use std::collections::BTreeMap;

use nightgate_abi::{
    Address, Rate, ZoneId,
    guard::{Flood, Guard, list},
};
use nightgate_config::{FlowRate, Prefix, Set, SetName};

/// A zone's guard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GuardImage {
    /// The zone.
    pub zone: ZoneId,
    /// Floods.
    pub guard: Guard,
    /// Prefixes by the mapped form of their addresses, their length in it, and [`list`].
    pub prefixes: Vec<(Address, u32, u8)>,
}

impl GuardImage {
    /// Whether it refuses all that a source sends: of the prefixes that hold it, the longest blocks.
    pub fn blocks(&self, source: Address) -> bool {
        let bits = |address: Address| u128::from_be_bytes(address.octets());
        let holds = |(prefix, length, _): &&(Address, u32, u8)| {
            let hosts = u128::BITS - length;
            (bits(*prefix) ^ bits(source)).checked_shr(hosts).unwrap_or(0) == 0
        };
        let longest = self.prefixes.iter().filter(holds).max_by_key(|(_, length, _)| *length);
        longest.is_some_and(|(_, _, list)| *list == list::BLOCK)
    }
}

/// Lowers a zone's guard.
pub(crate) fn lower(
    zone: ZoneId,
    guard: &nightgate_config::Guard,
    sets: &BTreeMap<SetName, Set>,
) -> GuardImage {
    let entries = |prefix: Prefix, list| {
        mapped(prefix).into_iter().map(move |(address, length)| (address, length, list))
    };
    let [block, allow] = guard.prefixes(sets);
    let blocked = block.into_iter().flat_map(|prefix| entries(prefix, list::BLOCK));
    let allowed = allow.into_iter().flat_map(|prefix| entries(prefix, list::ALLOW));
    let prefixes: Vec<_> = blocked.chain(allowed).collect();
    let floods = [
        (Flood::Syn, guard.flood.syn),
        (Flood::Udp, guard.flood.udp),
        (Flood::Icmp, guard.flood.icmp),
    ];
    let lowered = Guard { prefixes: u32::from(!prefixes.is_empty()), ..Guard::default() };
    let lowered = floods.into_iter().fold(lowered, |guard, (flood, limit)| match limit {
        Some(limit) => guard.with_rate(flood, rate(limit)),
        None => guard,
    });
    GuardImage { zone, guard: lowered, prefixes }
}

/// A prefix in the mapped form, as addresses and lengths: one, or those that lie in an IPv6 prefix beside the IPv4
/// addresses, which it does not hold.
fn mapped(prefix: Prefix) -> Vec<(Address, u32)> {
    /// Bits before the IPv4 address in the mapped form.
    const V4_OFFSET: u32 = 96;
    /// The first IPv4 address in the mapped form.
    const V4: u128 = 0xffff << 32;
    let length = u32::from(prefix.length());
    let address = Address::from(prefix.address());
    if prefix.is_ipv4() {
        return vec![(address, V4_OFFSET + length)];
    }
    let first = u128::from_be_bytes(address.octets());
    let last = first | u128::MAX.checked_shr(length).unwrap_or(0);
    if length > V4_OFFSET || V4 < first || last < V4 {
        return vec![(address, length)];
    }
    // For each length in between, the half in which they are not.
    let beside = |length: u32| {
        let bit = 1 << (u128::BITS - length);
        let half = (V4 ^ bit) & !(bit - 1);
        (Address::from_v6(half.to_be_bytes()), length)
    };
    (length + 1..=V4_OFFSET).map(beside).collect()
}

/// A rate whose bucket holds what comes in a second.
fn rate(FlowRate { count, seconds }: FlowRate) -> Rate {
    /// Nanoseconds of a second.
    const SECOND: u64 = 1_000_000_000;
    Rate::new(count, u64::from(seconds) * SECOND, (count / seconds).max(1))
}

#[cfg(test)]
mod tests {
    use nightgate_config::parse;

    use super::*;

    #[test]
    fn of_two_prefixes_the_longer_decides_and_no_ipv6_prefix_holds_ipv4() {
        let guard = guard(
            "block: ['::/0', 192.0.2.0/24, 198.51.100.0/24], allow: ['2001:db8::/32', 192.0.2.7]",
        );
        for (source, expected) in [
            ("192.0.2.6", true),
            ("192.0.2.7", false),
            ("203.0.113.1", false),
            ("0.0.0.0", false),
            ("::2", true),
            ("::fffe:ffff:ffff", true),
            ("::1:0:0:0", true),
            ("8000::1", true),
            ("ffff::", true),
            ("2001:db8::1", false),
            ("2001:db9::1", true),
        ] {
            let address: std::net::IpAddr = source.parse().unwrap();
            assert_eq!(guard.blocks(address.into()), expected, "{source}");
        }
    }

    #[test]
    fn every_prefix_around_the_ipv4_addresses_leaves_them_out() {
        for length in [0, 1, 64, 80, 95, 96] {
            let address = if length == 96 { "::ffff:0:0" } else { "::" };
            let address: std::net::IpAddr = address.parse().unwrap();
            let prefix = Prefix::new(address, length).unwrap();
            assert_eq!(mapped(prefix).len(), 96 - usize::from(length), "{prefix}");
        }
        let prefix = |text: &str, length| Prefix::new(text.parse().unwrap(), length).unwrap();
        assert_eq!(mapped(prefix("::", 97)).len(), 1);
        assert_eq!(mapped(prefix("0.0.0.0", 0)), [(Address::from_v4([0; 4]), 96)]);
    }

    fn guard(keys: &str) -> GuardImage {
        let text = format!(
            "version: 1\nrouter: {{ identity: a }}\nzones: {{ wan: {{ interfaces: [w], {keys} }} }}\n"
        );
        let gateway = parse(&text, "gw.yaml").unwrap().gateway.unwrap();
        crate::compile(&gateway).unwrap().guards()[0].clone()
    }
}
