//! Ordered rules as decision trees.
//!
//! Rules are grouped by whether source and destination are narrow, because a tree that cuts a dimension needs
//! a copy of every rule that is wide in it on either side of each cut. Each large group has a tree of its own whose
//! cuts compare one value; the kernel takes the lowest match over all trees. A budget bounds the copies: where
//! it is used up, a leaf stays long, which is slower but never wrong.

mod bounds;
mod cut;
mod sets;
mod slots;

use std::collections::BTreeMap;

use bounds::Bounds;
use nightgate_abi::{
    Slot,
    group::GROUPS,
    limits::{BANK_ENTRIES, RULE_ENTRIES},
};

use crate::{bounds::Bound, entry::Entry};

/// A leaf with as many entries is not cut.
const LEAF_ENTRIES: usize = 4;
/// So many entries are no tree of their own: their copies in another cost less than one more walk.
const GROUP_ENTRIES: usize = 3_000;
/// Cuts above one another at most.
const DEPTH: usize = 48;
/// Copies of an entry in small rule sets, on average, at most.
const COPIES: usize = 8;
/// Copies of an entry in rule sets of any size, on average, at most: all that fit.
const COPIES_OF_MANY: usize = 4;
/// Entries, with all their copies, that small rule sets may have.
const SMALL: usize = 131_072;

/// A decision tree over indices of entries.
#[derive(Debug)]
enum Tree {
    /// The entries that are left, in order.
    Leaf(Vec<usize>),
    /// A comparison.
    Cut {
        /// Index in [`nightgate_abi::forest::Key`].
        dimension: usize,
        /// Lowest value of the right side.
        pivot: u64,
        /// Below the pivot, and not below it.
        sides: Box<[Self; 2]>,
    },
}

/// The rules of a [`nightgate_abi::Group`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grove<'a> {
    /// Entries in the order of the rules.
    pub(crate) entries: &'a [Entry],
    /// The sets that entries name, by index.
    pub(crate) sets: &'a [Vec<Bound>],
    /// What rules say beyond their action, by the index of the rule.
    pub(crate) parameters: &'a BTreeMap<u32, Slot>,
}

/// Compiles the rules of all groups, in the order of [`nightgate_abi::Group::ALL`], to the slots of a bank.
pub(crate) fn compile(groves: [Grove<'_>; GROUPS as usize]) -> Vec<Slot> {
    slots::pack(&groves.map(|grove| (grove, trees(grove.entries))))
}

fn trees(entries: &[Entry]) -> Vec<Tree> {
    let boxes: Vec<Bounds> = entries.iter().map(|entry| Bounds::of(&entry.rule)).collect();
    let planter = Planter { entries, boxes: &boxes };
    let plant = |members: Vec<usize>| {
        let budget = budget(members.len());
        planter.plant(members, Bounds::EVERYTHING, budget, DEPTH)
    };
    group(&boxes).into_iter().map(plant).collect()
}

/// Entries with all their copies that a tree may have. Over all trees of a rule set no more than
/// [`BANK_ENTRIES`].
fn budget(entries: usize) -> usize {
    const { assert!(COPIES_OF_MANY * RULE_ENTRIES <= BANK_ENTRIES) };
    let few = (COPIES * entries).min(SMALL / 4);
    few.max(COPIES_OF_MANY * entries)
}

/// Indices of entries by the shape of their rules; small groups join the last, that of wide rules.
fn group(boxes: &[Bounds]) -> Vec<Vec<usize>> {
    let mut groups = [const { Vec::new() }; 4];
    for (index, bounds) in boxes.iter().enumerate() {
        let [source, destination] = bounds.is_narrow();
        groups[usize::from(!source) + 2 * usize::from(!destination)].push(index);
    }
    let [.., wide] = &mut groups;
    let mut rest = std::mem::take(wide);
    let mut trees = Vec::new();
    for members in groups {
        if members.len() <= GROUP_ENTRIES { rest.extend(members) } else { trees.push(members) }
    }
    rest.sort_unstable();
    trees.push(rest);
    trees.retain(|members| !members.is_empty());
    trees.sort_by_key(|members| members.first().copied());
    trees
}

/// Makes trees.
#[derive(Clone, Copy)]
struct Planter<'a> {
    entries: &'a [Entry],
    boxes: &'a [Bounds],
}

