//! Firewall rules.

mod sense;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

pub(crate) use self::sense::{report_messages, report_own_macs};
use crate::{
    action::{self, Action},
    decode::{self, Malformed},
    dscp::Dscp,
    icmp::IcmpType,
    limit::{self, ConnectionLimit, RateLimit},
    line::Line,
    log::{self, Log},
    mac::MacAddress,
    membership::{Membership, Selection},
    names::{RuleId, SetName, ZoneName},
    node::{Node, Value},
    ports::PortRange,
    prefix::Prefix,
    reader::{Reader, Section},
    sets::{Element, Set},
    tcp_flags::TcpFlags,
};

/// A firewall rule. Empty lists restrict nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Unique name.
    pub id: RuleId,
    /// Zones the packet may come from; at least one, never `overlay`.
    pub from: BTreeSet<ZoneName>,
    /// Zones it may go to; at least one.
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
    /// Sets that the source has to be in, or what it must not be.
    pub source_members: Option<Membership<Prefix>>,
    /// Sets that the destination has to be in, or what it must not be.
    pub destination_members: Option<Membership<Prefix>>,
    /// Sets that the source port has to be in, or what it must not be; only with TCP and UDP.
    pub source_port_members: Option<Membership<PortRange>>,
    /// Sets that the destination port has to be in, or what it must not be; only with TCP and UDP.
    pub destination_port_members: Option<Membership<PortRange>>,
    /// Messages; only with ICMP and ICMPv6.
    pub icmp_types: Vec<IcmpType>,
    /// Flags of the packet that opens the flow; only with TCP.
    pub tcp_flags: TcpFlags,
    /// Code points of that packet.
    pub dscp: BTreeSet<Dscp>,
    /// Source MAC addresses of that packet; it then has to come in by an interface.
    pub source_mac: Vec<MacAddress>,
    /// What it is for, in the operator's words.
    pub comment: Option<String>,
    /// What becomes of the packet.
    pub action: Action,
    /// How fast flows may begin; only where it accepts.
    pub limit: Option<RateLimit>,
    /// How many flows there may be; only where it accepts.
    pub connections: Option<ConnectionLimit>,
    /// Whether the first packets of its flows, and its refusals, are logged.
    pub log: Log,
    /// Where it begins in its file.
    pub line: Line,
}

/// Protocol of a rule.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Protocol {
    /// Every protocol.
    Any,
    /// The protocol of this number (IANA), 1 to 255.
    Number(u8),
}

impl Protocol {
    /// ICMP.
    pub const ICMP: Self = Self::Number(1);
    /// TCP.
    pub const TCP: Self = Self::Number(6);
    /// UDP.
    pub const UDP: Self = Self::Number(17);
    /// ICMPv6.
    pub const ICMPV6: Self = Self::Number(58);

    /// The protocol that rules call by this name, if they call one so.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "any" => Some(Self::Any),
            "icmp" => Some(Self::ICMP),
            "tcp" => Some(Self::TCP),
            "udp" => Some(Self::UDP),
            "icmpv6" => Some(Self::ICMPV6),
            other => {
                let named = NAMED.iter().find(|(name, _)| *name == other);
                named.map(|(_, number)| Self::Number(*number))
            }
        }
    }
}

/// Protocols without ports that rules may call by name (IANA).
const NAMED: [(&str, u8); 6] =
    [("igmp", 2), ("gre", 47), ("esp", 50), ("ah", 51), ("ospf", 89), ("vrrp", 112)];

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Any => f.write_str("any"),
            Self::ICMP => f.write_str("icmp"),
            Self::TCP => f.write_str("tcp"),
            Self::UDP => f.write_str("udp"),
            Self::ICMPV6 => f.write_str("icmpv6"),
            Self::Number(number) => match NAMED.iter().find(|(_, named)| *named == number) {
                Some((name, _)) => f.write_str(name),
                None => write!(f, "{number}"),
            },
        }
    }
}

/// What rules may name; `None` for what is wrong itself, so that no rule is blamed for it.
pub(crate) struct Known<'a> {
    pub(crate) zones: Option<&'a BTreeSet<ZoneName>>,
    pub(crate) sets: Option<&'a BTreeMap<SetName, Set>>,
}

/// Decodes the rules. `seen` are the ids that are taken, and the lines they stand on.
pub(crate) fn decode(
    reader: &mut Reader<'_>,
    node: Node,
    known: &Known<'_>,
    seen: &mut BTreeMap<RuleId, u32>,
) -> Option<Vec<Rule>> {
    reader.list(node, |reader, node| rule(reader, node, known, seen))
}

