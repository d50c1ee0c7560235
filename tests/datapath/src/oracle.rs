//! The reference classifier beside the kernel programs.

use std::collections::{BTreeMap, HashMap};

use nightgate_abi::{FlowKey, Reason, reason::Kind};
use nightgate_config::{Action, RuleId, Sense};
use nightgate_datapath::Hook;
use nightgate_packet::{Packet, PacketMeta, parse};
use nightgate_ruleset::{CompiledRule, Members, Verdict, ZoneName, classify, counting_rule};

use crate::{LAN, WAN, World};

/// What becomes of a packet, without saying by which rule.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fate {
    /// A rule accepts it.
    Accepted,
    /// A rule drops it.
    Dropped,
    /// A rule rejects it.
    Rejected,
    /// No rule matches it.
    NoRule,
}

/// A packet, and where it is seen.
#[derive(Clone, Debug)]
pub struct Journey {
    /// `lan`, `wan` or `local`, and with `local` it leaves by `wan`.
    pub from: &'static str,
    /// The zone that its destination is in.
    pub to: &'static str,
    /// The packet.
    pub frame: Vec<u8>,
}

/// Compares verdicts packet by packet, and the rules they come from by the counters.
#[derive(Debug, Default)]
pub struct Oracle {
    /// What has been said of each flow. The flow tables know flows across commits, by their first packet.
    flows: HashMap<FlowKey, (&'static str, Vec<u8>)>,
    /// Packets by rule since the last look at the counters.
    counts: BTreeMap<RuleId, u64>,
    /// Packets by fate.
    fates: BTreeMap<Fate, usize>,
    /// Packets by what the rules ask that decide or count them.
    dimensions: BTreeMap<&'static str, usize>,
    packets: usize,
}

/// What rules can ask for beside zones, prefixes, protocols and ports, and what they can do beside deciding.
const DIMENSIONS: [&str; 8] =
    ["::/0", "count", "dscp", "icmp_types", "not", "set", "source_mac", "tcp_flags"];

impl Oracle {
    /// Sends a packet, and compares what becomes of it. `None` for a packet that says something else of its flow than
    /// an earlier one: the flow tables would decide, not the rules.
    ///
    /// # Errors
    /// Reference and kernel do not agree.
    pub fn compare(
        &mut self,
        world: &mut World<'_>,
        journey: &Journey,
    ) -> Result<Option<Fate>, String> {
        let Journey { from, to, frame } = journey;
        let Ok(Packet::Ip(meta)) = parse(&frame.as_slice()) else {
            return Err(format!("no well-formed IP packet: {journey:?}"));
        };
        let (key, _) = meta.flow_key();
        let known = self.flows.entry(key).or_insert_with(|| (*from, frame.clone()));
        if *known != (*from, frame.clone()) {
            return Ok(None);
        }
        let expected = self.expect(world, (from, to), &meta);
        let reason = match *from {
            "local" => world.probe(Hook::Egress, WAN, None, frame),
            "lan" => world.probe(Hook::Ingress, LAN, None, frame),
            _ => world.probe(Hook::Ingress, WAN, None, frame),
        }
        .reason;
        let agrees = match expected {
            Fate::Accepted => reason.kind() == Kind::Pass,
            Fate::Dropped => reason == Reason::Rule,
            Fate::Rejected => reason == Reason::Rejected,
            Fate::NoRule => reason == Reason::NoRule,
        };
        if !agrees {
            return Err(format!("{reason}, expected {expected:?}: {journey:?}"));
        }
        self.packets += 1;
        *self.fates.entry(expected).or_default() += 1;
        Ok(Some(expected))
    }

    /// What the reference says, with the counts that follow from it.
    fn expect(&mut self, world: &World<'_>, ways: (&str, &str), meta: &PacketMeta) -> Fate {
        let zone = |name| world.rules.zones()[&ZoneName::new(name).expect("a zone's name")];
        let (from, to) = (zone(ways.0), zone(ways.1));
        let (rule, fate) = match classify(&world.rules, from, to, meta) {
            Verdict::Accept(rule) => (Some(rule), Fate::Accepted),
            Verdict::Drop(rule) => (Some(rule), Fate::Dropped),
            Verdict::Reject(rule) => (Some(rule), Fate::Rejected),
            Verdict::NoRule => (None, Fate::NoRule),
        };
        for index in rule.into_iter().chain(counting_rule(&world.rules, from, to, meta)) {
            let rule = &world.rules.rules()[index];
            *self.counts.entry(rule.id.clone()).or_default() += 1;
            for dimension in dimensions(rule) {
                *self.dimensions.entry(dimension).or_default() += 1;
            }
        }
        fate
    }

    /// Compares the counters of the rules in force, whose names no rules before them had, with the packets since the
    /// last time.
    ///
    /// # Errors
    /// They do not agree, or cannot be read.
    pub fn compare_counts(&mut self, world: &World<'_>) -> Result<(), String> {
        let hits = world.datapath.rule_hits().map_err(|error| error.to_string())?.into_iter();
        let counted: BTreeMap<_, _> = hits
            .map(|(rule, hits)| (rule, hits.counter.packets))
            .filter(|(_, packets)| *packets != 0)
            .collect();
        let expected = std::mem::take(&mut self.counts);
        if counted == expected {
            Ok(())
        } else {
            Err(format!("rules counted {counted:?}, expected {expected:?}"))
        }
    }

    /// How many packets were compared. Fewer than one in `shares` with some fate, or decided or counted by rules that
    /// ask for something, would prove little about it.
    ///
    /// # Panics
    /// There were so few.
    pub fn packets(&self, shares: [usize; 2]) -> usize {
        let [of_fates, of_dimensions] = shares.map(|share| Some(self.packets / share));
        for fate in [Fate::Accepted, Fate::Dropped, Fate::Rejected, Fate::NoRule] {
            assert!(self.fates.get(&fate).copied() >= of_fates, "{fate:?}: {self}");
        }
        for dimension in DIMENSIONS {
            let found = self.dimensions.get(dimension).copied();
            assert!(found >= of_dimensions, "{dimension}: {self}");
        }
        self.packets
    }
}

impl std::fmt::Display for Oracle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} packets: {:?}, {:?}", self.packets, self.fates, self.dimensions)
    }
}

/// Those of [`DIMENSIONS`] that a rule has.
fn dimensions(rule: &CompiledRule) -> impl Iterator<Item = &'static str> {
    let mut prefixes = rule.source.iter().chain(&rule.destination);
    let has_everything = prefixes.any(|prefix| !prefix.is_ipv4() && prefix.length() == 0);
    let members = [
        sense_and_sets(rule.source_members.as_ref()),
        sense_and_sets(rule.destination_members.as_ref()),
        sense_and_sets(rule.source_port_members.as_ref()),
        sense_and_sets(rule.destination_port_members.as_ref()),
    ];
    let members: Vec<_> = members.into_iter().flatten().collect();
    let found = [
        has_everything,
        rule.action == Action::Count,
        !rule.dscp.is_empty(),
        !rule.icmp_types.is_empty(),
        members.iter().any(|(sense, _)| *sense == Sense::NotIn),
        members.iter().any(|(_, sets)| *sets != 0),
        !rule.source_mac.is_empty(),
        !rule.tcp_flags.is_any(),
    ];
    DIMENSIONS.into_iter().zip(found).filter_map(|(name, found)| found.then_some(name))
}

fn sense_and_sets<T>(members: Option<&Members<T>>) -> Option<(Sense, usize)> {
    members.map(|members| (members.membership.sense, members.membership.sets.len()))
}
