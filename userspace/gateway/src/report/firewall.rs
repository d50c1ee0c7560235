//! What the admin socket tells about the firewall.

use std::collections::BTreeMap;

use nightgate_abi::{
    Counter,
    guard::{Flood, list},
    reason::{Kind, Reason},
};
use nightgate_datapath::{DatapathError, Drops, MirrorStatistics};
use nightgate_mirror::Plan;
use nightgate_ruleset::{GuardImage, Translation, ZoneName};
use nightgate_telemetry::{KernelSnapshot, Metrics};
use serde::Serialize;

use crate::{clock::Clock, firewall::Firewall};

/// An element of the answer to [`crate::admin::Topic::Counters`].
#[derive(Clone, Debug, Serialize)]
pub struct ReasonReport {
    reason: &'static str,
    kind: &'static str,
    packets: u64,
    bytes: u64,
}

/// An element of the answer to [`crate::admin::Topic::Drops`].
#[derive(Clone, Debug, Serialize)]
pub struct DropReport {
    reason: &'static str,
    interface: String,
    hook: &'static str,
    packets: u64,
    bytes: u64,
}

/// An element of the answer to [`crate::admin::Topic::Rules`].
#[derive(Clone, Debug, Serialize)]
pub struct RuleReport {
    rule: String,
    action: &'static str,
    /// What a translation rule makes of an end; what a guard holds.
    becomes: Option<String>,
    packets: u64,
    bytes: u64,
    /// RFC 3339.
    last_hit: Option<String>,
    last_hit_age_ms: Option<u128>,
}

/// An element of the answer to [`crate::admin::Topic::Mirror`].
#[derive(Clone, Debug, Serialize)]
pub struct MirrorReport {
    pub(super) session: String,
    pub(super) outcome: &'static str,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Firewall {
    /// Every reason with what it happened to.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn reasons(&self) -> Result<Vec<ReasonReport>, DatapathError> {
        let statistics = self.datapath.statistics()?;
        let report = |reason: Reason, packets, bytes| ReasonReport {
            reason: reason.as_str(),
            kind: match reason.kind() {
                Kind::Pass => "pass",
                Kind::Drop => "drop",
                Kind::Event => "event",
            },
            packets,
            bytes,
        };
        Ok(statistics.iter().map(|(reason, n)| report(reason, n.packets, n.bytes)).collect())
    }

    /// What was refused, by reason and interface.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn drop_reports(&self) -> Result<Vec<DropReport>, DatapathError> {
        let mut drops = self.datapath.drops()?;
        drops.sort_by_key(|drops| std::cmp::Reverse(drops.counter.packets));
        let report = |drops: &Drops| DropReport {
            reason: drops.reason.as_str(),
            interface: self.datapath.interface_name(drops.interface),
            hook: drops.hook.as_str(),
            packets: drops.counter.packets,
            bytes: drops.counter.bytes,
        };
        Ok(drops.iter().map(report).collect())
    }

    /// Takes the kernel's counters over into the metrics.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn count_packets(&self, metrics: &Metrics) -> Result<(), DatapathError> {
        let mut flows = BTreeMap::<_, u64>::new();
        for flow in self.datapath.flows()? {
            *flows.entry(flow.phase.as_str().to_owned()).or_default() += 1;
        }
        let drop = |drops: &Drops| {
            let interface = self.datapath.interface_name(drops.interface);
            let labels = [drops.reason.as_str().into(), interface, drops.hook.as_str().into()];
            (labels, drops.counter.packets)
        };
        let hits = self.datapath.rule_hits()?.into_iter();
        let rules = hits.map(|(rule, n)| (rule.to_string(), [n.counter.packets, n.counter.bytes]));
        let statistics = self.datapath.statistics()?;
        let reasons = statistics.iter().map(|(reason, n)| (reason.as_str().to_owned(), n.packets));
        metrics.set_kernel(&KernelSnapshot {
            reasons: reasons.collect(),
            drops: self.datapath.drops()?.iter().map(drop).collect(),
            rules: rules.collect(),
            flows: flows.into_iter().collect(),
            memory: self.datapath.memory()?,
            epoch: self.datapath.epoch(),
        });
        Ok(())
    }

    /// What guards have refused, then every rule in order with what it decided, and after them what none did.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn rule_reports(&self, clock: &Clock) -> Result<Vec<RuleReport>, DatapathError> {
        let hits = self.datapath.rule_hits()?;
        let filter = self.rules.rules().iter().map(|rule| (rule.action.word(), None));
        let actions = filter.chain(self.translations().map(|text| ("translate", Some(text))));
        let report = |rule: String, (action, becomes), counter: Counter, last_seen| RuleReport {
            rule,
            action,
            becomes,
            packets: counter.packets,
            bytes: counter.bytes,
            last_hit: clock.date(last_seen),
            last_hit_age_ms: clock.age(last_seen).map(|age| age.as_millis()),
        };
        let mut reports = self.guard_reports()?;
        let rules = hits.into_iter().zip(actions);
        reports.extend(
            rules.map(|((rule, n), action)| {
                report(rule.to_string(), action, n.counter, n.last_seen)
            }),
        );
        let default = self.datapath.statistics()?.get(Reason::NoRule);
        reports.push(report("(default)".into(), ("drop", None), default, 0));
        Ok(reports)
    }

    /// What guards hold, and what they have refused on the interfaces of their zones.
    fn guard_reports(&self) -> Result<Vec<RuleReport>, DatapathError> {
        let drops = self.datapath.drops()?;
        let zones: BTreeMap<_, _> =
            self.datapath.interfaces().map(|(index, _, zone)| (index, zone)).collect();
        let refused = |zone: Option<&ZoneName>, reason| {
            let of_zone = |drops: &&Drops| {
                drops.reason == reason && zones.get(&drops.interface).copied() == zone
            };
            drops.iter().filter(of_zone).fold([0; 2], |[packets, bytes], drops| {
                [packets + drops.counter.packets, bytes + drops.counter.bytes]
            })
        };
        let mut reports = Vec::new();
        for guard in self.rules.guards() {
            let zone = self.rules.zone_name(guard.zone);
            let name = zone.map(ZoneName::as_str).unwrap_or_default();
            let lists = [
                ("block", Reason::Blocked, blocked(guard)),
                ("flood", Reason::Flood, floods(guard)),
            ];
            for (action, reason, becomes) in lists {
                let [packets, bytes] = refused(zone, reason);
                reports.extend(becomes.map(|becomes| RuleReport {
                    rule: format!("(guard {name})"),
                    action,
                    becomes: Some(becomes),
                    packets,
                    bytes,
                    last_hit: None,
                    last_hit_age_ms: None,
                }));
            }
        }
        Ok(reports)
    }

    /// What each translation rule makes of its ends, in the order of their counters.
    fn translations(&self) -> impl Iterator<Item = String> {
        let nat = self.rules.nat();
        nat.ids().into_iter().map(|id| {
            let becomes = |(prefix, list): (&str, &[Translation])| {
                let rule = list.iter().find(|translation| translation.matching.id == *id)?;
                Some(format!("{prefix} {rule}"))
            };
            let lists = [("source", nat.source.as_slice()), ("destination", &nat.destination)];
            lists.into_iter().filter_map(becomes).collect::<Vec<_>>().join(", ")
        })
    }

    /// What became of the copies, by session.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mirror_reports(&self) -> Result<Vec<MirrorReport>, DatapathError> {
        Ok(mirror_reports(&self.mirror, &self.datapath.mirror_statistics()?))
    }
}

