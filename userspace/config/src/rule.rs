//! Firewall rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    decode::{self, Malformed},
    names::{RuleId, ZoneName},
    node::{Node, Value},
    ports::PortRange,
    prefix::Prefix,
    reader::{Reader, Section},
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
    /// What becomes of the packet.
    pub action: Action,
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
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// It passes, and its flow after it.
    Accept,
    /// It is refused.
    Drop,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Any => f.write_str("any"),
            Self::ICMP => f.write_str("icmp"),
            Self::TCP => f.write_str("tcp"),
            Self::UDP => f.write_str("udp"),
            Self::ICMPV6 => f.write_str("icmpv6"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Decodes the rules. `zones` are the configured zones, or `None` if those are wrong, so that no rule is
/// blamed for it.
pub(crate) fn decode(
    reader: &mut Reader<'_>,
    node: Node,
    zones: Option<&BTreeSet<ZoneName>>,
) -> Option<Vec<Rule>> {
    let mut seen = BTreeMap::new();
    reader.list(node, |reader, node| rule(reader, node, zones, &mut seen))
}

fn rule(
    reader: &mut Reader<'_>,
    node: Node,
    zones: Option<&BTreeSet<ZoneName>>,
    seen: &mut BTreeMap<RuleId, u32>,
) -> Option<Rule> {
    let mut section = reader.section(node)?;
    let id = reader.required(&mut section, "id", |reader, node| id(reader, node, seen));
    let from = zone_set(reader, &mut section, "from", zones);
    let to = zone_set(reader, &mut section, "to", zones);
    let source = list(reader, &mut section, "source", Prefix::decode);
    let destination = list(reader, &mut section, "destination", Prefix::decode);
    let protocol = reader.optional(&mut section, "protocol", protocol);
    let source_ports = list(reader, &mut section, "source_ports", PortRange::decode);
    let destination_ports = list(reader, &mut section, "destination_ports", PortRange::decode);
    let action = reader.required(&mut section, "action", action);
    let line = section.line();
    reader.close(section);
    let rule = Rule {
        id: id?,
        from: from?,
        to: to?,
        source: source?,
        destination: destination?,
        protocol: protocol?.unwrap_or(Protocol::Any),
        source_ports: source_ports?,
        destination_ports: destination_ports?,
        action: action?,
    };
    check_sense(reader, line, &rule);
    Some(rule)
}

fn id(reader: &mut Reader<'_>, node: Node, seen: &mut BTreeMap<RuleId, u32>) -> Option<RuleId> {
    let line = node.line;
    let id = RuleId::decode(reader, node)?;
    if let Some(first) = seen.insert(id.clone(), line) {
        let found = format!("{id} again, first on line {first}");
        reader.report(line, found, "an id of its own", "rename one of the two rules");
    }
    Some(id)
}

fn zone_set(
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

fn list<T>(
    reader: &mut Reader<'_>,
    section: &mut Section,
    key: &'static str,
    decode: impl Fn(&mut Reader<'_>, Node) -> Option<T>,
) -> Option<Vec<T>> {
    let items = reader.optional(section, key, |reader, node| reader.one_or_more(node, decode));
    items.map(Option::unwrap_or_default)
}

fn protocol(reader: &mut Reader<'_>, node: Node) -> Option<Protocol> {
    if let Value::Integer(_) = node.value {
        return decode::integer(reader, node, 1, 255).map(Protocol::Number);
    }
    decode::checked(reader, node, |text| match text {
        "any" => Ok(Protocol::Any),
        "icmp" => Ok(Protocol::ICMP),
        "tcp" => Ok(Protocol::TCP),
        "udp" => Ok(Protocol::UDP),
        "icmpv6" => Ok(Protocol::ICMPV6),
        _ => Err(Malformed::new(
            "tcp, udp, icmp, icmpv6, any or a protocol number from 1 to 255",
            "correct the protocol",
        )),
    })
}

fn action(reader: &mut Reader<'_>, node: Node) -> Option<Action> {
    decode::checked(reader, node, |text| match text {
        "accept" => Ok(Action::Accept),
        "drop" => Ok(Action::Drop),
        _ => Err(Malformed::new("accept or drop", "choose one")),
    })
}

/// Reports what makes a rule one that could never match.
fn check_sense(reader: &mut Reader<'_>, line: u32, rule: &Rule) {
    if rule.from.contains(&ZoneName::overlay()) {
        reader.under("from", |reader| {
            reader.report(
                line,
                "the zone overlay",
                "zones that packets come from",
                "write local: what the overlay delivers, the gateway itself sends",
            );
        });
    }
    let is_local = |zones: &BTreeSet<ZoneName>| zones.iter().all(|zone| *zone == ZoneName::local());
    if is_local(&rule.from) && rule.to.iter().all(ZoneName::is_reserved) {
        reader.under("to", |reader| {
            let expected = "a zone that the gateway's own packets go to";
            reader.report(line, "only reserved zones from local", expected, "name a zone");
        });
    }
    let has_ports = matches!(rule.protocol, Protocol::TCP | Protocol::UDP);
    for (key, ports) in
        [("source_ports", &rule.source_ports), ("destination_ports", &rule.destination_ports)]
    {
        if !ports.is_empty() && !has_ports {
            reader.under(key, |reader| {
                let found = format!("ports with protocol {}", rule.protocol);
                reader.report(
                    line,
                    found,
                    "ports with tcp or udp only",
                    "set protocol to tcp or udp",
                );
            });
        }
    }
    if families(rule).is_empty() {
        reader.report(
            line,
            "no address family that source, destination and protocol have in common",
            "IPv4 or IPv6 throughout",
            "use prefixes of one family, icmp with IPv4 and icmpv6 with IPv6",
        );
    }
}

/// The families a rule can match: `true` for IPv4.
fn families(rule: &Rule) -> Vec<bool> {
    let allows = |prefixes: &[Prefix], is_ipv4: bool| {
        prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.is_ipv4() == is_ipv4)
    };
    [true, false]
        .into_iter()
        .filter(|is_ipv4| allows(&rule.source, *is_ipv4) && allows(&rule.destination, *is_ipv4))
        .filter(|is_ipv4| match rule.protocol {
            Protocol::ICMP => *is_ipv4,
            Protocol::ICMPV6 => !is_ipv4,
            Protocol::Any | Protocol::Number(_) => true,
        })
        .collect()
}
