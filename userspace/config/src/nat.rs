//! Network address translation.

mod becomes;

use std::collections::{BTreeMap, BTreeSet};

pub use becomes::{NewDestination, NewSource};

use crate::{
    line::Line,
    names::{RuleId, ZoneName},
    node::Node,
    ports::PortRange,
    prefix::Prefix,
    reader::{Reader, Section},
    rule::{self, Protocol},
};

/// Who appears as whom. The first rule of a list that matches a flow decides; 1:1 rules come before the lists.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Nat {
    /// Hosts that have an address outside as well.
    pub one_to_one: Vec<OneToOne>,
    /// Which flows that come in reach another destination than they name.
    pub destination: Vec<DestinationRule>,
    /// Which flows that leave appear to come from another source.
    pub source: Vec<SourceRule>,
}

/// A prefix inside that appears as a prefix outside, address by address, in both directions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OneToOne {
    /// Unique name, also among filter rules.
    pub id: RuleId,
    /// Zones that the inside appears to as the outside prefix; at least one.
    pub zones: BTreeSet<ZoneName>,
    /// Addresses that the world sees.
    pub outside: Prefix,
    /// Addresses that the hosts have; of the same family and length.
    pub inside: Prefix,
    /// Where it begins in its file.
    pub line: Line,
}

/// A rule for the destination of flows that come in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DestinationRule {
    /// Unique name, also among filter rules.
    pub id: RuleId,
    /// Which flows, as they come in; `to` is empty.
    pub matching: FlowMatch,
    /// Whom they reach.
    pub becomes: NewDestination,
    /// Where it begins in its file.
    pub line: Line,
}

/// A rule for the source of flows that leave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceRule {
    /// Unique name, also among filter rules.
    pub id: RuleId,
    /// Which flows; their destination is the one that destination rules have given them.
    pub matching: FlowMatch,
    /// Whom they appear to come from.
    pub becomes: NewSource,
    /// Where it begins in its file.
    pub line: Line,
}

/// Which flows a rule is about. Empty lists restrict nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlowMatch {
    /// Zones the flow may come from; at least one.
    pub from: BTreeSet<ZoneName>,
    /// Zones it may go to.
    pub to: BTreeSet<ZoneName>,
    /// Prefixes the source may be in.
    pub source: Vec<Prefix>,
    /// Prefixes the destination may be in.
    pub destination: Vec<Prefix>,
    /// Protocol.
    pub protocol: Protocol,
    /// Source ports; only with TCP and UDP.
    pub source_ports: Vec<PortRange>,
    /// Destination ports; only with TCP and UDP.
    pub destination_ports: Vec<PortRange>,
}

/// What the rules refer to.
pub(crate) struct Context<'a> {
    /// Configured zones, or `None` if those are wrong, so that no rule is blamed for it.
    pub(crate) zones: Option<&'a BTreeSet<ZoneName>>,
    /// Ids that are taken, and the lines they stand on.
    pub(crate) ids: &'a mut BTreeMap<RuleId, u32>,
}

pub(crate) fn decode(
    reader: &mut Reader<'_>,
    node: Node,
    context: &mut Context<'_>,
) -> Option<Nat> {
    let mut section = reader.section(node)?;
    let one_to_one = reader.optional(&mut section, "one_to_one", |reader, node| {
        reader.list(node, |reader, node| one_to_one(reader, node, context))
    });
    let destination = reader.optional(&mut section, "destination", |reader, node| {
        reader.list(node, |reader, node| destination(reader, node, context))
    });
    let source = reader.optional(&mut section, "source", |reader, node| {
        reader.list(node, |reader, node| source(reader, node, context))
    });
    reader.close(section);
    Some(Nat {
        one_to_one: one_to_one?.unwrap_or_default(),
        destination: destination?.unwrap_or_default(),
        source: source?.unwrap_or_default(),
    })
}

fn one_to_one(reader: &mut Reader<'_>, node: Node, context: &mut Context<'_>) -> Option<OneToOne> {
    let mut section = reader.section(node)?;
    let line = section.line();
    let id = id(reader, &mut section, context);
    let zones = zones(reader, &mut section, "zone", context, &[ZoneName::local()]);
    let outside = reader.required(&mut section, "outside", Prefix::decode);
    let inside = reader.required(&mut section, "inside", Prefix::decode);
    if let (Some(outside), Some(inside)) = (outside, inside)
        && (outside.is_ipv4() != inside.is_ipv4() || outside.length() != inside.length())
    {
        reader.report(
            line,
            format!("{outside} outside and {inside} inside"),
            "prefixes of one family and one length",
            "give every inside address one outside address",
        );
    }
    reader.close(section);
    let line = Line::new(line);
    Some(OneToOne { id: id?, zones: zones?, outside: outside?, inside: inside?, line })
}

