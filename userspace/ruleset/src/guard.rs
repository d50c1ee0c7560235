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

/// Lowers a zone's guard.
pub(crate) fn lower(
    zone: ZoneId,
    guard: &nightgate_config::Guard,
    sets: &BTreeMap<SetName, Set>,
) -> GuardImage {
    let entry = |prefix: &Prefix, list| {
        /// Bits before the IPv4 address in the mapped form.
        const V4_OFFSET: u32 = 96;
        let offset = if prefix.is_ipv4() { V4_OFFSET } else { 0 };
        (Address::from(prefix.address()), offset + u32::from(prefix.length()), list)
    };
    let [block, allow] = guard.prefixes(sets);
    let blocked = block.iter().map(|prefix| entry(prefix, list::BLOCK));
    let allowed = allow.iter().map(|prefix| entry(prefix, list::ALLOW));
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

/// A rate whose bucket holds what comes in a second.
fn rate(FlowRate { count, seconds }: FlowRate) -> Rate {
    /// Nanoseconds of a second.
    const SECOND: u64 = 1_000_000_000;
    Rate::new(count, u64::from(seconds) * SECOND, (count / seconds).max(1))
}