impl Planter<'_> {
    /// A tree over the part of the world within `region`.
    fn plant(self, mut members: Vec<usize>, region: Bounds, budget: usize, depth: usize) -> Tree {
        // Outside of all members nothing matches anyway.
        let region = region.within_hull(members.iter().map(|index| &self.boxes[*index]));
        // Nothing behind an entry that matches everything here can be the first match.
        let covering = members.iter().position(|index| {
            let (bounds, entry) = (&self.boxes[*index], &self.entries[*index]);
            entry.decides_alone()
                && bounds.covers(&region)
                && region.is_covered_by_zones(&entry.rule)
                && bounds.matches_all_families(&entry.rule)
        });
        if let Some(last) = covering {
            members.truncate(last + 1);
        }
        if members.len() <= LEAF_ENTRIES || depth == 0 {
            return Tree::Leaf(members);
        }
        let Some((dimension, pivot)) = cut::choose(self.boxes, &members, &region) else {
            return Tree::Leaf(members);
        };
        let [below, above] = region.cut(dimension, pivot);
        let side = |part: &Bounds| -> Vec<usize> {
            let meets = |index: &usize| self.boxes[*index].meets(part, dimension);
            members.iter().copied().filter(meets).collect()
        };
        let (left, right) = (side(&below), side(&above));
        let total = left.len() + right.len();
        if total > budget {
            return Tree::Leaf(members);
        }
        let shares = [budget * left.len() / total, budget * right.len() / total];
        let left = self.plant(left, below, shares[0], depth - 1);
        let right = self.plant(right, above, shares[1], depth - 1);
        Tree::Cut { dimension, pivot, sides: Box::new([left, right]) }
    }
}

#[cfg(test)]
mod tests {
    use nightgate_abi::{Address, Facts, Group, RuleEntry, ZoneId, forest, rule::Subject};

    use super::*;

    /// An entry for a protocol.
    fn entry(rule: u32, protocol: u8) -> Entry {
        Entry::from(RuleEntry {
            from: !1,
            to: !1,
            source_port_span: u16::MAX,
            destination_port_span: u16::MAX,
            families: 3,
            protocol,
            protocol_mask: 0xff,
            rule,
            ..RuleEntry::default()
        })
    }

    fn first_match(slots: &[Slot], group: Group, protocol: u8) -> Option<forest::Match> {
        let address = Address::from_v4([10, 0, 0, 1]);
        let subject = Subject {
            from: ZoneId::FIRST,
            to: ZoneId::LOCAL,
            source: address,
            destination: address,
            source_port: 0,
            destination_port: 0,
            protocol,
            facts: Facts::default(),
        };
        let (mut walk, key) = (forest::Walk::new(group), subject.key());
        while walk.step(slots.get(walk.wants() as usize), &key, &subject) == forest::Progress::Goes
        {
        }
        walk.outcome()
    }

    #[test]
    fn groups_have_rules_and_parameters_of_their_own() {
        let filter: Vec<Entry> = (1..200).map(|n| entry(u32::from(n) - 1, n)).collect();
        let nat = [entry(0, 17), entry(1, 6)];
        let (none, some) = (BTreeMap::new(), BTreeMap::from([(1, Slot([7; 12]))]));
        let slots = compile([
            Grove { entries: &filter, sets: &[], parameters: &none },
            Grove { entries: &[], sets: &[], parameters: &none },
            Grove { entries: &nat, sets: &[], parameters: &some },
            Grove { entries: &[], sets: &[], parameters: &none },
        ]);
        let rule = |group, protocol| first_match(&slots, group, protocol).map(|found| found.rule);
        assert_eq!(rule(Group::Filter, 6), Some(5));
        assert_eq!(rule(Group::DestinationNat, 6), None);
        assert_eq!(rule(Group::SourceNat, 17), Some(0));
        let found = first_match(&slots, Group::SourceNat, 6).unwrap();
        assert_eq!((found.rule, found.has_parameters()), (1, true));
        let parameters = |group: Group| group.parameters(1, |index| slots.get(index as usize));
        assert_eq!(parameters(Group::SourceNat), Some(&Slot([7; 12])));
        assert_eq!(parameters(Group::Filter), None);
        assert!(!first_match(&slots, Group::SourceNat, 17).unwrap().has_parameters());
    }
}
