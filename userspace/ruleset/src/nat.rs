//! Translation rules with their zones resolved, and what they become in a bank.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use nightgate_abi::{
    Address, Slot, ZoneId,
    nat::{Ports, Target, kind},
};
use nightgate_config::{
    Action, FlowMatch, Log, Nat, NewDestination, NewSource, PortRange, Prefix, Protocol, RuleId,
    TcpFlags,
};

use nightgate_packet::PacketMeta;

use crate::{
    classify,
    compile::{CompileError, CompiledRule, ZoneResolver},
    entry::{Entry, Sets, entries},
};

/// Translation rules with their zones resolved, in the order in which they are looked at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CompiledNat {
    /// For the destination of what comes in.
    pub destination: Vec<Translation>,
    /// For the source of what leaves.
    pub source: Vec<Translation>,
}

/// A translation rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Translation {
    /// Which flows: a rule that accepts.
    pub matching: CompiledRule,
    /// What their end becomes; the counter is that of the first rule.
    pub target: Target,
}

/// A group of rules with parameters as a bank holds it.
#[derive(Debug, Default)]
pub(crate) struct Lowered {
    pub(crate) entries: Vec<Entry>,
    pub(crate) parameters: BTreeMap<u32, Slot>,
}

impl CompiledNat {
    /// Whether there is nothing to translate.
    pub fn is_empty(&self) -> bool {
        self.destination.is_empty() && self.source.is_empty()
    }

    /// What becomes of the destination of a flow that comes in from a zone of interfaces: the rule that gives it
    /// another, and the packet with that.
    pub fn redirect(
        &self,
        from: ZoneId,
        packet: &PacketMeta,
    ) -> Option<(&Translation, PacketMeta)> {
        let found = first(&self.destination, (from, ZoneId::LOCAL), packet)?;
        let target = &found.target;
        let redirected = PacketMeta {
            destination: target.address_for(packet.destination),
            destination_port: target.destination_port(packet.destination_port),
            ..*packet
        };
        let is_other = target.kind != kind::UNCHANGED && redirected != *packet;
        is_other.then_some((found, redirected))
    }

    /// The rule that gives a flow that leaves for a zone of interfaces another source. The packet has the destination
    /// that [`CompiledNat::redirect`] gives it.
    pub fn disguise(&self, from: ZoneId, to: ZoneId, packet: &PacketMeta) -> Option<&Translation> {
        let found = first(&self.source, (from, to), packet)?;
        (found.target.kind != kind::UNCHANGED).then_some(found)
    }

    /// Names of all rules, each once, in order.
    pub fn ids(&self) -> Vec<&RuleId> {
        let mut ids: Vec<&RuleId> = Vec::new();
        for translation in self.destination.iter().chain(&self.source) {
            if !ids.contains(&&translation.matching.id) {
                ids.push(&translation.matching.id);
            }
        }
        ids
    }
}

fn first<'a>(
    list: &'a [Translation],
    (from, to): (ZoneId, ZoneId),
    packet: &PacketMeta,
) -> Option<&'a Translation> {
    list.iter().find(|translation| classify::matches(&translation.matching, from, to, packet))
}

/// Resolves the rules.
pub(crate) fn compile(
    nat: &Nat,
    zones: &ZoneResolver<'_>,
    errors: &mut Vec<CompileError>,
) -> CompiledNat {
    let mut compiled = CompiledNat::default();
    for rule in &nat.one_to_one {
        let everywhere = |id: &RuleId| rule_of(id, every_zone(zones), [ZoneId::LOCAL].into());
        let mut inward = everywhere(&rule.id);
        inward.destination = vec![rule.outside];
        let target = prefix_target(rule.inside);
        compiled.destination.push(Translation { matching: inward, target });
        let mut outward = everywhere(&rule.id);
        outward.to = zones.resolve(&rule.id, &rule.zones, errors);
        outward.source = vec![rule.inside];
        let target = prefix_target(rule.outside);
        compiled.source.push(Translation { matching: outward, target });
    }
    for rule in &nat.destination {
        let mut matching = resolve(&rule.id, &rule.matching, zones, errors);
        // Where a flow goes is not known before its destination is.
        matching.to = [ZoneId::LOCAL].into();
        restrict(&mut matching.destination, rule.becomes.is_ipv4());
        let target = destination_target(&rule.becomes, &rule.matching.destination_ports);
        compiled.destination.push(Translation { matching, target });
    }
    for rule in &nat.source {
        let mut matching = resolve(&rule.id, &rule.matching, zones, errors);
        restrict(&mut matching.source, rule.becomes.is_ipv4());
        compiled.source.push(Translation { matching, target: source_target(&rule.becomes) });
    }
    compiled
}

