//! Rules with their zones resolved, within the limits of the kernel programs.

use std::collections::{BTreeMap, BTreeSet};

use nightgate_abi::{ZoneId, ether::EtherTypes, limits, mss::MssBounds};
use nightgate_config::{
    Action, ConnectionLimit, Dscp, Gateway, IcmpType, Log, MacAddress, PortRange, Prefix, Protocol,
    RateLimit, Rule, RuleId, Set, SetName, TcpFlags, Tracking, Zone, ZoneName,
};

use crate::{
    guard::{self, GuardImage},
    members::{Members, Resolver},
    mirror::{self, CompiledMirror},
    mss,
    nat::{self, CompiledNat},
};

/// A compiled rule set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RuleSet {
    zones: BTreeMap<ZoneName, ZoneId>,
    rules: Vec<CompiledRule>,
    tracking: Tracking,
    unmatched: Log,
    guards: Vec<GuardImage>,
    nat: CompiledNat,
    mirror: CompiledMirror,
    pass_through: Vec<(ZoneId, EtherTypes)>,
    mss: MssBounds,
}

/// A rule with its zones resolved. Empty lists restrict nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CompiledRule {
    /// Name.
    pub id: RuleId,
    /// Zones the packet may come from.
    pub from: BTreeSet<ZoneId>,
    /// Zones it may go to.
    pub to: BTreeSet<ZoneId>,
    /// Prefixes the source may be in.
    pub source: Vec<Prefix>,
    /// Prefixes the destination may be in.
    pub destination: Vec<Prefix>,
    /// Protocol.
    pub protocol: Protocol,
    /// Source ports.
    pub source_ports: Vec<PortRange>,
    /// Destination ports.
    pub destination_ports: Vec<PortRange>,
    /// What the source has to be among, or must not be.
    pub source_members: Option<Members<Prefix>>,
    /// What the destination has to be among, or must not be.
    pub destination_members: Option<Members<Prefix>>,
    /// What the source port has to be among, or must not be.
    pub source_port_members: Option<Members<PortRange>>,
    /// What the destination port has to be among, or must not be.
    pub destination_port_members: Option<Members<PortRange>>,
    /// ICMP or ICMPv6 messages.
    pub icmp_types: Vec<IcmpType>,
    /// TCP flags.
    pub tcp_flags: TcpFlags,
    /// Code points.
    pub dscp: BTreeSet<Dscp>,
    /// Source MAC addresses.
    pub source_mac: Vec<MacAddress>,
    /// What becomes of the packet.
    pub action: Action,
    /// How fast flows may begin.
    pub limit: Option<RateLimit>,
    /// How many flows there may be.
    pub connections: Option<ConnectionLimit>,
    /// Whether the first packets of its flows, and its refusals, are logged.
    pub log: Log,
}

/// A rule set that the kernel programs cannot hold, or that names what is not there.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// Too many zones.
    #[error("compile zones: {count} configured, expected at most {limit}")]
    Zones {
        /// Configured zones.
        count: usize,
        /// How many fit.
        limit: usize,
    },
    /// Too many rules.
    #[error("compile rules: {count} configured, expected at most {limit}")]
    Rules {
        /// Configured rules.
        count: usize,
        /// How many fit.
        limit: usize,
    },
    /// The rules have too many combinations of what their lists hold.
    #[error(
        "compile rules: {count} combinations of prefixes, port ranges, ICMP types and MAC addresses up to rule {rule}, \
         expected at most {limit} in all: merge some, or split the rule"
    )]
    Entries {
        /// Rule that goes beyond the limit.
        rule: RuleId,
        /// Combinations up to and with that rule.
        count: usize,
        /// How many fit.
        limit: usize,
    },
    /// A set is too large.
    #[error("compile set {set}: {count} entries, expected at most {limit}: make two sets of it")]
    Set {
        /// The set.
        set: SetName,
        /// Its entries.
        count: usize,
        /// How many fit.
        limit: usize,
    },
    /// The sets that rules combine are too large together.
    #[error(
        "compile rules: {count} entries of sets up to rule {rule}, expected at most {limit} in all: name sets \
         by themselves, so that rules share them"
    )]
    Sets {
        /// Rule that goes beyond the limit.
        rule: RuleId,
        /// Entries up to and with that rule; of sets that rules share, once.
        count: usize,
        /// How many fit.
        limit: usize,
    },
    /// Too many prefixes to block or allow.
    #[error(
        "compile zones: {count} prefixes under block and allow, expected at most {limit} in all: merge some"
    )]
    GuardPrefixes {
        /// Configured prefixes.
        count: usize,
        /// How many fit.
        limit: usize,
    },
    /// A rule names a zone that is not configured.
    #[error("compile rule {rule}: unknown zone {zone}, expected one under zones, local or overlay")]
    UnknownZone {
        /// The rule.
        rule: RuleId,
        /// The zone.
        zone: ZoneName,
    },
}

