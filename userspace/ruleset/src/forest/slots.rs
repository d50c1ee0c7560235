//! Trees as the slots of a bank.

use std::collections::BTreeMap;

use nightgate_abi::{
    Extension, Slot,
    forest::{BLOCK_CHILDREN, BLOCK_NODES, EMPTY, LEAF},
    group::REFERENCES,
    rule::{EXTENDED, LAST, PARAMETERS},
    set::{Sense, SetReference},
};

use super::{Grove, Tree, sets};
use crate::entry::Entry;

/// Lays the trees of all groups out, the headers first.
pub(super) fn pack(groups: &[(Grove<'_>, Vec<Tree>)]) -> Vec<Slot> {
    let mut slots = vec![Slot::default(); groups.len()];
    let mut headers = Vec::new();
    for (grove, trees) in groups {
        let sets = grove.sets.iter().map(|bounds| sets::plant(&mut slots, bounds)).collect();
        let mut packer = Packer { grove: *grove, slots, sets, leaves: BTreeMap::new() };
        let roots: Vec<(u32, u32)> = trees
            .iter()
            .map(|tree| {
                let first = first(tree).map_or(0, |index| grove.entries[index].rule.rule);
                (packer.tree(tree), first)
            })
            .collect();
        headers.push(Slot::header(&roots, packer.parameters()));
        slots = packer.slots;
    }
    for (slot, header) in slots.iter_mut().zip(headers) {
        *slot = header;
    }
    slots
}

/// The first entry of a tree.
fn first(tree: &Tree) -> Option<usize> {
    match tree {
        Tree::Leaf(members) => members.first().copied(),
        Tree::Cut { sides, .. } => sides.iter().filter_map(first).min(),
    }
}

/// Slots that are being laid out.
struct Packer<'a> {
    grove: Grove<'a>,
    slots: Vec<Slot>,
    /// First nodes of the grove's sets.
    sets: Vec<u32>,
    /// References by content: equal leaves are one.
    leaves: BTreeMap<&'a [usize], u32>,
}

impl<'a> Packer<'a> {
    /// Lays a tree out and returns the reference to it.
    fn tree(&mut self, tree: &'a Tree) -> u32 {
        match tree {
            Tree::Leaf(members) => self.leaf(members),
            Tree::Cut { .. } => {
                let at = self.slots.len();
                self.slots.push(Slot::default());
                let mut comparisons = [(0, u64::MAX); BLOCK_NODES];
                let mut children = [EMPTY; BLOCK_CHILDREN];
                self.block(tree, 0, &mut comparisons, &mut children);
                self.slots[at] = Slot::block(comparisons, children);
                reference(at)
            }
        }
    }

    /// Fills the part of a block from a comparison down. A tree that ends within the block is below both sides
    /// of the comparisons that are left.
    fn block(
        &mut self,
        tree: &'a Tree,
        node: usize,
        comparisons: &mut [(u8, u64); BLOCK_NODES],
        children: &mut [u32; BLOCK_CHILDREN],
    ) {
        if node >= BLOCK_NODES {
            children[node - BLOCK_NODES] = self.tree(tree);
            return;
        }
        let sides = match tree {
            Tree::Leaf(_) => [tree; 2],
            Tree::Cut { dimension, pivot, sides } => {
                comparisons[node] = (dimension.to_le_bytes()[0], *pivot);
                [&sides[0], &sides[1]]
            }
        };
        for (side, child) in sides.into_iter().zip(2 * node + 1..) {
            self.block(side, child, comparisons, children);
        }
    }

    fn leaf(&mut self, members: &'a [usize]) -> u32 {
        let Some((last, others)) = members.split_last() else {
            return EMPTY;
        };
        if let Some(reference) = self.leaves.get(members) {
            return *reference;
        }
        let at = reference(self.slots.len()) | LEAF;
        for index in others {
            self.entry(*index, 0);
        }
        self.entry(*last, LAST);
        self.leaves.insert(members, at);
        at
    }

    /// Lays out an entry, and its extension behind it.
    fn entry(&mut self, index: usize, mark: u8) {
        let Entry { mut rule, extension, sets } = self.grove.entries[index];
        rule.action |= mark;
        if self.grove.parameters.contains_key(&rule.rule) {
            rule.action |= PARAMETERS;
        }
        if extension.is_some() {
            rule.action |= EXTENDED;
        }
        self.slots.push(Slot(rule.to_words()));
        let reference = |(set, sense): (usize, Sense)| SetReference::new(self.sets[set], sense);
        let sets = sets.map(|set| set.map_or_else(SetReference::default, reference));
        self.slots.extend(extension.map(|extension| Extension { sets, ..extension }.to_slot(rule)));
    }

    /// Lays out the parameters of rules and the references to them, and returns the index of the first slot of
    /// these; 0 if there are none.
    fn parameters(&mut self) -> u32 {
        let parameters = self.grove.parameters;
        let Some((last, _)) = parameters.last_key_value() else {
            return 0;
        };
        let mut references = vec![[0; REFERENCES as usize]; (last / REFERENCES) as usize + 1];
        for (rule, slot) in parameters {
            let place = (rule / REFERENCES) as usize;
            references[place][(rule % REFERENCES) as usize] = reference(self.slots.len());
            self.slots.push(*slot);
        }
        let first = reference(self.slots.len());
        self.slots.extend(references.into_iter().map(Slot::references));
        first
    }
}

/// The reference to a slot.
pub(super) fn reference(index: usize) -> u32 {
    u32::try_from(index).expect("a bank has fewer slots than 2^31: the entries are bounded")
}
