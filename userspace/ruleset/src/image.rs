//! The rule set as the kernel reads it.

use std::collections::BTreeMap;

use nightgate_abi::{Address, Family, RuleEntry, Slot, ZoneId, rule::action};
use nightgate_config::{Action, PortRange, Prefix, Protocol, RuleId, ZoneName};

use crate::{
    compile::{CompiledRule, RuleSet, alternatives},
    forest,
};

/// What a commit writes: plain values, the same for the same rule set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MapImage {
    zones: BTreeMap<ZoneName, ZoneId>,
    rules: Vec<RuleId>,
    entries: Vec<RuleEntry>,
    slots: Vec<Slot>,
}

impl MapImage {
    /// Zones by name, the reserved ones included.
    pub fn zones(&self) -> &BTreeMap<ZoneName, ZoneId> {
        &self.zones
    }

    /// Names of the rules by their index in the bank.
    pub fn rules(&self) -> &[RuleId] {
        &self.rules
    }

    /// The entries of the rules in order.
    pub fn entries(&self) -> &[RuleEntry] {
        &self.entries
    }

    /// The bank: the entries in the leaves of trees.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

impl RuleSet {
    /// Lowers the rule set for the kernel.
    pub fn image(&self) -> MapImage {
        let entries: Vec<_> =
            self.rules().iter().zip(0..).flat_map(|(rule, index)| lower(rule, index)).collect();
        MapImage {
            zones: self.zones().clone(),
            rules: self.rules().iter().map(|rule| rule.id.clone()).collect(),
            slots: forest::compile(&entries),
            entries,
        }
    }
}

/// One entry for each combination of the rule's prefixes and port ranges.
fn lower(rule: &CompiledRule, index: u32) -> Vec<RuleEntry> {
    let mut entries = Vec::new();
    for (source, destination) in rule.prefix_pairs() {
        for source_ports in alternatives(&rule.source_ports) {
            for destination_ports in alternatives(&rule.destination_ports) {
                entries.push(entry(
                    rule,
                    index,
                    [source, destination],
                    [source_ports, destination_ports],
                ));
            }
        }
    }
    entries
}

fn entry(
    rule: &CompiledRule,
    index: u32,
    [source, destination]: [Option<Prefix>; 2],
    [source_ports, destination_ports]: [Option<PortRange>; 2],
) -> RuleEntry {
    let families = families(source) & families(destination);
    let (source, source_mask) = masked(source);
    let (destination, destination_mask) = masked(destination);
    let (source_port, source_port_span) = span(source_ports);
    let (destination_port, destination_port_span) = span(destination_ports);
    let (protocol, protocol_mask) = match rule.protocol {
        Protocol::Any => (0, 0),
        Protocol::Number(number) => (number, 0xff),
    };
    RuleEntry {
        from: rule.from.iter().fold(0, |set, zone| set | zone.bit()),
        to: rule.to.iter().fold(0, |set, zone| set | zone.bit()),
        source,
        source_mask,
        destination,
        destination_mask,
        source_port,
        source_port_span,
        destination_port,
        destination_port_span,
        protocol,
        protocol_mask,
        families,
        action: match rule.action {
            Action::Accept => action::ACCEPT,
            Action::Drop => action::DROP,
        },
        rule: index,
    }
}

/// The families a prefix allows.
fn families(prefix: Option<Prefix>) -> u8 {
    match prefix.map(|prefix| prefix.is_ipv4()) {
        None => Family::V4.bit() | Family::V6.bit(),
        Some(true) => Family::V4.bit(),
        Some(false) => Family::V6.bit(),
    }
}

/// A prefix and its mask over the mapped form of addresses.
fn masked(prefix: Option<Prefix>) -> ([u64; 2], [u64; 2]) {
    /// Bits before the IPv4 address in the mapped form.
    const V4_OFFSET: u32 = 96;
    let Some(prefix) = prefix else {
        return ([0; 2], [0; 2]);
    };
    let offset = if prefix.is_ipv4() { V4_OFFSET } else { 0 };
    let length = offset + u32::from(prefix.length());
    let mask = u128::MAX.checked_shl(u128::BITS - length).unwrap_or(0);
    (Address::from(prefix.address()).halves(), Address::from_v6(mask.to_be_bytes()).halves())
}

/// The lowest port of a range and its width.
fn span(ports: Option<PortRange>) -> (u16, u16) {
    ports.map_or((0, u16::MAX), |ports| (ports.low(), ports.high() - ports.low()))
}