/// Lowers a group. `counter` gives the index of a rule's counter.
pub(crate) fn lower_group(
    translations: &[Translation],
    counter: impl Fn(&RuleId) -> u32,
) -> Lowered {
    let mut lowered = Lowered { entries: Vec::new(), parameters: BTreeMap::new() };
    // Translation rules name no sets.
    let mut sets = Sets::default();
    for (index, translation) in (0..).zip(translations) {
        lowered.entries.extend(entries(&translation.matching, index, &mut sets));
        let target = Target { counter: counter(&translation.matching.id), ..translation.target };
        lowered.parameters.insert(index, target.to_slot());
    }
    lowered
}

pub(crate) fn resolve(
    id: &RuleId,
    matching: &FlowMatch,
    zones: &ZoneResolver<'_>,
    errors: &mut Vec<CompileError>,
) -> CompiledRule {
    CompiledRule {
        source: matching.source.clone(),
        destination: matching.destination.clone(),
        protocol: matching.protocol,
        source_ports: matching.source_ports.clone(),
        destination_ports: matching.destination_ports.clone(),
        ..rule_of(
            id,
            zones.resolve(id, &matching.from, errors),
            zones.resolve(id, &matching.to, errors),
        )
    }
}

/// A rule that restricts nothing but zones.
pub(crate) fn rule_of(id: &RuleId, from: BTreeSet<ZoneId>, to: BTreeSet<ZoneId>) -> CompiledRule {
    CompiledRule {
        id: id.clone(),
        from,
        to,
        source: Vec::new(),
        destination: Vec::new(),
        protocol: Protocol::Any,
        source_ports: Vec::new(),
        destination_ports: Vec::new(),
        source_members: None,
        destination_members: None,
        source_port_members: None,
        destination_port_members: None,
        icmp_types: Vec::new(),
        tcp_flags: TcpFlags::default(),
        dscp: BTreeSet::new(),
        source_mac: Vec::new(),
        action: Action::Accept,
        limit: None,
        connections: None,
        log: Log::No,
    }
}

fn every_zone(zones: &ZoneResolver<'_>) -> BTreeSet<ZoneId> {
    zones.all().filter(|zone| *zone != ZoneId::OVERLAY).collect()
}

/// Restricts prefixes that restrict nothing to a family.
fn restrict(prefixes: &mut Vec<Prefix>, is_ipv4: Option<bool>) {
    if prefixes.is_empty()
        && let Some(is_ipv4) = is_ipv4
    {
        let any = if is_ipv4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        prefixes.extend(Prefix::new(any, 0));
    }
}

fn prefix_target(prefix: Prefix) -> Target {
    let width = if prefix.is_ipv4() { 32 } else { 128 };
    let hosts = u128::MAX.checked_shr(128 - (width - u32::from(prefix.length()))).unwrap_or(0);
    Target {
        kind: kind::ADDRESS,
        address: prefix.address().into(),
        kept: Address::from_v6(hosts.to_be_bytes()).halves(),
        ..Target::default()
    }
}

fn destination_target(becomes: &NewDestination, old: &[PortRange]) -> Target {
    match becomes {
        NewDestination::Unchanged => Target::default(),
        NewDestination::Host { address, ports } => Target {
            kind: kind::ADDRESS,
            address: (*address).into(),
            ports: ports.map_or(Ports::ANY, |new| Ports {
                replaced: old.first().map_or_else(|| new.low(), PortRange::low),
                ..choice(new)
            }),
            ..Target::default()
        },
    }
}

fn source_target(becomes: &NewSource) -> Target {
    let ports = becomes.ports().map_or(Ports::ANY, choice);
    match becomes {
        NewSource::Unchanged => Target::default(),
        NewSource::Masquerade { .. } => {
            Target { kind: kind::INTERFACE, ports, ..Target::default() }
        }
        NewSource::Addresses { low, high, .. } => Target {
            kind: kind::ADDRESS,
            address: (*low).into(),
            address_span: low_half(*high) - low_half(*low),
            ports,
            ..Target::default()
        },
    }
}