/// What became of the copies of a plan's sessions.
pub fn mirror_reports(plan: &Plan, statistics: &MirrorStatistics) -> Vec<MirrorReport> {
    let known = plan.sessions().iter().filter_map(|session| {
        let row = statistics.sessions.get(&session.id)?;
        Some((session.name.to_string(), row))
    });
    let unknown = [("(unknown)".to_owned(), &statistics.unknown)];
    known
        .chain(unknown)
        .flat_map(|(session, row)| {
            let report = move |(outcome, packets, bytes)| MirrorReport {
                session: session.clone(),
                outcome,
                packets,
                bytes,
            };
            let queue = ("queue-drop", MirrorStatistics::queue_dropped(row), 0);
            let counted = row.iter().map(|(o, n)| (o.as_str(), n.packets, n.bytes));
            counted.chain([queue]).map(report).collect::<Vec<_>>()
        })
        .collect()
}

/// How many prefixes a guard blocks, and how many it lets alone, as the kernel holds them; `None` without any.
fn blocked(guard: &GuardImage) -> Option<String> {
    let count = |of| guard.prefixes.iter().filter(|(_, _, list)| *list == of).count();
    let [block, allow] = [count(list::BLOCK), count(list::ALLOW)];
    (block + allow > 0).then(|| format!("{block} prefixes, {allow} allowed"))
}

/// What a guard counts by source; `None` if nothing.
fn floods(guard: &GuardImage) -> Option<String> {
    let floods = [(Flood::Syn, "syn"), (Flood::Udp, "udp"), (Flood::Icmp, "icmp")];
    let words = floods.into_iter().filter(|(flood, _)| guard.guard.rate(*flood).is_some());
    let words: Vec<_> = words.map(|(_, word)| word).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_are_described_by_what_they_hold() {
        let text = "version: 1\nrouter: { identity: a }\nzones:\n  lan: { interfaces: [l], block: [192.0.2.0/24, \
            '2001:db8::/32'], allow: 192.0.2.1 }\n  wan: { interfaces: [w], flood: { syn: 9/s, icmp: 1/s } }\n";
        let gateway = nightgate_config::parse(text, "gw.yaml").unwrap().gateway.unwrap();
        let rules = nightgate_ruleset::compile(&gateway).unwrap();
        let found = rules.guards().iter().map(|guard| [blocked(guard), floods(guard)]);
        let expected =
            [[Some("2 prefixes, 1 allowed".into()), None], [None, Some("syn, icmp".into())]];
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}
