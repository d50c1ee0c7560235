//! Filters of mirror sessions with their zones resolved, and what they become in a bank.

use nightgate_abi::{
    limits,
    mirror::{MirrorSessionId, NEVER, claim, filter_slot},
};
use nightgate_config::{FilterEntry, FilterSense, Mirror, RuleId};

use crate::{
    compile::{CompileError, CompiledRule, ZoneResolver},
    entry::{Sets, entries},
    intersection::intersection,
    nat::{self, Lowered},
};

/// Which flows are mirrored by which session, beyond those of services, in the order in which it is looked at: first
/// what never is, then the entries of all sessions. The first that matches decides.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CompiledMirror {
    entries: Vec<(CompiledRule, Sense)>,
}

/// What an entry says of the flows that it matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sense {
    /// They are never mirrored.
    Never,
    /// The filter's session does not mirror them, and in the list that results no session.
    Skip,
    /// The session with this index mirrors them.
    Session(u16),
}

impl CompiledMirror {
    /// Whether there is no filter.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries as rules.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &CompiledRule> {
        self.entries.iter().map(|(rule, _)| rule)
    }
}

/// Resolves the filters.
pub(crate) fn compile(
    mirror: Option<&Mirror>,
    zones: &ZoneResolver<'_>,
    errors: &mut Vec<CompileError>,
) -> CompiledMirror {
    let Some(mirror) = mirror else { return CompiledMirror::default() };
    let mut resolve = |name: &str, filter: &[FilterEntry], copied: Sense| {
        // Names of sessions are names of rules as well.
        let Some(id) = RuleId::new(name) else { return Vec::new() };
        let mut entry = |entry: &FilterEntry| {
            let sense = match (copied, entry.sense) {
                (Sense::Never, _) => Sense::Never,
                (_, FilterSense::Copy) => copied,
                (_, FilterSense::Skip) => Sense::Skip,
            };
            let rule = CompiledRule {
                icmp_types: entry.icmp_types.clone(),
                source_mac: entry.source_mac.clone(),
                ..nat::resolve(&id, &entry.matching, zones, errors)
            };
            (rule, sense)
        };
        filter.iter().map(&mut entry).collect::<Vec<_>>()
    };
    let mut entries = resolve("never", &mirror.never.filter, Sense::Never);
    let sessions = mirror.sessions.iter().zip(0..);
    let sessions = sessions.map(|(session, index)| {
        resolve(session.id.as_str(), &session.filter, Sense::Session(index))
    });
    match merge(sessions.collect()) {
        Ok(merged) => entries.extend(merged),
        Err(error) => errors.push(error),
    }
    CompiledMirror { entries }
}

/// The entries of all sessions as one list. What a session skips is for the sessions after it to look at: before the entry
/// comes what of theirs overlaps with it.
///
/// # Errors
/// That is more than a bank holds.
fn merge(
    sessions: Vec<Vec<(CompiledRule, Sense)>>,
) -> Result<Vec<(CompiledRule, Sense)>, CompileError> {
    let limit = limits::RULE_ENTRIES;
    let mut later: Vec<(CompiledRule, Sense)> = Vec::new();
    for own in sessions.into_iter().rev() {
        let mut list = Vec::new();
        for (rule, sense) in own {
            if sense == Sense::Skip {
                list.extend(overlaps(&rule, &later));
            }
            let count = list.len() + later.len() + 1;
            if count > limit {
                return Err(CompileError::Entries { rule: rule.id, count, limit });
            }
            list.push((rule, sense));
        }
        list.append(&mut later);
        later = list;
    }
    Ok(later)
}

/// What of a list a rule leaves over, up to the first entry that has all of it.
fn overlaps(rule: &CompiledRule, list: &[(CompiledRule, Sense)]) -> Vec<(CompiledRule, Sense)> {
    let mut found = Vec::new();
    for (other, sense) in list {
        let Some(part) = intersection(rule, other) else { continue };
        let is_all = part == *rule;
        found.push((part, *sense));
        if is_all {
            break;
        }
    }
    found
}

/// The claim of a session that has its place as its number.
pub(crate) fn claim_by_place(index: u16) -> u16 {
    MirrorSessionId::new(index + 1).map_or(0, |id| claim(id.number(), id))
}

