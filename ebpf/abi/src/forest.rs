//! The rules of a bank as decision trees, and the walk through them.
//!
//! A bank is an array of [`Slot`]s. The first ones are the headers of the [`Group`]s; every other one is a block of
//! seven comparisons, three levels of a tree, or a [`RuleEntry`] or its [`crate::Extension`], or a node of a
//! [set](crate::set), or holds parameters of rules. A leaf is a run of entries in the order of the rules, up to one
//! that is marked [`LAST`]. Every rule is in one tree of its group, in all of its leaves that the rule reaches into,
//! so the lowest match of all trees is the first match of the rules.

use crate::{
    group::{GROUPS, Group},
    rule::{EXTENDED, LAST, LOG, MARKS, PARAMETERS, RuleEntry, Subject, action},
    set::MEMBERS,
};

/// Words of a [`Slot`].
pub const SLOT_WORDS: usize = 12;
/// Trees of a group at most.
pub const TREES: usize = 8;
/// Word of a header that holds the index of the first slot of references to parameters.
const REFERENCES_WORD: usize = 1 + TREES;
/// Comparisons of a block.
pub const BLOCK_NODES: usize = 7;
/// Subtrees below a block.
pub const BLOCK_CHILDREN: usize = 8;
/// What comparisons look at: see [`Subject::key`].
pub const DIMENSIONS: usize = 8;
/// Bit of a reference to a slot: the slot is the first entry of a leaf.
pub const LEAF: u32 = 1 << 31;
/// Bit of a reference to a slot of a leaf: the slot is an extension.
const EXTENSION: u32 = 1 << 30;
/// Bit of a reference to an extension: the slot is a node of one of its sets.
const SET: u32 = 1 << 29;
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
    /// destination port or ICMP message, protocol, and both zones.
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
    /// The header of a group: the trees by reference and the index of their first rule, in the order of these;
    /// and the index of the first slot of references to parameters, 0 if no rule has any.
    pub fn header(trees: &[(u32, u32)], first_reference: u32) -> Self {
        let mut words = [0; SLOT_WORDS];
        words[0] = trees.len() as u64;
        words[REFERENCES_WORD] = u64::from(first_reference);
        for (word, (root, first_rule)) in words.iter_mut().skip(1).zip(trees) {
            *word = u64::from(*root) | u64::from(*first_rule) << 32;
        }
        Self(words)
    }

    /// The index of the first slot of references that a header names.
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    #[inline(always)]
    pub(crate) fn first_reference(&self) -> Option<u32> {
        let first = self.0[REFERENCES_WORD] as u32;
        if first == 0 { None } else { Some(first) }
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

/// A walk through all trees of a group.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Index of the group's header.
    header: u32,
    /// Reference to the slot that the next step wants.
    at: u32,
    /// Trees begun.
    trees: u32,
    /// Index of the first matching rule so far, or [`NO_RULE`].
    rule: u32,
    /// Its action, with its marks.
    action: u32,
    /// Index of the first matching rule so far that only counts, or [`NO_RULE`].
    counting: u32,
    /// Reference to the extension whose sets are searched.
    extension: u32,
    /// How many of its [`crate::set::Member`]s have been asked for.
    asked: u32,
    /// 1 if the value is in the set that is searched, as far as it has been, else 0.
    is_inside: u32,
}

/// The first rule that matches and decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Match {
    /// Its index in its group.
    pub rule: u32,
    /// Its [`crate::rule::action`], with marks.
    marked: u8,
}

impl Match {
    /// A rule and its [`RuleEntry::action`].
    #[inline(always)]
    pub const fn new(rule: u32, marked: u8) -> Self {
        Self { rule, marked: marked & !LAST }
    }

    /// Its [`crate::rule::action`].
    #[inline(always)]
    pub const fn action(self) -> u8 {
        self.marked & !MARKS
    }

    /// Whether it is logged.
    #[inline(always)]
    pub const fn is_logged(self) -> bool {
        self.marked & LOG != 0
    }

    /// Whether [`Group::parameters`] finds something for it.
    #[inline(always)]
    pub const fn has_parameters(self) -> bool {
        self.marked & PARAMETERS != 0
    }
}

/// What the last word of an entry holds, and that of its extension.
#[derive(Clone, Copy)]
struct Rest {
    rule: u32,
    /// With marks.
    action: u8,
}

impl Rest {
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    #[inline(always)]
    const fn of(slot: &Slot) -> Self {
        let word = slot.0[SLOT_WORDS - 1];
        Self { rule: (word >> 32) as u32, action: (word >> 24) as u8 }
    }
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
    /// A walk that stands before a group's header.
    #[inline(always)]
    pub const fn new(group: Group) -> Self {
        Self::at(group.header())
    }

