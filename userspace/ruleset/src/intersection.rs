//! What two filters have in common.

use std::collections::BTreeSet;

use nightgate_config::{IcmpType, PortRange, Prefix, Protocol};

use crate::compile::CompiledRule;

/// The flows that both rules match, as the first rule with tighter bounds; `None` if there are none. Of the rules, what
/// filters say counts: zones, prefixes, protocol, ports, messages and MAC addresses.
pub(crate) fn intersection(rule: &CompiledRule, other: &CompiledRule) -> Option<CompiledRule> {
    let protocol = match (rule.protocol, other.protocol) {
        (Protocol::Any, protocol) | (protocol, Protocol::Any) => protocol,
        (protocol, same) if protocol == same => protocol,
        _ => return None,
    };
    Some(CompiledRule {
        from: common_zones(&rule.from, &other.from)?,
        to: common_zones(&rule.to, &other.to)?,
        source: common(&rule.source, &other.source, inner_prefix)?,
        destination: common(&rule.destination, &other.destination, inner_prefix)?,
        protocol,
        source_ports: common(&rule.source_ports, &other.source_ports, inner_ports)?,
        destination_ports: common(&rule.destination_ports, &other.destination_ports, inner_ports)?,
        icmp_types: common(&rule.icmp_types, &other.icmp_types, inner_message)?,
        source_mac: common(&rule.source_mac, &other.source_mac, same)?,
        ..rule.clone()
    })
}

/// As [`common`].
fn common_zones<T: Clone + Ord>(one: &BTreeSet<T>, other: &BTreeSet<T>) -> Option<BTreeSet<T>> {
    match (one.is_empty(), other.is_empty()) {
        (_, true) => Some(one.clone()),
        (true, false) => Some(other.clone()),
        (false, false) => {
            let both: BTreeSet<T> = one.intersection(other).cloned().collect();
            (!both.is_empty()).then_some(both)
        }
    }
}

/// What is in both lists; an empty one restricts nothing. `None` if nothing is.
fn common<T: Copy + PartialEq>(
    one: &[T],
    other: &[T],
    inner: impl Fn(T, T) -> Option<T>,
) -> Option<Vec<T>> {
    if one.is_empty() || other.is_empty() {
        return Some([one, other].concat());
    }
    let mut both = Vec::new();
    for (a, b) in one.iter().flat_map(|a| other.iter().map(|b| (*a, *b))) {
        if let Some(found) = inner(a, b)
            && !both.contains(&found)
        {
            both.push(found);
        }
    }
    (!both.is_empty()).then_some(both)
}

/// Prefixes have nothing in common, or one is in the other.
fn inner_prefix(one: Prefix, other: Prefix) -> Option<Prefix> {
    let (outer, inner) = if one.length() <= other.length() { (one, other) } else { (other, one) };
    outer.contains(inner.address()).then_some(inner)
}

fn same<T: PartialEq>(one: T, other: T) -> Option<T> {
    (one == other).then_some(one)
}

/// A message without a code stands for all of its type.
fn inner_message(one: IcmpType, other: IcmpType) -> Option<IcmpType> {
    let code = match (one.code, other.code) {
        (None, code) | (code, None) => code,
        (code, same) if code == same => code,
        _ => return None,
    };
    (one.kind == other.kind).then_some(IcmpType { code, ..one })
}

fn inner_ports(one: PortRange, other: PortRange) -> Option<PortRange> {
    PortRange::new(one.low().max(other.low()), one.high().min(other.high()))
}
