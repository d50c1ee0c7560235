//! Rules with their zones resolved, within the limits of the kernel programs.

use std::collections::{BTreeMap, BTreeSet};

use nightgate_abi::{ZoneId, limits};
use nightgate_config::{Action, Gateway, PortRange, Prefix, Protocol, Rule, RuleId, ZoneName};

/// A compiled rule set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RuleSet {
    zones: BTreeMap<ZoneName, ZoneId>,
    rules: Vec<CompiledRule>,
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
    /// What becomes of the packet.
    pub action: Action,
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
    /// The rules have too many combinations of prefixes and port ranges.
    #[error(
        "compile rules: {count} combinations of prefixes and port ranges up to rule {rule}, expected at \
         most {limit} in all: merge prefixes or ranges"
    )]
    Entries {
        /// Rule that goes beyond the limit.
        rule: RuleId,
        /// Combinations up to and with that rule.
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
    if gateway.rules.len() > limit {
        errors.push(CompileError::Rules { count: gateway.rules.len(), limit });
    }
    let rules: Vec<CompiledRule> =
        gateway.rules.iter().map(|rule| resolve(rule, &zones, &mut errors)).collect();
    let mut count = 0;
    for rule in &rules {
        count += rule.combinations();
        if count > limits::RULE_ENTRIES {
            let rule = rule.id.clone();
            errors.push(CompileError::Entries { rule, count, limit: limits::RULE_ENTRIES });
            break;
        }
    }
    if errors.is_empty() { Ok(RuleSet { zones, rules }) } else { Err(errors) }
}

impl RuleSet {
    /// Zones by name, the reserved ones included.
    pub fn zones(&self) -> &BTreeMap<ZoneName, ZoneId> {
        &self.zones
    }

    /// The rules in order.
    pub fn rules(&self) -> &[CompiledRule] {
        &self.rules
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
    }
}

/// The elements of a list, or one that restricts nothing.
pub(crate) fn alternatives<T: Copy>(list: &[T]) -> Vec<Option<T>> {
    if list.is_empty() { vec![None] } else { list.iter().copied().map(Some).collect() }
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

fn resolve(
    rule: &Rule,
    zones: &BTreeMap<ZoneName, ZoneId>,
    errors: &mut Vec<CompileError>,
) -> CompiledRule {
    let mut ids = |names: &BTreeSet<ZoneName>| {
        let mut ids = BTreeSet::new();
        for name in names {
            match zones.get(name) {
                Some(id) => _ = ids.insert(*id),
                None => errors
                    .push(CompileError::UnknownZone { rule: rule.id.clone(), zone: name.clone() }),
            }
        }
        ids
    };
    CompiledRule {
        id: rule.id.clone(),
        from: ids(&rule.from),
        to: ids(&rule.to),
        source: rule.source.clone(),
        destination: rule.destination.clone(),
        protocol: rule.protocol,
        source_ports: rule.source_ports.clone(),
        destination_ports: rule.destination_ports.clone(),
        action: rule.action,
    }
}
