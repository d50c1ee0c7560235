//! Rules and zones that make no sense by themselves.

use std::net::IpAddr;

use nightgate_abi::ZoneId;
use nightgate_config::{Action, Gateway, Prefix, Protocol, ZoneName};

use super::{
    World,
    finding::{Finding, Kind},
};

/// Zones with a name that begins so are taken for places of strangers.
const OUTSIDE: [&str; 6] = ["wan", "internet", "external", "outside", "public", "untrusted"];

/// Sources that no packet has, and destinations: `nightgate_packet` refuses them before any rule (RFC 6890).
const MARTIAN_SOURCES: [(&str, u8); 5] =
    [("127.0.0.0", 8), ("224.0.0.0", 3), ("ff00::", 8), ("::1", 128), ("::ffff:0:0", 96)];
const MARTIAN_DESTINATIONS: [(&str, u8); 4] =
    [("127.0.0.0", 8), ("0.0.0.0", 8), ("::", 127), ("::ffff:0:0", 96)];

/// A rule that no packet can match.
pub(super) fn never_matches(world: &World<'_>, rule: usize) -> Option<Finding> {
    let (compiled, place) = (&world.rules[rule], &world.places[rule]);
    let only_overlay = compiled.to.iter().all(|zone| *zone == ZoneId::OVERLAY);
    let other_protocol = match compiled.protocol {
        Protocol::Any | Protocol::TCP => false,
        Protocol::Number(_) => true,
    };
    let (why, remedy) = if only_overlay && other_protocol {
        let why =
            format!("only TCP is intercepted, so no {} packet goes to overlay", compiled.protocol);
        (why, "write protocol: tcp, or name the zone that the packets go to")
    } else if all_within(&compiled.source, &MARTIAN_SOURCES) {
        (
            "no packet comes from such a source: it is refused before any rule".into(),
            "correct source",
        )
    } else if all_within(&compiled.destination, &MARTIAN_DESTINATIONS) {
        let why = "no packet goes to such a destination: it is refused before any rule".into();
        (why, "correct destination")
    } else {
        return None;
    };
    Some(Finding::about(Kind::NeverMatches, place, why, remedy))
}

/// A rule that lets strangers reach everything, or every port.
pub(super) fn wide_accept(gateway: &Gateway, world: &World<'_>, rule: usize) -> Option<Finding> {
    let written = &gateway.rules[rule];
    let outside = written
        .from
        .iter()
        .find(|zone| OUTSIDE.iter().any(|word| zone.as_str().starts_with(word)))?;
    let any_source = (written.source_members.is_none() && written.source.is_empty())
        || written.source.iter().any(|p| p.length() == 0);
    let any_destination = (written.destination_members.is_none() && written.destination.is_empty())
        || written.destination.iter().any(|p| p.length() == 0);
    let what = match written.protocol {
        Protocol::Any => "everything",
        Protocol::TCP | Protocol::UDP
            if written.destination_ports.is_empty()
                && written.destination_port_members.is_none() =>
        {
            "every port"
        }
        Protocol::Number(_) => return None,
    };
    if written.action != Action::Accept || !any_source || !any_destination {
        return None;
    }
    let to: Vec<_> = written.to.iter().map(ZoneName::as_str).collect();
    let why = format!("anybody in {outside} reaches {what} in {}", to.join(", "));
    let remedy = "name the ports, the sources or the destinations that are meant";
    Some(Finding::about(Kind::WideAccept, &world.places[rule], why, remedy))
}

/// Zones that no rule names.
pub(super) fn unused_zones(gateway: &Gateway) -> impl Iterator<Item = Finding> + '_ {
    let is_named = |zone: &ZoneName| {
        gateway.rules.iter().any(|rule| rule.from.contains(zone) || rule.to.contains(zone))
    };
    gateway.zones.keys().filter(move |zone| !is_named(zone)).map(Finding::unused_zone)
}

/// Whether there are prefixes, and each is within one of a list.
fn all_within(prefixes: &[Prefix], list: &[(&str, u8)]) -> bool {
    let list: Vec<Prefix> = list
        .iter()
        .filter_map(|(address, length)| Prefix::new(address.parse::<IpAddr>().ok()?, *length))
        .collect();
    let is_within = |prefix: &Prefix| {
        list.iter().any(|wide| wide.length() <= prefix.length() && wide.contains(prefix.address()))
    };
    !prefixes.is_empty() && prefixes.iter().all(is_within)
}
