//! The rule set as the kernel reads it.

use std::{collections::BTreeMap, time::Duration};

use nightgate_abi::{
    Features, Settings, Slot, ZoneId, ether::EtherTypes, limit::Limits, mss::MssBounds,
};
use nightgate_config::{Log, Pickup, RuleId, Tracking, ZoneName};

use crate::{
    compile::RuleSet,
    entry::{Entry, Sets, entries},
    forest::{self, Grove},
    guard::GuardImage,
    limit, mirror, nat,
};

/// What a commit writes: plain values, the same for the same rule set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MapImage {
    zones: BTreeMap<ZoneName, ZoneId>,
    rules: Vec<RuleId>,
    entries: Vec<Entry>,
    slots: Vec<Slot>,
    limits: BTreeMap<u32, Limits>,
    settings: Settings,
    features: Features,
    guards: Vec<GuardImage>,
    pass_through: Vec<(ZoneId, EtherTypes)>,
}

impl MapImage {
    /// Zones by name, the reserved ones included.
    pub fn zones(&self) -> &BTreeMap<ZoneName, ZoneId> {
        &self.zones
    }

    /// What the programs have to do beyond the filter.
    pub fn features(&self) -> Features {
        self.features
    }

    /// What zones let pass beside IP and ARP.
    pub fn pass_through(&self) -> &[(ZoneId, EtherTypes)] {
        &self.pass_through
    }

    /// What zones guard themselves against; those that ask for it.
    pub fn guards(&self) -> &[GuardImage] {
        &self.guards
    }

    /// Limits of the rules that have any, by the index of the rule in the bank.
    pub fn limits(&self) -> &BTreeMap<u32, Limits> {
        &self.limits
    }

    /// Names of the rules by the index of their counter in the bank: those of the filter, then translation rules.
    pub fn rules(&self) -> &[RuleId] {
        &self.rules
    }

    /// The entries of the filter's rules in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How flows are kept.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The bank: the entries in the leaves of trees.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

impl RuleSet {
    /// Lowers the rule set for the kernel, where mirror sessions have their places as numbers.
    pub fn image(&self) -> MapImage {
        self.image_with(mirror::claim_by_place)
    }

    /// Lowers the rule set for the kernel. `claims` gives the claim of a mirror session (`nightgate_abi::mirror::claim`)
    /// by its index in the configuration; 0 for none.
    pub fn image_with(&self, claims: impl Fn(u16) -> u16) -> MapImage {
        let mut sets = Sets::default();
        let rules = self.rules().iter().zip(0..);
        let entries: Vec<_> =
            rules.flat_map(|(rule, index)| entries(rule, index, &mut sets)).collect();
        let mut rules: Vec<RuleId> = self.rules().iter().map(|rule| rule.id.clone()).collect();
        rules.extend(self.nat().ids().into_iter().cloned());
        let counters: BTreeMap<&RuleId, u32> = rules.iter().zip(0..).collect();
        let [destination, source] = [&self.nat().destination, &self.nat().source]
            .map(|group| nat::lower_group(group, |id| counters[id]));
        let limits: BTreeMap<u32, Limits> = (0..)
            .zip(self.rules())
            .filter_map(|(index, rule)| Some((index, limit::lower(rule)?)))
            .collect();
        let parameters =
            limits.iter().map(|(index, limits)| (*index, limit::slot(limits))).collect();
        let mirrored = mirror::lower(self.mirror(), claims);
        let slots = forest::compile([
            Grove { entries: &entries, sets: &sets.bounds, parameters: &parameters },
            Grove { entries: &destination.entries, sets: &[], parameters: &destination.parameters },
            Grove { entries: &source.entries, sets: &[], parameters: &source.parameters },
            Grove { entries: &mirrored.entries, sets: &[], parameters: &mirrored.parameters },
        ]);
        MapImage {
            zones: self.zones().clone(),
            rules,
            slots,
            entries,
            features: self.features(&limits),
            limits,
            settings: Settings { mss: self.mss(), ..settings(self.tracking()) },
            guards: self.guards().to_vec(),
            pass_through: self.pass_through().to_vec(),
        }
    }
}

impl RuleSet {
    /// What the programs have to do for it beyond the filter.
    fn features(&self, limits: &BTreeMap<u32, Limits>) -> Features {
        let limits = limits.values().any(|limits| limits.connections.is_some());
        let log = self.rules().iter().any(|rule| rule.log == Log::Yes);
        let used = [
            (!self.nat().is_empty(), Features::NAT),
            (!self.mirror().is_empty(), Features::MIRROR),
            (limits, Features::LIMITS),
            (self.mss() != MssBounds::NONE, Features::CLAMP_MSS),
            (log, Features::LOG),
            (self.unmatched() == Log::Yes, Features::LOG_UNMATCHED),
        ];
        let used = used.into_iter().filter(|(is_used, _)| *is_used);
        used.fold(Features::NONE, |set, (_, feature)| set.with(feature))
    }
}

fn settings(tracking: &Tracking) -> Settings {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let timeouts = &tracking.timeouts;
    Settings {
        tcp_opening: seconds(timeouts.tcp_opening),
        tcp_established: seconds(timeouts.tcp_established),
        tcp_closing: seconds(timeouts.tcp_closing),
        udp_opening: seconds(timeouts.udp_opening),
        udp: seconds(timeouts.udp),
        icmp: seconds(timeouts.icmp),
        other: seconds(timeouts.other),
        picks_up: match tracking.pickup {
            Pickup::Allow => 1,
            Pickup::Refuse => 0,
        },
        ..Settings::DEFAULT
    }
}