/// Compiles a gateway's zones and rules. Zones are numbered in the order of their names.
///
/// # Errors
/// Everything that exceeds a limit or does not resolve.
pub fn compile(gateway: &Gateway) -> Result<RuleSet, Vec<CompileError>> {
    let mut errors = Vec::new();
    let zones = number_zones(gateway, &mut errors);
    let limit = limits::RULES as usize;
    check_sets(gateway, &mut errors);
    let mut members = Resolver::new(&gateway.sets);
    let resolver = ZoneResolver(&zones);
    let rules: Vec<CompiledRule> = gateway
        .rules
        .iter()
        .map(|rule| resolve(rule, &resolver, &mut members, &mut errors))
        .collect();
    let nat = nat::compile(&gateway.nat, &resolver, &mut errors);
    let mirror = mirror::compile(gateway.mirror.as_ref(), &resolver, &mut errors);
    let number = rules.len() + nat.ids().len();
    if number > limit {
        errors.push(CompileError::Rules { count: number, limit });
    }
    let guards: Vec<GuardImage> = gateway
        .zones
        .iter()
        .filter(|(_, zone)| zone.guard.is_asked_for())
        .filter_map(|(name, zone)| {
            Some(guard::lower(*zones.get(name)?, &zone.guard, &gateway.sets))
        })
        .collect();
    let (count, limit) = (guards.iter().map(|g| g.prefixes.len()).sum(), limits::GUARD_PREFIXES);
    if count > limit {
        errors.push(CompileError::GuardPrefixes { count, limit });
    }
    let mut count = 0;
    let translations = nat.destination.iter().chain(&nat.source);
    let matching = translations.map(|translation| &translation.matching).chain(mirror.rules());
    for rule in rules.iter().chain(matching) {
        count += rule.combinations();
        if count > limits::RULE_ENTRIES {
            let rule = rule.id.clone();
            errors.push(CompileError::Entries { rule, count, limit: limits::RULE_ENTRIES });
            break;
        }
    }
    check_members(&rules, &mut errors);
    if errors.is_empty() {
        let (tracking, unmatched) = (gateway.tracking, gateway.log_unmatched);
        let pass_through = pass_through(gateway, &zones);
        let mss = mss::lower(&gateway.zones, &zones);
        Ok(RuleSet { zones, rules, nat, mirror, tracking, unmatched, guards, pass_through, mss })
    } else {
        Err(errors)
    }
}

/// What zones let pass beside IP and ARP.
fn pass_through(
    gateway: &Gateway,
    zones: &BTreeMap<ZoneName, ZoneId>,
) -> Vec<(ZoneId, EtherTypes)> {
    let lower = |(name, zone): (&ZoneName, &Zone)| {
        let mut types = EtherTypes::default();
        for (slot, found) in types.0.iter_mut().zip(&zone.pass_through) {
            *slot = found.number();
        }
        Some((*zones.get(name)?, types))
    };
    gateway.zones.iter().filter_map(lower).collect()
}

impl RuleSet {
    /// Zones by name, the reserved ones included.
    pub fn zones(&self) -> &BTreeMap<ZoneName, ZoneId> {
        &self.zones
    }

    /// Name of a zone by its number.
    pub fn zone_name(&self, zone: ZoneId) -> Option<&ZoneName> {
        self.zones.iter().find(|(_, number)| **number == zone).map(|(name, _)| name)
    }

    /// How flows are kept.
    pub fn tracking(&self) -> &Tracking {
        &self.tracking
    }

    /// Whether packets that match no rule are logged.
    pub fn unmatched(&self) -> Log {
        self.unmatched
    }

    /// Bounds of TCP segments.
    pub fn mss(&self) -> MssBounds {
        self.mss
    }

    /// What zones let pass beside IP and ARP.
    pub fn pass_through(&self) -> &[(ZoneId, EtherTypes)] {
        &self.pass_through
    }

    /// What zones guard themselves against; those that ask for it.
    pub fn guards(&self) -> &[GuardImage] {
        &self.guards
    }

    /// The rules in order.
    pub fn rules(&self) -> &[CompiledRule] {
        &self.rules
    }

    /// Filters of mirror sessions.
    pub fn mirror(&self) -> &CompiledMirror {
        &self.mirror
    }

    /// Address translation.
    pub fn nat(&self) -> &CompiledNat {
        &self.nat
    }
}

impl CompiledRule {
    /// The pairs of source and destination prefixes that a packet can be in both of.
    pub(crate) fn prefix_pairs(&self) -> Vec<(Option<Prefix>, Option<Prefix>)> {
        let sources = alternatives(&self.source);
        let destinations = alternatives(&self.destination);
        sources
            .iter()
            .flat_map(|source| destinations.iter().map(|destination| (*source, *destination)))
            .filter(|(source, destination)| match (source, destination) {
                (Some(source), Some(destination)) => source.is_ipv4() == destination.is_ipv4(),
                (Some(_), None) | (None, Some(_) | None) => true,
            })
            .collect()
    }