fn rule(
    reader: &mut Reader<'_>,
    node: Node,
    known: &Known<'_>,
    seen: &mut BTreeMap<RuleId, u32>,
) -> Option<Rule> {
    let mut section = reader.section(node)?;
    let id = reader.required(&mut section, "id", |reader, node| id(reader, node, seen));
    let from = zone_set(reader, &mut section, "from", known.zones);
    let to = zone_set(reader, &mut section, "to", known.zones);
    let source = selection(reader, &mut section, "source", known, Prefix::decode);
    let destination = selection(reader, &mut section, "destination", known, Prefix::decode);
    let protocol = reader.optional(&mut section, "protocol", protocol);
    let source_ports = selection(reader, &mut section, "source_ports", known, PortRange::decode);
    let destination_ports =
        selection(reader, &mut section, "destination_ports", known, PortRange::decode);
    let icmp_types = list(reader, &mut section, "icmp_types", |reader, node| {
        IcmpType::decode(reader, node, protocol.flatten())
    });
    let tcp_flags = reader.optional(&mut section, "tcp_flags", TcpFlags::decode);
    let dscp = list(reader, &mut section, "dscp", Dscp::decode);
    let source_mac = list(reader, &mut section, "source_mac", MacAddress::decode);
    let comment = reader.optional(&mut section, "comment", comment);
    let action = action::decode(reader, &mut section);
    let limit = reader.optional(&mut section, "limit", limit::rate);
    let connections = reader.optional(&mut section, "connections", limit::connections);
    let log = reader.optional(&mut section, "log", log::decode);
    let line = section.line();
    reader.close(section);
    let (source, destination) = (source?, destination?);
    let (source_ports, destination_ports) = (source_ports?, destination_ports?);
    let rule = Rule {
        id: id?,
        from: from?,
        to: to?,
        source: source.elements,
        destination: destination.elements,
        protocol: protocol?.unwrap_or(Protocol::Any),
        source_ports: source_ports.elements,
        destination_ports: destination_ports.elements,
        source_members: source.members,
        destination_members: destination.members,
        source_port_members: source_ports.members,
        destination_port_members: destination_ports.members,
        icmp_types: icmp_types?,
        tcp_flags: tcp_flags?.unwrap_or_default(),
        dscp: dscp?.into_iter().collect(),
        source_mac: source_mac?,
        comment: comment?,
        action: action?,
        limit: limit?,
        connections: connections?,
        log: log?.unwrap_or_default(),
        line: Line::new(line),
    };
    sense::check(reader, line, &rule);
    Some(rule)
}

pub(crate) fn id(
    reader: &mut Reader<'_>,
    node: Node,
    seen: &mut BTreeMap<RuleId, u32>,
) -> Option<RuleId> {
    let wanted = ("an id of its own", "rename one of the two rules");
    decode::unique(reader, node, seen, wanted, RuleId::decode)
}

pub(crate) fn zone_set(
    reader: &mut Reader<'_>,
    section: &mut Section,
    key: &'static str,
    zones: Option<&BTreeSet<ZoneName>>,
) -> Option<BTreeSet<ZoneName>> {
    let names = reader.required(section, key, |reader, node| {
        reader.one_or_more(node, |reader, node| {
            let line = node.line;
            let name = ZoneName::decode(reader, node)?;
            if zones.is_some_and(|zones| !name.is_reserved() && !zones.contains(&name)) {
                let found = format!("the unknown zone {name}");
                reader.report(line, found, "a zone, local or overlay", "add it under zones");
            }
            Some(name)
        })
    });
    Some(names?.into_iter().collect())
}

pub(crate) fn list<T>(
    reader: &mut Reader<'_>,
    section: &mut Section,
    key: &'static str,
    decode: impl Fn(&mut Reader<'_>, Node) -> Option<T>,
) -> Option<Vec<T>> {
    let items = reader.optional(section, key, |reader, node| reader.one_or_more(node, decode));
    items.map(Option::unwrap_or_default)
}

fn selection<T: Element>(
    reader: &mut Reader<'_>,
    section: &mut Section,
    key: &'static str,
    known: &Known<'_>,
    decode: impl Fn(&mut Reader<'_>, Node) -> Option<T>,
) -> Option<Selection<T>> {
    let selection = reader
        .optional(section, key, |reader, node| Selection::decode(reader, node, known.sets, decode));
    selection.map(|selection| selection.unwrap_or(Selection::any()))
}

pub(crate) fn protocol(reader: &mut Reader<'_>, node: Node) -> Option<Protocol> {
    if let Value::Integer(_) = node.value {
        return decode::integer(reader, node, 1, 255).map(Protocol::Number);
    }
    decode::checked(reader, node, |text| {
        Protocol::named(text).ok_or_else(|| {
            Malformed::new(
                "tcp, udp, icmp, icmpv6, igmp, gre, esp, ah, ospf, vrrp, any or a protocol number from 1 to 255",
                "correct the protocol",
            )
        })
    })
}

fn comment(reader: &mut Reader<'_>, node: Node) -> Option<String> {
    /// Longest comment in bytes.
    const LONGEST: usize = 200;
    decode::checked(reader, node, |text| {
        if text.len() <= LONGEST && !text.chars().any(char::is_control) {
            Ok(text.to_owned())
        } else {
            Err(Malformed::new("a line of up to 200 bytes", "shorten it, or write a YAML comment"))
        }
    })
}
