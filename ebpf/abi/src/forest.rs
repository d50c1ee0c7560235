//! The rules of a bank as decision trees, and the walk through them.
//!
//! A bank is an array of [`Slot`]s. Slot 0 is the header; every other one is a block of seven comparisons, three
//! levels of a tree, or a [`RuleEntry`]. A leaf is a run of entries in the order of the rules, up to one that is
//! marked [`LAST`]. Every rule is in one tree, in all of its leaves that the rule reaches into, so the lowest
//! match of all trees is the first match of the rules.

use crate::rule::{LAST, RuleEntry, Subject};

/// Words of a [`Slot`].
pub const SLOT_WORDS: usize = 12;
/// Trees of a bank at most.
pub const TREES: usize = 8;
/// Comparisons of a block.
pub const BLOCK_NODES: usize = 7;
/// Subtrees below a block.
pub const BLOCK_CHILDREN: usize = 8;
/// What comparisons look at: see [`Subject::key`].
pub const DIMENSIONS: usize = 8;
/// Index of the header.
pub const HEADER: u32 = 0;
/// Bit of a reference to a slot: the slot is the first entry of a leaf.
pub const LEAF: u32 = 1 << 31;
/// Reference to a leaf without entries.
pub const EMPTY: u32 = u32::MAX;
/// No rule matches: larger than every index of a rule.
pub const NO_RULE: u32 = u32::MAX;

/// Element of a bank.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Slot(pub [u64; SLOT_WORDS]);

const _: () = assert!(size_of::<Slot>() == 96);
const _: () = assert!(size_of::<Slot>() == size_of::<RuleEntry>());

/// The values that comparisons look at, in the order of [`Subject::key`].
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Key(pub [u64; DIMENSIONS]);

impl Subject {
    /// What comparisons look at: the halves of the source, the halves of the destination, source port,
    /// destination port, protocol, and both zones.
    #[inline(always)]
    pub fn key(&self) -> Key {
        let (source, destination) = (self.source.halves(), self.destination.halves());
        Key([
            u64::from_be(source[0]),
            u64::from_be(source[1]),
            u64::from_be(destination[0]),
            u64::from_be(destination[1]),
            u64::from(self.source_port),
            u64::from(self.destination_port),
            u64::from(self.protocol),
            u64::from(self.from.number()) << 8 | u64::from(self.to.number()),
        ])
    }
}

impl Slot {
    /// The header: the trees by reference and the index of their first rule, in the order of these.
    pub fn header(trees: &[(u32, u32)]) -> Self {
        let mut words = [0; SLOT_WORDS];
        words[0] = trees.len() as u64;
        for (word, (root, first_rule)) in words.iter_mut().skip(1).zip(trees) {
            *word = u64::from(*root) | u64::from(*first_rule) << 32;
        }
        Self(words)
    }

    /// A block. The children of comparison `n` are `2n + 1` for lower values and `2n + 2` for others; from 7 on
    /// they are the references to subtrees.
    pub fn block(comparisons: [(u8, u64); BLOCK_NODES], children: [u32; BLOCK_CHILDREN]) -> Self {
        let mut words = [0; SLOT_WORDS];
        for (node, (dimension, pivot)) in comparisons.into_iter().enumerate() {
            words[node] = pivot;
            words[BLOCK_NODES] |= u64::from(dimension) << (8 * node);
        }
        for (index, child) in children.into_iter().enumerate() {
            words[8 + index / 2] |= u64::from(child) << (32 * (index % 2));
        }
        Self(words)
    }

    /// The reference to the subtree that a key belongs to.
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    #[inline(always)]
    fn descend(&self, key: &Key) -> u32 {
        let words = &self.0;
        let mut node = 0;
        while node < BLOCK_NODES {
            let dimension = words[BLOCK_NODES] >> (8 * node) & (DIMENSIONS as u64 - 1);
            node = 2 * node + 1 + usize::from(key.0[dimension as usize] >= words[node]);
        }
        let child = node - BLOCK_NODES;
        (words[8 + child / 2] >> (32 * (child % 2))) as u32
    }
}

/// A walk through all trees of a bank.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Reference to the slot that the next step wants.
    at: u32,
    /// Trees begun.
    trees: u32,
    /// Index of the first matching rule so far, or [`NO_RULE`].
    rule: u32,
    /// Its action.
    action: u32,
}

/// What comes after a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Another step.
    Goes,
    /// Nothing: [`Walk::outcome`] is final.
    Over,
}

impl Walk {
    /// A walk that stands before the header.
    #[inline(always)]
    pub const fn new() -> Self {
        Self { at: HEADER, trees: 0, rule: NO_RULE, action: 0 }
    }

    /// Index of the slot that the next step wants.
    #[inline(always)]
    pub const fn wants(&self) -> u32 {
        self.at & !LEAF
    }

    /// Takes a step. `slot` is the one that [`Walk::wants`] names; `None` if there is none, which ends a tree.
    #[inline(always)]
    pub fn step(&mut self, slot: Option<&Slot>, key: &Key, subject: &Subject) -> Progress {
        let Some(slot) = slot else {
            return self.leave_tree();
        };
        if self.at == HEADER {
            return self.enter_tree(slot);
        }
        if self.at & LEAF == 0 {
            self.at = slot.descend(key);
            return Progress::Goes;
        }
        let entry = RuleEntry::from_words(&slot.0);
        if entry.rule >= self.rule {
            return self.leave_tree();
        }
        if subject.matches(&entry) {
            self.rule = entry.rule;
            self.action = u32::from(entry.action & !LAST);
            return self.leave_tree();
        }
        if entry.action & LAST != 0 {
            return self.leave_tree();
        }
        self.at += 1;
        Progress::Goes
    }

    /// The first matching rule and its [`crate::rule::action`].
    #[expect(clippy::cast_possible_truncation, reason = "an action has eight bits")]
    #[inline(always)]
    pub const fn outcome(&self) -> Option<(u32, u8)> {
        if self.rule == NO_RULE { None } else { Some((self.rule, self.action as u8)) }
    }

    #[inline(always)]
    fn leave_tree(&mut self) -> Progress {
        // Without a header there is no tree to go to.
        if self.at == HEADER {
            return Progress::Over;
        }
        self.at = HEADER;
        Progress::Goes
    }

    /// Goes to the next tree, unless all its rules come after the one that was found.
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    #[inline(always)]
    fn enter_tree(&mut self, header: &Slot) -> Progress {
        let tree = (self.trees & (TREES as u32 - 1)) as usize;
        let word = header.0[1 + tree];
        if u64::from(self.trees) >= header.0[0] || (word >> 32) as u32 >= self.rule {
            return Progress::Over;
        }
        self.trees += 1;
        self.at = word as u32;
        Progress::Goes
    }
}

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}