fn choice(ports: PortRange) -> Ports {
    Ports { low: ports.low(), span: ports.high() - ports.low(), replaced: 0 }
}

/// The last 64 bits of an address.
fn low_half(address: IpAddr) -> u64 {
    let [_, low] = Address::from(address).halves();
    u64::from_be(low)
}

/// How operators read what a rule makes of an end.
impl std::fmt::Display for Translation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let target = &self.target;
        match target.kind {
            kind::UNCHANGED => f.write_str("unchanged")?,
            kind::INTERFACE => f.write_str("masquerade")?,
            _ => {
                write!(f, "{}", target.address.to_ip())?;
                let [high, low] = target.address.halves();
                if target.address_span > 0 {
                    let last = (u64::from_be(low) + target.address_span).to_be();
                    write!(f, "-{}", Address::from_halves([high, last]).to_ip())?;
                }
                let hosts = target.kept.iter().map(|half| half.count_ones()).sum::<u32>();
                if hosts > 0 {
                    let width = if target.address.to_ip().is_ipv4() { 32 } else { 128 };
                    write!(f, "/{}", width - hosts)?;
                }
            }
        }
        let Ports { low, span, .. } = target.ports;
        match PortRange::new(low, low.saturating_add(span)) {
            Some(ports) if target.ports != Ports::ANY => write!(f, " ports {ports}"),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use nightgate_config::parse;

    use super::*;
    use crate::compile::compile as compile_gateway;

    const CONFIG: &str = "
version: 1
router: { identity: gw.json }
zones: { lan: { interfaces: [lan0] }, wan: { interfaces: [und0] } }
nat:
  one_to_one:
    - { id: dmz, zone: wan, outside: 203.0.113.16/28, inside: 10.3.0.0/28 }
  destination:
    - { id: web, from: wan, protocol: tcp, destination_ports: 8000-8009, becomes: 10.1.0.10, becomes_ports: 80-89 }
  source:
    - { id: out, from: [lan, local], to: wan, becomes: masquerade }
    - { id: pool, from: lan, to: wan, protocol: udp, becomes: 198.51.100.8/30, becomes_ports: 1024-2047 }
    - { id: rest, from: lan, to: wan, becomes: unchanged }
";

    fn nat() -> CompiledNat {
        let gateway = parse(CONFIG, "gw.yaml").unwrap().gateway.unwrap();
        compile_gateway(&gateway).unwrap().nat().clone()
    }

    #[test]
    fn rules_are_described_as_they_were_written() {
        let texts = |list: &[Translation]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let nat = nat();
        assert_eq!(texts(&nat.destination), ["10.3.0.0/28", "10.1.0.10 ports 80-89"]);
        let source = [
            "203.0.113.16/28",
            "masquerade",
            "198.51.100.8-198.51.100.11 ports 1024-2047",
            "unchanged",
        ];
        assert_eq!(texts(&nat.source), source);
    }

    #[test]
    fn a_rule_for_both_directions_has_one_counter() {
        let nat = nat();
        let ids: Vec<_> = nat.ids().into_iter().map(RuleId::as_str).collect();
        assert_eq!(ids, ["dmz", "web", "out", "pool", "rest"]);
        let counter = |id: &RuleId| u32::try_from(id.as_str().len()).unwrap();
        let lowered = lower_group(&nat.destination, counter);
        let target = |rule| Target::from_slot(&lowered.parameters[&rule]);
        assert_eq!((target(0).counter, target(1).counter), (3, 3));
        assert_eq!(target(1).destination_port(8004), 84);
    }

    #[test]
    fn a_rule_without_prefixes_is_about_the_family_of_its_new_address() {
        let nat = nat();
        assert_eq!(nat.destination[1].matching.destination[0].to_string(), "0.0.0.0/0");
        assert!(nat.source[1].matching.source.is_empty(), "masquerade: both families");
    }

    #[test]
    fn a_prefix_keeps_its_hosts() {
        let target = nat().source[0].target;
        let new = target.address_for(Address::from_v4([10, 3, 0, 9]));
        assert_eq!(new, Address::from_v4([203, 0, 113, 25]));
    }
}
