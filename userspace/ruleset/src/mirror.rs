//! Filters of mirror sessions with their zones resolved, and what they become in a bank.

use nightgate_abi::mirror::{NEVER, filter_slot};
use nightgate_config::{FilterEntry, FilterSense, Mirror, RuleId};

use crate::{
    compile::{CompileError, CompiledRule, ZoneResolver},
    entry::{Sets, entries},
    nat::{self, Lowered},
};

/// Which flows are mirrored by which session, beyond those of services, in the order in which it is looked at: first
/// what never is, then the entries of all sessions.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CompiledMirror {
    entries: Vec<(CompiledRule, u16)>,
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

/// Resolves the filters. Sessions are numbered from 1, in their order.
pub(crate) fn compile(
    mirror: Option<&Mirror>,
    zones: &ZoneResolver<'_>,
    errors: &mut Vec<CompileError>,
) -> CompiledMirror {
    let Some(mirror) = mirror else { return CompiledMirror::default() };
    let never = mirror.never.filter.iter().map(|entry| ("never", entry, NEVER));
    let sessions = mirror.sessions.iter().zip(1..).flat_map(|(session, number)| {
        let of = move |entry: &FilterEntry| match entry.sense {
            FilterSense::Copy => number,
            FilterSense::Skip => 0,
        };
        session.filter.iter().map(move |entry| (session.id.as_str(), entry, of(entry)))
    });
    let mut compiled = CompiledMirror::default();
    for (name, entry, number) in never.chain(sessions) {
        // Names of sessions are names of rules as well.
        let Some(id) = RuleId::new(name) else { continue };
        compiled.entries.push((nat::resolve(&id, &entry.matching, zones, errors), number));
    }
    compiled
}

/// Lowers the filters to the entries and parameters of their group.
pub(crate) fn lower(mirror: &CompiledMirror) -> Lowered {
    let mut lowered = Lowered::default();
    // Filters name no sets.
    let mut sets = Sets::default();
    for (index, (rule, session)) in (0..).zip(&mirror.entries) {
        lowered.entries.extend(entries(rule, index, &mut sets));
        lowered.parameters.insert(index, filter_slot(*session));
    }
    lowered
}
