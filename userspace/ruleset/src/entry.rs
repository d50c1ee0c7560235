//! Rules as the entries that the kernel compares packets with.

use std::collections::HashMap;

use nightgate_abi::{
    Address, Extension, Facts, Family, Refusal, RuleEntry,
    rule::{self, action},
    set::{MEMBERS, Sense},
};
use nightgate_config::{Action, Answer, IcmpType, Log, MacAddress, PortRange, Prefix, Protocol};

use crate::{
    bounds::{self, Bound},
    compile::{CompiledRule, alternatives},
    members::Members,
};

/// One combination of what a rule's lists hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What is looked at first.
    pub rule: RuleEntry,
    /// What is looked at if that matches; `None` for nothing. Its sets are in `sets`.
    pub extension: Option<Extension>,
    /// Sets of the image by index, by [`nightgate_abi::set::Member`].
    pub sets: [Option<(usize, Sense)>; MEMBERS as usize],
}

/// The sets that the entries name.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    /// Index by the place of what rules share.
    known: HashMap<usize, usize>,
    pub(crate) bounds: Vec<Vec<Bound>>,
}

impl Sets {
    fn of<T>(
        &mut self,
        members: Option<&Members<T>>,
        bounds: impl Fn(&[T]) -> Vec<Bound>,
    ) -> Option<(usize, Sense)> {
        let Members { membership, all } = members?;
        let index = *self.known.entry(all.as_ptr().addr()).or_insert_with(|| {
            self.bounds.push(bounds(all));
            self.bounds.len() - 1
        });
        let sense = match membership.sense {
            nightgate_config::Sense::In => Sense::In,
            nightgate_config::Sense::NotIn => Sense::NotIn,
        };
        Some((index, sense))
    }

    fn of_rule(&mut self, rule: &CompiledRule) -> [Option<(usize, Sense)>; MEMBERS as usize] {
        [
            self.of(rule.source_members.as_ref(), bounds::of_addresses),
            self.of(rule.destination_members.as_ref(), bounds::of_addresses),
            self.of(rule.source_port_members.as_ref(), bounds::of_ports),
            self.of(rule.destination_port_members.as_ref(), bounds::of_ports),
        ]
    }
}

impl Entry {
    /// Whether a packet that [`Entry::rule`] matches needs no further look.
    pub(crate) fn decides_alone(&self) -> bool {
        self.extension.is_none() && self.rule.action != action::COUNT
    }
}

impl From<RuleEntry> for Entry {
    fn from(rule: RuleEntry) -> Self {
        Self { rule, extension: None, sets: [None; MEMBERS as usize] }
    }
}

/// What an entry takes of a rule's lists; `None` of an empty one.
#[derive(Clone, Copy)]
struct Choice {
    source: Option<Prefix>,
    destination: Option<Prefix>,
    source_ports: Option<PortRange>,
    destination_ports: Option<PortRange>,
    icmp_type: Option<IcmpType>,
    source_mac: Option<MacAddress>,
}

/// One entry for each combination of what the rule's lists hold.
pub(crate) fn entries(rule: &CompiledRule, index: u32, sets: &mut Sets) -> Vec<Entry> {
    let sets = sets.of_rule(rule);
    choices(rule)
        .into_iter()
        .map(|choice| {
            let extension = extension(rule, &choice);
            let has_set = sets.iter().any(Option::is_some);
            let extension = (has_set || extension != Extension::ANY).then_some(extension);
            Entry { rule: entry(rule, index, &choice), extension, sets }
        })
        .collect()
}

fn choices(rule: &CompiledRule) -> Vec<Choice> {
    let mut choices = Vec::new();
    for (source, destination) in rule.prefix_pairs() {
        for source_ports in alternatives(&rule.source_ports) {
            for destination_ports in alternatives(&rule.destination_ports) {
                for icmp_type in alternatives(&rule.icmp_types) {
                    choices.extend(alternatives(&rule.source_mac).into_iter().map(|source_mac| {
                        let ports = (source_ports, destination_ports);
                        let (source_ports, destination_ports) = ports;
                        Choice {
                            source,
                            destination,
                            source_ports,
                            destination_ports,
                            icmp_type,
                            source_mac,
                        }
                    }));
                }
            }
        }
    }
    choices
}

fn entry(rule: &CompiledRule, index: u32, choice: &Choice) -> RuleEntry {
    let (source, source_mask) = masked(choice.source);
    let (destination, destination_mask) = masked(choice.destination);
    let (source_port, source_port_span) = span(choice.source_ports);
    let (destination_port, destination_port_span) = match choice.icmp_type {
        Some(message) => message_span(message),
        None => span(choice.destination_ports),
    };
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
        families: families(choice.source) & families(choice.destination),
        action: lower_action(rule.action) | lower_log(rule.log),
        rule: index,
    }
}

fn lower_log(log: Log) -> u8 {
    match log {
        Log::No => 0,
        Log::Yes => rule::LOG,
    }
}

fn lower_action(action: Action) -> u8 {
    let answer = match action {
        Action::Accept => return action::ACCEPT,
        Action::Drop => return action::DROP,
        Action::Count => return action::COUNT,
        Action::Reject(answer) => answer,
    };
    let refusal = match answer {
        Answer::Fitting => Refusal::Fitting,
        Answer::Reset => Refusal::Reset,
        Answer::PortUnreachable => Refusal::PortUnreachable,
        Answer::HostUnreachable => Refusal::HostUnreachable,
        Answer::NetworkUnreachable => Refusal::NetworkUnreachable,
        Answer::Prohibited => Refusal::Prohibited,
    };
    refusal.action()
}

/// What has no room in the entry.
fn extension(rule: &CompiledRule, choice: &Choice) -> Extension {
    let mac = choice.source_mac.map(MacAddress::octets);
    let mac_mask = if mac.is_some() { [0xff; 6] } else { [0; 6] };
    let flags = rule.tcp_flags;
    Extension {
        facts: Facts::new(mac.unwrap_or_default(), flags.value(), 0).word(),
        facts_mask: Facts::new(mac_mask, flags.mask(), 0).word(),
        dscp: if rule.dscp.is_empty() {
            u64::MAX
        } else {
            rule.dscp.iter().fold(0, |set, dscp| set | 1 << dscp.number())
        },
        ..Extension::ANY
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

/// The range of messages of a type, as [`nightgate_abi::rule::Subject::destination_port`] has them.
pub(crate) fn message_span(message: IcmpType) -> (u16, u16) {
    let first = u16::from_be_bytes([message.kind, message.code.unwrap_or(0)]);
    (first, if message.code.is_some() { 0 } else { 0xff })
}
