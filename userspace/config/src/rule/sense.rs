//! What makes a rule one that could never match, or that does something else than it says.

use std::collections::BTreeSet;

use super::{Protocol, Rule};
use crate::{
    action::{Action, Answer},
    log::Log,
    names::ZoneName,
    prefix::Prefix,
    reader::Reader,
};

/// Reports all of it.
pub(super) fn check(reader: &mut Reader<'_>, line: u32, rule: &Rule) {
    check_zones(reader, line, rule);
    check_action(reader, line, rule);
    check_ports(reader, line, rule);
    check_facts(reader, line, rule);
    if families(rule).is_empty() {
        reader.report(
            line,
            "no address family that source, destination and protocol have in common",
            "IPv4 or IPv6 throughout",
            "use prefixes of one family, icmp with IPv4 and icmpv6 with IPv6",
        );
    }
}

fn check_zones(reader: &mut Reader<'_>, line: u32, rule: &Rule) {
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
}

/// Reports what does not go with the rule's action.
fn check_action(reader: &mut Reader<'_>, line: u32, rule: &Rule) {
    if rule.log == Log::Yes && rule.action == Action::Count {
        reader.under("log", |reader| {
            let remedy = "log the rule that decides, or remove the key";
            reader.report(line, "log with action count", "log with what decides", remedy);
        });
    }
    if rule.action == Action::Reject(Answer::Reset) && rule.protocol != Protocol::TCP {
        reader.under("with", |reader| {
            let found = format!("a reset with protocol {}", rule.protocol);
            let remedy = "set protocol to tcp, or remove the key";
            reader.report(line, found, "a reset with tcp only", remedy);
        });
    }
    let limits = [("limit", rule.limit.is_some()), ("connections", rule.connections.is_some())];
    for (key, _) in limits.into_iter().filter(|(_, is_there)| *is_there) {
        if rule.action != Action::Accept {
            reader.under(key, |reader| {
                let found = format!("a limit with action {}", rule.action.word());
                let remedy = "set action to accept, or remove the key";
                reader.report(line, found, "a limit with accept only", remedy);
            });
        }
    }
}

fn check_ports(reader: &mut Reader<'_>, line: u32, rule: &Rule) {
    let has_ports = matches!(rule.protocol, Protocol::TCP | Protocol::UDP);
    for (key, ports, members) in [
        ("source_ports", &rule.source_ports, &rule.source_port_members),
        ("destination_ports", &rule.destination_ports, &rule.destination_port_members),
    ] {
        if (!ports.is_empty() || members.is_some()) && !has_ports {
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
}

/// Reports what a rule asks of packets that cannot have it.
fn check_facts(reader: &mut Reader<'_>, line: u32, rule: &Rule) {
    let has_messages = matches!(rule.protocol, Protocol::ICMP | Protocol::ICMPV6);
    if !rule.icmp_types.is_empty() && !has_messages {
        report_messages(reader, line, rule.protocol);
    }
    if !rule.tcp_flags.is_any() && rule.protocol != Protocol::TCP {
        reader.under("tcp_flags", |reader| {
            let found = format!("flags with protocol {}", rule.protocol);
            reader.report(line, found, "flags with tcp only", "set protocol to tcp");
        });
    }
    if !rule.source_mac.is_empty() && rule.from.iter().all(|zone| *zone == ZoneName::local()) {
        report_own_macs(reader, line);
    }
}

/// Reports messages of a protocol that has none.
pub(crate) fn report_messages(reader: &mut Reader<'_>, line: u32, protocol: Protocol) {
    reader.under("icmp_types", |reader| {
        let found = format!("messages with protocol {protocol}");
        let remedy = "set protocol to icmp or icmpv6";
        reader.report(line, found, "messages with icmp or icmpv6 only", remedy);
    });
}

/// Reports MAC addresses that no packet has.
pub(crate) fn report_own_macs(reader: &mut Reader<'_>, line: u32) {
    reader.under("source_mac", |reader| {
        let found = "MAC addresses of the gateway's own packets";
        reader.report(line, found, "a zone of interfaces under from", "remove source_mac");
    });
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