    /// Entries the rule takes in a bank.
    fn combinations(&self) -> usize {
        self.prefix_pairs().len()
            * self.source_ports.len().max(1)
            * self.destination_ports.len().max(1)
            * self.icmp_types.len().max(1)
            * self.source_mac.len().max(1)
    }
}

/// The elements of a list, or one that restricts nothing.
pub(crate) fn alternatives<T: Copy>(list: &[T]) -> Vec<Option<T>> {
    if list.is_empty() { vec![None] } else { list.iter().copied().map(Some).collect() }
}

fn check_sets(gateway: &Gateway, errors: &mut Vec<CompileError>) {
    let limit = limits::SET_ENTRIES;
    for (name, set) in &gateway.sets {
        let count = match set {
            Set::Addresses(prefixes) => prefixes.len(),
            Set::Ports(ports) => ports.len(),
        };
        if count > limit {
            errors.push(CompileError::Set { set: name.clone(), count, limit });
        }
    }
}

/// Reports the rule with which the sets go beyond what a bank holds.
fn check_members(rules: &[CompiledRule], errors: &mut Vec<CompileError>) {
    let limit = limits::SETS_ENTRIES;
    let mut seen = BTreeSet::new();
    let mut count = 0;
    for rule in rules {
        let addresses = [&rule.source_members, &rule.destination_members];
        let ports = [&rule.source_port_members, &rule.destination_port_members];
        let addresses =
            addresses.into_iter().flatten().map(|m| (m.all.as_ptr().addr(), m.all.len()));
        let ports = ports.into_iter().flatten().map(|m| (m.all.as_ptr().addr(), m.all.len()));
        for (place, entries) in addresses.chain(ports) {
            count += if seen.insert(place) { entries } else { 0 };
        }
        if count > limit {
            errors.push(CompileError::Sets { rule: rule.id.clone(), count, limit });
            return;
        }
    }
}

fn number_zones(gateway: &Gateway, errors: &mut Vec<CompileError>) -> BTreeMap<ZoneName, ZoneId> {
    let limit = limits::ZONES - usize::from(ZoneId::FIRST.number());
    if gateway.zones.len() > limit {
        errors.push(CompileError::Zones { count: gateway.zones.len(), limit });
    }
    let reserved =
        [(ZoneName::local(), ZoneId::LOCAL), (ZoneName::overlay(), ZoneId::OVERLAY)].into_iter();
    let numbers = (ZoneId::FIRST.number()..).map_while(ZoneId::new);
    reserved.chain(gateway.zones.keys().cloned().zip(numbers)).collect()
}

/// Numbers of zones by name.
pub(crate) struct ZoneResolver<'a>(&'a BTreeMap<ZoneName, ZoneId>);

impl ZoneResolver<'_> {
    /// The numbers of the zones that a rule names.
    pub(crate) fn resolve(
        &self,
        rule: &RuleId,
        names: &BTreeSet<ZoneName>,
        errors: &mut Vec<CompileError>,
    ) -> BTreeSet<ZoneId> {
        let mut ids = BTreeSet::new();
        for name in names {
            match self.0.get(name) {
                Some(id) => _ = ids.insert(*id),
                None => errors
                    .push(CompileError::UnknownZone { rule: rule.clone(), zone: name.clone() }),
            }
        }
        ids
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = ZoneId> + '_ {
        self.0.values().copied()
    }
}

fn resolve(
    rule: &Rule,
    zones: &ZoneResolver<'_>,
    members: &mut Resolver<'_>,
    errors: &mut Vec<CompileError>,
) -> CompiledRule {
    let mut ids = |names| zones.resolve(&rule.id, names, errors);
    CompiledRule {
        id: rule.id.clone(),
        from: ids(&rule.from),
        to: ids(&rule.to),
        source: rule.source.clone(),
        destination: rule.destination.clone(),
        protocol: rule.protocol,
        source_ports: rule.source_ports.clone(),
        destination_ports: rule.destination_ports.clone(),
        source_members: members.addresses(rule.source_members.as_ref()),
        destination_members: members.addresses(rule.destination_members.as_ref()),
        source_port_members: members.ports(rule.source_port_members.as_ref()),
        destination_port_members: members.ports(rule.destination_port_members.as_ref()),
        icmp_types: rule.icmp_types.clone(),
        tcp_flags: rule.tcp_flags,
        dscp: rule.dscp.clone(),
        source_mac: rule.source_mac.clone(),
        action: rule.action,
        limit: rule.limit,
        connections: rule.connections,
        log: rule.log,
    }
}