    /// A walk that stands before the header at an index of the bank.
    #[inline(always)]
    pub const fn at(header: u32) -> Self {
        Self {
            header,
            at: header,
            trees: 0,
            rule: NO_RULE,
            action: 0,
            counting: NO_RULE,
            extension: 0,
            asked: 0,
            is_inside: 0,
        }
    }

    /// Index of the slot that the next step wants.
    #[inline(always)]
    pub const fn wants(&self) -> u32 {
        self.at & !(LEAF | EXTENSION | SET)
    }

    /// Takes a step. `slot` is the one that [`Walk::wants`] names; `None` if there is none, which ends a tree.
    #[inline(always)]
    pub fn step(&mut self, slot: Option<&Slot>, key: &Key, subject: &Subject) -> Progress {
        let Some(slot) = slot else {
            return self.leave_tree();
        };
        if self.at < GROUPS {
            return self.enter_tree(slot);
        }
        if self.at & LEAF == 0 {
            self.at = slot.descend(key);
            return Progress::Goes;
        }
        let rest = Rest::of(slot);
        if self.at & SET != 0 {
            return self.look_up(slot, key);
        }
        if self.at & EXTENSION != 0 {
            return self.examine(slot, rest, subject);
        }
        if rest.rule >= self.rule {
            return self.leave_tree();
        }
        if !subject.matches(&RuleEntry::from_words(&slot.0)) {
            return self.skip(rest);
        }
        if rest.action & EXTENDED != 0 {
            self.at = (self.at + 1) | EXTENSION;
            return Progress::Goes;
        }
        self.take(rest)
    }

    /// The first matching rule that decides.
    #[expect(clippy::cast_possible_truncation, reason = "an action has eight bits")]
    #[inline(always)]
    pub const fn outcome(&self) -> Option<Match> {
        if self.rule == NO_RULE { None } else { Some(Match::new(self.rule, self.action as u8)) }
    }

    /// The first matching rule that only counts, unless another decides before it.
    #[inline(always)]
    pub const fn counting(&self) -> Option<u32> {
        if self.counting < self.rule { Some(self.counting) } else { None }
    }

    /// Compares with an extension, and goes on to the next of its sets.
    #[inline(always)]
    fn examine(&mut self, extension: &Slot, rest: Rest, subject: &Subject) -> Progress {
        let mut member = self.asked;
        self.asked = 0;
        let is_met = if member == 0 {
            subject.meets(extension)
        } else {
            extension.set_of(member - 1).allows(self.is_inside != 0)
        };
        if !is_met {
            return self.skip(rest);
        }
        while member < MEMBERS {
            let node = extension.set_of(member).node();
            member += 1;
            if node != 0 {
                (self.asked, self.is_inside, self.extension) = (member, 0, self.at);
                self.at = node | LEAF | EXTENSION | SET;
                return Progress::Goes;
            }
        }
        self.take(rest)
    }

    /// Takes a step of the search of a set, and returns to the extension at its end.
    #[inline(always)]
    fn look_up(&mut self, node: &Slot, key: &Key) -> Progress {
        let (is_inside, next) = node.look_up(key.member(self.asked.wrapping_sub(1)));
        if let Some(is_inside) = is_inside {
            self.is_inside = u32::from(is_inside);
        }
        self.at = match next {
            Some(node) => node | LEAF | EXTENSION | SET,
            None => self.extension,
        };
        Progress::Goes
    }

    /// Remembers a rule that matches.
    #[inline(always)]
    fn take(&mut self, rest: Rest) -> Progress {
        if rest.action & !MARKS != action::COUNT {
            self.rule = rest.rule;
            self.action = u32::from(rest.action);
            return self.leave_tree();
        }
        if rest.rule < self.counting {
            self.counting = rest.rule;
        }
        self.skip(rest)
    }

    /// Goes to the next entry of the leaf.
    #[inline(always)]
    fn skip(&mut self, rest: Rest) -> Progress {
        if rest.action & LAST != 0 {
            return self.leave_tree();
        }
        self.at = (self.at & !EXTENSION) + 1 + u32::from(rest.action & EXTENDED != 0);
        Progress::Goes
    }

    #[inline(always)]
    fn leave_tree(&mut self) -> Progress {
        // Without a header there is no tree to go to.
        if self.at < GROUPS {
            return Progress::Over;
        }
        self.at = self.header;
        Progress::Goes
    }

    /// Goes to the next tree, unless all its rules come after the one that was found.
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    #[inline(always)]
    fn enter_tree(&mut self, header: &Slot) -> Progress {
        let tree = (self.trees & (TREES as u32 - 1)) as usize;
        let word = header.0[1 + tree];
        // The first comparison bounds the counter for the verifier.
        let is_last = self.trees >= TREES as u32 || u64::from(self.trees) >= header.0[0];
        if is_last || (word >> 32) as u32 >= self.rule {
            return Progress::Over;
        }
        self.trees += 1;
        self.at = word as u32;
        Progress::Goes
    }
}
