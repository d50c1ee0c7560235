//! What a zone guards itself against, before any rule.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    limit::FlowRate,
    membership::Membership,
    names::SetName,
    node::Node,
    prefix::Prefix,
    reader::{Reader, Section},
    sets::Set,
};

/// Blocked sources and floods.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Guard {
    /// Sources whose packets are refused.
    pub block: Option<Membership<Prefix>>,
    /// Sources whose packets are not looked at here. Of two prefixes, the longer decides; no prefix is in both.
    pub allow: Option<Membership<Prefix>>,
    /// How fast one source may send.
    pub flood: FloodLimits,
}

/// How fast one source may send packets of a kind; any number without a limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FloodLimits {
    /// TCP segments that open connections.
    pub syn: Option<FlowRate>,
    /// UDP.
    pub udp: Option<FlowRate>,
    /// ICMP and ICMPv6, neighbour discovery aside.
    pub icmp: Option<FlowRate>,
}

impl Guard {
    /// Whether there is anything to guard against.
    pub fn is_asked_for(&self) -> bool {
        let FloodLimits { syn, udp, icmp } = self.flood;
        self.block.is_some() || syn.is_some() || udp.is_some() || icmp.is_some()
    }

    /// The prefixes that are blocked, and those that are let alone, each once.
    pub fn prefixes(&self, sets: &BTreeMap<SetName, Set>) -> [BTreeSet<Prefix>; 2] {
        let all = |list: &Option<Membership<Prefix>>| {
            list.iter().flat_map(|list| list.members(sets)).copied().collect()
        };
        [all(&self.block), all(&self.allow)]
    }
}

/// Decodes the keys `block`, `allow` and `flood` of a zone. `sets` are the configured sets, or `None` if those are
/// wrong.
pub(crate) fn decode(
    reader: &mut Reader<'_>,
    section: &mut Section,
    sets: Option<&BTreeMap<SetName, Set>>,
) -> Option<Guard> {
    let mut seen = HashMap::new();
    let block = prefixes(reader, section, ("block", sets), &mut seen);
    let line = section.line_of("allow");
    let allow = prefixes(reader, section, ("allow", sets), &mut seen);
    let flood = reader.optional(section, "flood", flood);
    let guard = Guard { block: block?, allow: allow?, flood: flood?.unwrap_or_default() };
    if guard.allow.is_some() && !guard.is_asked_for() {
        reader.under("allow", |reader| {
            let remedy = "add block or flood, or remove the key";
            reader.report(line, "sources that nothing blocks", "block or flood beside it", remedy);
        });
    }
    if let Some(sets) = sets {
        check_conflict(reader, line, &guard, sets);
    }
    Some(guard)
}

/// A list whose own prefixes stand nowhere twice, nor in the other list.
fn prefixes(
    reader: &mut Reader<'_>,
    section: &mut Section,
    (key, sets): (&'static str, Option<&BTreeMap<SetName, Set>>),
    seen: &mut HashMap<Prefix, u32>,
) -> Option<Option<Membership<Prefix>>> {
    reader.optional(section, key, |reader, node| {
        // Decoding runs on a shared borrow, so the repetitions are looked for afterwards.
        let elements = node.elements().iter();
        let own = elements.filter(|node| node.value.set_name().is_none());
        let lines: Vec<u32> = own.map(|node| node.line).collect();
        let list = Membership::decode(reader, node, sets, Prefix::decode)?;
        for (prefix, line) in list.elements.iter().zip(lines) {
            if let Some(first) = seen.insert(*prefix, line) {
                let found = format!("{prefix} again, first on line {first}");
                reader.report(line, found, "each prefix once", "remove one of the two");
            }
        }
        Some(list)
    })
}

/// Reports a prefix that is both blocked and let alone, by a set at least once.
fn check_conflict(
    reader: &mut Reader<'_>,
    line: u32,
    guard: &Guard,
    sets: &BTreeMap<SetName, Set>,
) {
    let names_sets =
        |list: &Option<Membership<Prefix>>| list.as_ref().is_some_and(|list| !list.sets.is_empty());
    if !names_sets(&guard.block) && !names_sets(&guard.allow) {
        return;
    }
    let [block, allow] = guard.prefixes(sets);
    let mut both = block.intersection(&allow);
    if let Some(prefix) = both.next() {
        let found = match both.count() {
            0 => format!("{prefix}, which block holds too"),
            more => format!("{prefix} and {more} more, which block holds too"),
        };
        reader.under("allow", |reader| {
            reader.report(line, found, "prefixes that block does not hold", "remove them from one");
        });
    }
}

fn flood(reader: &mut Reader<'_>, node: Node) -> Option<FloodLimits> {
    let mut section = reader.section(node)?;
    let [syn, udp, icmp] =
        ["syn", "udp", "icmp"].map(|key| reader.optional(&mut section, key, FlowRate::decode));
    reader.close(section);
    Some(FloodLimits { syn: syn?, udp: udp?, icmp: icmp? })
}
