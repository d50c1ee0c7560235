//! Trees as the slots of a bank.

use std::collections::BTreeMap;

use nightgate_abi::{
    RuleEntry, Slot,
    forest::{BLOCK_CHILDREN, BLOCK_NODES, EMPTY, LEAF},
    rule::LAST,
};

use super::Tree;

/// Lays trees out, the header first.
pub(super) fn pack(entries: &[RuleEntry], trees: &[Tree]) -> Vec<Slot> {
    let mut packer = Packer { entries, slots: vec![Slot::default()], leaves: BTreeMap::new() };
    let roots: Vec<(u32, u32)> = trees
        .iter()
        .map(|tree| {
            let first = first(tree).map_or(0, |index| entries[index].rule);
            (packer.tree(tree), first)
        })
        .collect();
    packer.slots[0] = Slot::header(&roots);
    packer.slots
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
    entries: &'a [RuleEntry],
    slots: Vec<Slot>,
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
        self.slots.extend(others.iter().map(|index| Slot(self.entries[*index].to_words())));
        let mut last = self.entries[*last];
        last.action |= LAST;
        self.slots.push(Slot(last.to_words()));
        self.leaves.insert(members, at);
        at
    }
}

/// The reference to a slot.
fn reference(index: usize) -> u32 {
    u32::try_from(index).expect("a bank has fewer slots than 2^31: the entries are bounded")
}