/// Lowers the filters to the entries and parameters of their group. `claims` gives the claim of a session by its index.
pub(crate) fn lower(mirror: &CompiledMirror, claims: impl Fn(u16) -> u16) -> Lowered {
    let mut lowered = Lowered::default();
    // What sets hold stands in the rules themselves.
    let mut sets = Sets::default();
    for (index, (rule, sense)) in (0..).zip(&mirror.entries) {
        lowered.entries.extend(entries(rule, index, &mut sets));
        let claim = match sense {
            Sense::Never => NEVER,
            Sense::Skip => 0,
            Sense::Session(index) => claims(*index),
        };
        lowered.parameters.insert(index, filter_slot(claim));
    }
    lowered
}

#[cfg(test)]
mod tests {
    use nightgate_abi::ZoneId;
    use nightgate_config::parse;

    use super::*;
    use crate::compile;

    /// The filters of sessions a, b and so on, as entries: destination ports, or everything, and whose they are.
    fn merged(sessions: &[&str]) -> Vec<(Vec<u16>, Option<u16>)> {
        let text = sessions.iter().zip('a'..).map(|(filter, id)| {
            format!("    - {{ id: of-{id}, sensor: ids, filter: [{filter}] }}\n")
        });
        let text = format!(
            "version: 1\nrouter: {{ identity: gw.json }}\nzones: {{ lan: {{ interfaces: [lan0] }}, wan: {{ interfaces: \
             [wan0] }} }}\nmirror:\n  sensors: {{ ids: {{ interface: mon0, encapsulation: local }} }}\n  sessions:\n{}",
            text.collect::<String>()
        );
        let rules = compile(&parse(&text, "test").unwrap().gateway.unwrap()).unwrap();
        let entry = |(rule, sense): &(CompiledRule, Sense)| {
            let ports = rule.destination_ports.iter().map(|ports| ports.low()).collect();
            let session = match sense {
                Sense::Session(index) => Some(*index),
                Sense::Skip | Sense::Never => None,
            };
            (ports, session)
        };
        rules.mirror().entries.iter().map(entry).collect()
    }

    const EVERYTHING: &str = "{ from: [lan, local], to: wan }";
    const SKIP_SSH: &str =
        "{ from: lan, to: wan, protocol: tcp, destination_ports: [22], skip: true }";
    const SKIP_SMB: &str =
        "{ from: lan, to: wan, protocol: tcp, destination_ports: [445], skip: true }";
    const SOME: &str = "{ from: lan, to: wan, protocol: tcp, destination_ports: [22, 23] }";

    #[test]
    fn what_a_session_skips_is_for_the_sessions_after_it() {
        let a = format!("{SKIP_SSH}, {EVERYTHING}");
        let own = [(vec![22], None), (vec![], Some(0))];
        assert_eq!(merged(&[&a]), own);
        let with_other = merged(&[&a, SOME]);
        assert_eq!(with_other[..2], [(vec![22], Some(1)), (vec![22], None)]);
        assert_eq!(with_other[2..], [(vec![], Some(0)), (vec![22, 23], Some(1))]);
        let elsewhere = "{ from: lan, to: wan, protocol: udp, destination_ports: [22] }";
        assert_eq!(merged(&[&a, elsewhere])[..2], own);
    }

    #[test]
    fn sessions_that_skip_the_same_do_not_multiply() {
        let session = format!("{SKIP_SSH}, {SKIP_SMB}, {EVERYTHING}");
        let all = merged(&[session.as_str(); 20]);
        assert!(all.len() <= 20 * 5, "{} entries", all.len());
        // The last one's entries, for the sake of the comparison.
        assert_eq!(all[all.len() - 3..], [(vec![22], None), (vec![445], None), (vec![], Some(19))]);
    }

    #[test]
    fn sessions_that_multiply_are_refused() {
        let rule = |prefix: u32| {
            let zone = ZoneId::LOCAL;
            let id = RuleId::new("a").unwrap();
            let mut rule = nat::rule_of(&id, [zone].into(), [zone].into());
            let octets = (prefix << 8).to_be_bytes();
            rule.source = vec![nightgate_config::Prefix::new(octets.into(), 24).unwrap()];
            rule
        };
        let everything = || nat::rule_of(&RuleId::new("a").unwrap(), [].into(), [].into());
        let last: Vec<_> = (0..1_000).map(|n| (rule(n), Sense::Session(1))).collect();
        let first = (0..1_000).map(|_| (everything(), Sense::Skip)).collect();
        let refused = merge(vec![first, last]);
        assert!(matches!(refused, Err(CompileError::Entries { .. })), "{refused:?}");
    }
}
