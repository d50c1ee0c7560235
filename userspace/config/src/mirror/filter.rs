//! Entries of filters.

use super::{FilterEntry, Sense};
use crate::{
    icmp::IcmpType,
    mac::MacAddress,
    membership::Membership,
    names::ZoneName,
    nat::{self, FlowMatch},
    node::Node,
    ports::PortRange,
    prefix::Prefix,
    reader::{Reader, Section},
    rule::{self, Known, Protocol},
    sets::Element,
};

/// Most elements of an entry's lists, those of its sets included.
const ELEMENTS_MAX: usize = 1_024;

/// Decodes what an entry says, but whether it copies: that it does not.
pub(super) fn decode(
    reader: &mut Reader<'_>,
    section: &mut Section,
    known: &Known<'_>,
) -> Option<FilterEntry> {
    let line = section.line();
    let from = rule::zone_set(reader, section, "from", known.zones);
    let to = rule::zone_set(reader, section, "to", known.zones);
    let source = list(reader, section, "source", known, Prefix::decode);
    let destination = list(reader, section, "destination", known, Prefix::decode);
    let protocol = reader.optional(section, "protocol", rule::protocol);
    let source_ports = list(reader, section, "source_ports", known, PortRange::decode);
    let destination_ports = list(reader, section, "destination_ports", known, PortRange::decode);
    let icmp_types = rule::list(reader, section, "icmp_types", |reader, node| {
        IcmpType::decode(reader, node, protocol.flatten())
    });
    let source_mac = rule::list(reader, section, "source_mac", MacAddress::decode);
    let entry = FilterEntry {
        matching: FlowMatch {
            from: from?,
            to: to?,
            source: source?,
            destination: destination?,
            protocol: protocol?.unwrap_or(Protocol::Any),
            source_ports: source_ports?,
            destination_ports: destination_ports?,
        },
        icmp_types: icmp_types?,
        source_mac: source_mac?,
        sense: Sense::Skip,
    };
    nat::check_ports(reader, line, &entry.matching);
    check_facts(reader, line, &entry);
    Some(entry)
}

/// Decodes elements and `$SET`s; these stand for what they hold.
fn list<T: Element + Clone>(
    reader: &mut Reader<'_>,
    section: &mut Section,
    key: &'static str,
    known: &Known<'_>,
    decode: impl Fn(&mut Reader<'_>, Node) -> Option<T>,
) -> Option<Vec<T>> {
    let line = section.line_of(key);
    let members = reader.optional(section, key, |reader, node| {
        Membership::decode(reader, node, known.sets, decode)
    })?;
    let (Some(members), Some(sets)) = (members, known.sets) else { return Some(Vec::new()) };
    let all: Vec<T> = members.members(sets).cloned().collect();
    let (found, expected, remedy) = if all.is_empty() {
        ("only sets that are empty".to_owned(), "something".to_owned(), "remove the entry")
    } else if all.len() > ELEMENTS_MAX {
        let expected = format!("up to {ELEMENTS_MAX} in a filter's list");
        (format!("{} elements", all.len()), expected, "name larger networks, or a zone")
    } else {
        return Some(all);
    };
    reader.under(key, |reader| reader.report(line, found, expected, remedy));
    None
}

/// Reports what an entry asks of packets that cannot have it.
fn check_facts(reader: &mut Reader<'_>, line: u32, entry: &FilterEntry) {
    let FlowMatch { protocol, from, .. } = &entry.matching;
    if !entry.icmp_types.is_empty() && !matches!(*protocol, Protocol::ICMP | Protocol::ICMPV6) {
        rule::report_messages(reader, line, *protocol);
    }
    if !entry.source_mac.is_empty() && from.iter().all(|zone| *zone == ZoneName::local()) {
        rule::report_own_macs(reader, line);
    }
}
