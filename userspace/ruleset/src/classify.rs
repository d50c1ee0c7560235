//! What the rules mean: the reference that the kernel's classifier is tested against.

use std::net::IpAddr;

use nightgate_abi::ZoneId;
use nightgate_config::{Action, PortRange, Prefix, Protocol};
use nightgate_packet::PacketMeta;

use crate::{
    compile::{CompiledRule, RuleSet},
    members::Members,
};

/// What a rule set says about the first packet of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The rule with this index accepts it.
    Accept(usize),
    /// The rule with this index refuses it.
    Drop(usize),
    /// The rule with this index refuses it and has its sender told.
    Reject(usize),
    /// No rule matches, so it is refused.
    NoRule,
}

/// Finds the first rule that matches a packet between two zones, and decides.
pub fn classify(rules: &RuleSet, from: ZoneId, to: ZoneId, packet: &PacketMeta) -> Verdict {
    for (index, rule) in rules.rules().iter().enumerate() {
        if !matches(rule, from, to, packet) {
            continue;
        }
        match rule.action {
            Action::Accept => return Verdict::Accept(index),
            Action::Drop => return Verdict::Drop(index),
            Action::Reject(_) => return Verdict::Reject(index),
            Action::Count => {}
        }
    }
    Verdict::NoRule
}

/// Finds the first rule that matches a packet between two zones and only counts, if it is before the rule that
/// decides.
pub fn counting_rule(
    rules: &RuleSet,
    from: ZoneId,
    to: ZoneId,
    packet: &PacketMeta,
) -> Option<usize> {
    let first = rules.rules().iter().position(|rule| matches(rule, from, to, packet))?;
    (rules.rules()[first].action == Action::Count).then_some(first)
}

/// Whether a rule matches a packet between two zones.
pub(crate) fn matches(rule: &CompiledRule, from: ZoneId, to: ZoneId, packet: &PacketMeta) -> bool {
    Field::ALL.iter().all(|field| field.holds(rule, (from, to), packet))
}

/// What a rule asks of a packet, by the key that says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Field {
    From,
    To,
    Source,
    Destination,
    Protocol,
    SourcePorts,
    DestinationPorts,
    IcmpTypes,
    TcpFlags,
    Dscp,
    SourceMac,
}

impl Field {
    /// Every field.
    pub(crate) const ALL: &[Self] = &[
        Self::From,
        Self::To,
        Self::Source,
        Self::Destination,
        Self::Protocol,
        Self::SourcePorts,
        Self::DestinationPorts,
        Self::IcmpTypes,
        Self::TcpFlags,
        Self::Dscp,
        Self::SourceMac,
    ];

    /// Whether the packet is as the rule asks.
    pub(crate) fn holds(
        self,
        rule: &CompiledRule,
        (from, to): (ZoneId, ZoneId),
        packet: &PacketMeta,
    ) -> bool {
        match self {
            Self::From => rule.from.contains(&from),
            Self::To => rule.to.contains(&to),
            Self::Source => {
                let address = packet.source.to_ip();
                any_prefix(&rule.source, address) && are_among(&rule.source_members, address)
            }
            Self::Destination => {
                let address = packet.destination.to_ip();
                any_prefix(&rule.destination, address)
                    && are_among(&rule.destination_members, address)
            }
            Self::Protocol => match rule.protocol {
                Protocol::Any => true,
                Protocol::Number(number) => number == packet.protocol,
            },
            Self::SourcePorts => {
                let port = packet.source_port;
                let members = rule.source_port_members.as_ref();
                any_port(&rule.source_ports, port)
                    && members.is_none_or(|members| members.allow(|range| range.contains(port)))
            }
            Self::DestinationPorts => {
                let port = packet.destination_port;
                let members = rule.destination_port_members.as_ref();
                any_port(&rule.destination_ports, port)
                    && members.is_none_or(|members| members.allow(|range| range.contains(port)))
            }
            Self::IcmpTypes => {
                let (kind, code) = (packet.icmp_type, packet.icmp_code);
                let mut types = rule.icmp_types.iter();
                rule.icmp_types.is_empty() || types.any(|icmp_type| icmp_type.contains(kind, code))
            }
            Self::TcpFlags => rule.tcp_flags.matches(packet.tcp_flags),
            Self::Dscp => {
                let mut points = rule.dscp.iter();
                rule.dscp.is_empty() || points.any(|dscp| dscp.number() == packet.dscp)
            }
            Self::SourceMac => {
                let mut macs = rule.source_mac.iter();
                let is_listed = macs.any(|mac| mac.octets() == packet.source_mac);
                rule.source_mac.is_empty() || (from != ZoneId::LOCAL && is_listed)
            }
        }
    }
}

fn are_among(members: &Option<Members<Prefix>>, address: IpAddr) -> bool {
    members.as_ref().is_none_or(|members| members.allow(|prefix| prefix.contains(address)))
}

fn any_prefix(prefixes: &[Prefix], address: IpAddr) -> bool {
    prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.contains(address))
}

fn any_port(ports: &[PortRange], port: u16) -> bool {
    ports.is_empty() || ports.iter().any(|range| range.contains(port))
}
