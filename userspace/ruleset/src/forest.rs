//! Ordered rules as decision trees.
//!
//! Rules are grouped by whether source and destination are narrow, because a tree that cuts a dimension needs
//! a copy of every rule that is wide in it on either side of each cut. Each large group has a tree of its own whose
//! cuts compare one value; the kernel takes the lowest match over all trees. A budget bounds the copies: where
//! it is used up, a leaf stays long, which is slower but never wrong.

mod bounds;
mod cut;
mod slots;

use bounds::Bounds;
use nightgate_abi::{
    RuleEntry, Slot,
    limits::{BANK_ENTRIES, RULE_ENTRIES},
};

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

/// Compiles entries, in the order of their rules, to the slots of a bank.
pub(crate) fn compile(entries: &[RuleEntry]) -> Vec<Slot> {
    let boxes: Vec<Bounds> = entries.iter().map(Bounds::of).collect();
    let trees = group(&boxes).into_iter().map(|members| {
        let budget = budget(members.len());
        let planter = Planter { entries, boxes: &boxes };
        planter.plant(members, Bounds::EVERYTHING, budget, DEPTH)
    });
    slots::pack(entries, &trees.collect::<Vec<_>>())
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
    entries: &'a [RuleEntry],
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
            bounds.covers(&region)
                && region.is_covered_by_zones(entry)
                && bounds.matches_all_families(entry)
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