fn destination(
    reader: &mut Reader<'_>,
    node: Node,
    context: &mut Context<'_>,
) -> Option<DestinationRule> {
    let mut section = reader.section(node)?;
    let line = section.line();
    let id = id(reader, &mut section, context);
    // What the gateway itself sends has been routed before it is seen.
    let from = zones(reader, &mut section, "from", context, &[ZoneName::local()]);
    let matching = matching(reader, &mut section, from, Some(BTreeSet::new()));
    let becomes = becomes::destination(reader, &mut section);
    reader.close(section);
    let (matching, becomes) = (matching?, becomes?);
    let rule = DestinationRule { id: id?, matching, becomes, line: Line::new(line) };
    check_ports(reader, line, &rule.matching);
    check_families(reader, line, &rule.matching, rule.becomes.is_ipv4());
    becomes::check_port_sizes(reader, line, &rule);
    Some(rule)
}

fn source(reader: &mut Reader<'_>, node: Node, context: &mut Context<'_>) -> Option<SourceRule> {
    let mut section = reader.section(node)?;
    let line = section.line();
    let id = id(reader, &mut section, context);
    let from = zones(reader, &mut section, "from", context, &[]);
    let to = zones(reader, &mut section, "to", context, &[ZoneName::local()]);
    let matching = matching(reader, &mut section, from, to);
    let becomes = becomes::source(reader, &mut section);
    reader.close(section);
    let (matching, becomes) = (matching?, becomes?);
    let rule = SourceRule { id: id?, matching, becomes, line: Line::new(line) };
    check_ports(reader, line, &rule.matching);
    check_families(reader, line, &rule.matching, rule.becomes.is_ipv4());
    if rule.becomes.ports().is_some() && !has_ports(rule.matching.protocol) {
        report_ports(reader, line, "becomes_ports", rule.matching.protocol);
    }
    Some(rule)
}

fn id(reader: &mut Reader<'_>, section: &mut Section, context: &mut Context<'_>) -> Option<RuleId> {
    reader.required(section, "id", |reader, node| rule::id(reader, node, context.ids))
}

/// Decodes zones that are neither `overlay` nor among `others`.
fn zones(
    reader: &mut Reader<'_>,
    section: &mut Section,
    key: &'static str,
    context: &Context<'_>,
    others: &[ZoneName],
) -> Option<BTreeSet<ZoneName>> {
    let line = section.line_of(key);
    let zones = rule::zone_set(reader, section, key, context.zones)?;
    let refused = |zone: &&ZoneName| **zone == ZoneName::overlay() || others.contains(zone);
    if let Some(zone) = zones.iter().find(refused) {
        reader.under(key, |reader| {
            let found = format!("the zone {zone}");
            reader.report(line, found, "zones with interfaces", "name the zone of an interface");
        });
    }
    Some(zones)
}

fn matching(
    reader: &mut Reader<'_>,
    section: &mut Section,
    from: Option<BTreeSet<ZoneName>>,
    to: Option<BTreeSet<ZoneName>>,
) -> Option<FlowMatch> {
    let source = rule::list(reader, section, "source", Prefix::decode);
    let destination = rule::list(reader, section, "destination", Prefix::decode);
    let protocol = reader.optional(section, "protocol", rule::protocol);
    let source_ports = rule::list(reader, section, "source_ports", PortRange::decode);
    let destination_ports = rule::list(reader, section, "destination_ports", PortRange::decode);
    Some(FlowMatch {
        from: from?,
        to: to?,
        source: source?,
        destination: destination?,
        protocol: protocol?.unwrap_or(Protocol::Any),
        source_ports: source_ports?,
        destination_ports: destination_ports?,
    })
}

fn has_ports(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::TCP | Protocol::UDP)
}

pub(crate) fn check_ports(reader: &mut Reader<'_>, line: u32, matching: &FlowMatch) {
    let keys = [
        ("source_ports", &matching.source_ports),
        ("destination_ports", &matching.destination_ports),
    ];
    for (key, ports) in keys {
        if !ports.is_empty() && !has_ports(matching.protocol) {
            report_ports(reader, line, key, matching.protocol);
        }
    }
}

fn report_ports(reader: &mut Reader<'_>, line: u32, key: &'static str, protocol: Protocol) {
    reader.under(key, |reader| {
        let found = format!("ports with protocol {protocol}");
        reader.report(line, found, "ports with tcp or udp only", "set protocol to tcp or udp");
    });
}

/// Reports a rule that no packet matches, or whose packets cannot be given the new address. `becomes` says
/// whether that is IPv4, if the rule has one.
fn check_families(reader: &mut Reader<'_>, line: u32, matching: &FlowMatch, becomes: Option<bool>) {
    let prefixes = matching.source.iter().chain(&matching.destination);
    let protocol = match matching.protocol {
        Protocol::ICMP => Some(true),
        Protocol::ICMPV6 => Some(false),
        Protocol::Any | Protocol::Number(_) => None,
    };
    let mut families = prefixes.map(Prefix::is_ipv4).chain(protocol).chain(becomes);
    let first = families.next();
    if families.any(|family| Some(family) != first) {
        reader.report(
            line,
            "IPv4 and IPv6 in one translation",
            "one address family throughout",
            "write a rule for each family",
        );
    }
}
