//! What differs between two configurations.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use nightgate_config::{FlowRecords, Gateway, RuleId};
use serde::Serialize;

/// One difference between two configurations.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Difference {
    /// What happens.
    pub change: Change,
    /// To what kind of thing.
    pub what: Subject,
    /// Its name.
    pub name: String,
}

/// What happens to a thing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is new.
    Added,
    /// It goes.
    Removed,
    /// It stays, and says something else.
    Changed,
    /// It stays as it is, behind or before other rules than now.
    Moved,
}

/// A kind of thing in a configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A zone.
    Zone,
    /// An interface in a zone.
    Interface,
    /// A set of addresses or ports.
    Set,
    /// A rule.
    Rule,
    /// How flows are kept: `timeouts` or `tcp`.
    Tracking,
    /// What is logged beside what rules ask for.
    Log,
    /// A rule of address translation.
    NatRule,
    /// An address that the private DNS listens on.
    DnsAddress,
    /// A sensor of the mirror.
    Sensor,
    /// A session of the mirror.
    MirrorSession,
    /// What is told of flows: an output, or how often.
    FlowRecords,
}

/// Everything that differs, in the order of a configuration file.
pub(super) fn differences(old: &Gateway, new: &Gateway) -> Vec<Difference> {
    // Interfaces are listed by themselves.
    let zones = |gateway: &Gateway| -> BTreeMap<_, _> {
        gateway.zones.iter().map(|(name, zone)| (name.clone(), zone.guard.clone())).collect()
    };
    let interfaces = |gateway: &Gateway| -> BTreeMap<_, _> {
        let zones = gateway.zones.iter();
        zones.flat_map(|(zone, v)| v.interfaces.iter().map(|i| (i.clone(), zone.clone()))).collect()
    };
    let addresses = |gateway: &Gateway| -> BTreeSet<_> {
        gateway.dns.iter().flat_map(|dns| &dns.listen).copied().collect()
    };
    let addresses = |gateway: &Gateway| addresses(gateway).into_iter().map(|a| (a, ())).collect();
    let sensors = |gateway: &Gateway| -> BTreeMap<_, _> {
        let mirror = gateway.mirror.iter();
        mirror.flat_map(|mirror| mirror.sensors.clone()).collect()
    };
    let sessions = |gateway: &Gateway| -> BTreeMap<_, _> {
        let mirror = gateway.mirror.iter();
        mirror.flat_map(|mirror| &mirror.sessions).map(|s| (s.id.clone(), s.clone())).collect()
    };
    let mut found = named(Subject::Zone, &zones(old), &zones(new));
    found.extend(named(Subject::Interface, &interfaces(old), &interfaces(new)));
    found.extend(named(Subject::Set, &old.sets, &new.sets));
    found.extend(rules(Subject::Rule, &old.rules, &new.rules, |rule| &rule.id));
    let (before, after) = (&old.nat, &new.nat);
    let nat = Subject::NatRule;
    found.extend(rules(nat, &before.one_to_one, &after.one_to_one, |rule| &rule.id));
    found.extend(rules(nat, &before.destination, &after.destination, |rule| &rule.id));
    found.extend(rules(nat, &before.source, &after.source, |rule| &rule.id));
    let (before, after) = (old.tracking, new.tracking);
    for (what, name, differs) in [
        (Subject::Tracking, "timeouts", before.timeouts != after.timeouts),
        (Subject::Tracking, "tcp", before.pickup != after.pickup),
        (Subject::Log, "log_unmatched", old.log_unmatched != new.log_unmatched),
    ] {
        let change = Change::Changed;
        found.extend(differs.then(|| Difference { change, what, name: name.into() }));
    }
    found.extend(named(Subject::DnsAddress, &addresses(old), &addresses(new)));
    found.extend(named(Subject::Sensor, &sensors(old), &sensors(new)));
    found.extend(named(Subject::MirrorSession, &sessions(old), &sessions(new)));
    found.extend(named(Subject::FlowRecords, &flow_records(old), &flow_records(new)));
    found
}

/// What is told of flows, each part by itself.
fn flow_records(gateway: &Gateway) -> BTreeMap<&'static str, FlowRecords> {
    let none = FlowRecords { interim: None, file: None, syslog: None, http: None };
    let all = gateway.telemetry.flows.clone().unwrap_or_else(|| none.clone());
    let parts = [
        ("interim", FlowRecords { interim: all.interim, ..none.clone() }),
        ("file", FlowRecords { file: all.file, ..none.clone() }),
        ("syslog", FlowRecords { syslog: all.syslog, ..none.clone() }),
        ("http", FlowRecords { http: all.http, ..none.clone() }),
    ];
    parts.into_iter().filter(|(_, part)| *part != none).collect()
}

/// Differences of things that have no order.
fn named<K: Display + Ord, V: PartialEq>(
    what: Subject,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> Vec<Difference> {
    let difference = |change, name: &K| Difference { change, what, name: name.to_string() };
    let kept = new.iter().filter_map(|(name, value)| match old.get(name) {
        None => Some(difference(Change::Added, name)),
        Some(was) if was != value => Some(difference(Change::Changed, name)),
        Some(_) => None,
    });
    let gone = old.keys().filter(|name| !new.contains_key(name));
    kept.chain(gone.map(|name| difference(Change::Removed, name))).collect()
}

fn rules<T: PartialEq>(
    what: Subject,
    old: &[T],
    new: &[T],
    id: impl Fn(&T) -> &RuleId,
) -> Vec<Difference> {
    let by_id = |rules| -> BTreeMap<&RuleId, &T> {
        <[T]>::iter(rules).map(|rule| (id(rule), rule)).collect()
    };
    let (before, after) = (by_id(old), by_id(new));
    let difference = |change, rule: &T| Difference { change, what, name: id(rule).to_string() };
    let mut found = Vec::new();
    // Of the rules that stay, the order they had.
    let mut staying = old.iter().filter(|rule| after.contains_key(id(rule)));
    for rule in new {
        let Some(was) = before.get(id(rule)) else {
            found.push(difference(Change::Added, rule));
            continue;
        };
        let is_moved = staying.next().is_none_or(|expected| id(expected) != id(rule));
        if *was != rule {
            found.push(difference(Change::Changed, rule));
        } else if is_moved {
            found.push(difference(Change::Moved, rule));
        }
    }
    let gone = old.iter().filter(|rule| !after.contains_key(id(rule)));
    found.extend(gone.map(|rule| difference(Change::Removed, rule)));
    found
}
