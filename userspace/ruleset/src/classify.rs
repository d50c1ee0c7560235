//! What the rules mean: the reference that the kernel's classifier is tested against.

use std::net::IpAddr;

use nightgate_abi::ZoneId;
use nightgate_config::{Action, PortRange, Prefix, Protocol};
use nightgate_packet::PacketMeta;

use crate::compile::{CompiledRule, RuleSet};

/// What a rule set says about the first packet of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The rule with this index accepts it.
    Accept(usize),
    /// The rule with this index refuses it.
    Drop(usize),
    /// No rule matches, so it is refused.
    NoRule,
}

/// Finds the first rule that matches a packet between two zones.
pub fn classify(rules: &RuleSet, from: ZoneId, to: ZoneId, packet: &PacketMeta) -> Verdict {
    let matching = rules.rules().iter().position(|rule| matches(rule, from, to, packet));
    match matching.map(|index| (index, rules.rules()[index].action)) {
        Some((index, Action::Accept)) => Verdict::Accept(index),
        Some((index, Action::Drop)) => Verdict::Drop(index),
        None => Verdict::NoRule,
    }
}

fn matches(rule: &CompiledRule, from: ZoneId, to: ZoneId, packet: &PacketMeta) -> bool {
    rule.from.contains(&from)
        && rule.to.contains(&to)
        && any_prefix(&rule.source, packet.source.to_ip())
        && any_prefix(&rule.destination, packet.destination.to_ip())
        && match rule.protocol {
            Protocol::Any => true,
            Protocol::Number(number) => number == packet.protocol,
        }
        && any_port(&rule.source_ports, packet.source_port)
        && any_port(&rule.destination_ports, packet.destination_port)
}

fn any_prefix(prefixes: &[Prefix], address: IpAddr) -> bool {
    prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.contains(address))
}

fn any_port(ports: &[PortRange], port: u16) -> bool {
    ports.is_empty() || ports.iter().any(|range| range.contains(port))
}
