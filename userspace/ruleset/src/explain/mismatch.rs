//! In what rules and packets differ, in words.

use std::{collections::BTreeSet, fmt};

use nightgate_abi::ZoneId;
use nightgate_config::{Protocol, TcpFlags, ZoneName};
use nightgate_packet::PacketMeta;

use super::Mismatch;
use crate::{
    classify::Field,
    compile::{CompiledRule, RuleSet},
    members::Members,
};

impl Field {
    pub(super) fn mismatch(
        self,
        rules: &RuleSet,
        rule: &CompiledRule,
        (from, to): (ZoneId, ZoneId),
        packet: &PacketMeta,
    ) -> Mismatch {
        let zone = |zone: &ZoneId| rules.zone_name(*zone).map_or("no zone", ZoneName::as_str);
        let zones = |set: &BTreeSet<ZoneId>| list(set.iter().map(zone));
        let (field, expected, found) = match self {
            Self::From => ("from", zones(&rule.from), zone(&from).into()),
            Self::To => ("to", zones(&rule.to), zone(&to).into()),
            Self::Source => (
                "source",
                either(&rule.source, &rule.source_members),
                packet.source.to_ip().to_string(),
            ),
            Self::Destination => (
                "destination",
                either(&rule.destination, &rule.destination_members),
                packet.destination.to_ip().to_string(),
            ),
            Self::Protocol => (
                "protocol",
                rule.protocol.to_string(),
                Protocol::Number(packet.protocol).to_string(),
            ),
            Self::SourcePorts => (
                "source_ports",
                either(&rule.source_ports, &rule.source_port_members),
                packet.source_port.to_string(),
            ),
            Self::DestinationPorts => {
                let found = packet.destination_port.to_string();
                (
                    "destination_ports",
                    either(&rule.destination_ports, &rule.destination_port_members),
                    found,
                )
            }
            Self::IcmpTypes => {
                let found = format!("{}/{}", packet.icmp_type, packet.icmp_code);
                ("icmp_types", list(&rule.icmp_types), found)
            }
            Self::TcpFlags => {
                let found = TcpFlags::of(packet.tcp_flags).to_string();
                ("tcp_flags", rule.tcp_flags.to_string(), found)
            }
            Self::Dscp => ("dscp", list(&rule.dscp), packet.dscp.to_string()),
            Self::SourceMac => {
                let found = packet.source_mac.map(|byte| format!("{byte:02x}")).join(":");
                ("source_mac", list(&rule.source_mac), found)
            }
        };
        Mismatch { field, expected, found }
    }
}

/// What a rule lists, or else the sets that it names and what it must not be.
fn either<T: ToString + fmt::Display>(items: &[T], members: &Option<Members<T>>) -> String {
    members.as_ref().map_or_else(|| list(items), |members| members.membership.to_string())
}

/// The first elements of a list, in words.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    /// Elements that are written out.
    const SHOWN: usize = 4;
    let words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    let more = words.len().saturating_sub(SHOWN);
    let text = words.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { text } else { format!("{text} and {more} more") }
}
