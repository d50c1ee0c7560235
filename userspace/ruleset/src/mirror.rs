//! Filters of mirror sessions with their zones resolved, and what they become in a bank.

use nightgate_abi::mirror::{MirrorSessionId, NEVER, claim, filter_slot};
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
    entries: Vec<(CompiledRule, Sense)>,
}

/// What an entry says of the flows that it matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sense {
    /// They are never mirrored.
    Never,
    /// No filter mirrors them.
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
    let never = mirror.never.filter.iter().map(|entry| ("never", entry, Sense::Never));
    let sessions = mirror.sessions.iter().zip(0..).flat_map(|(session, index)| {
        let of = move |entry: &FilterEntry| match entry.sense {
            FilterSense::Copy => Sense::Session(index),
            FilterSense::Skip => Sense::Skip,
        };
        session.filter.iter().map(move |entry| (session.id.as_str(), entry, of(entry)))
    });
    let mut compiled = CompiledMirror::default();
    for (name, entry, sense) in never.chain(sessions) {
        // Names of sessions are names of rules as well.
        let Some(id) = RuleId::new(name) else { continue };
        compiled.entries.push((nat::resolve(&id, &entry.matching, zones, errors), sense));
    }
    compiled
}

/// The claim of a session that has its place as its number.
pub(crate) fn claim_by_place(index: u16) -> u16 {
    MirrorSessionId::new(index + 1).map_or(0, |id| claim(id.number(), id))
}

/// Lowers the filters to the entries and parameters of their group. `claims` gives the claim of a session by its index.
pub(crate) fn lower(mirror: &CompiledMirror, claims: impl Fn(u16) -> u16) -> Lowered {
    let mut lowered = Lowered::default();
    // Filters name no sets.
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
