//! Sets of addresses or ports as static search trees in the slots of a bank.
//!
//! A set is a list of bounds: values from which on others are in the set, or no longer. A node holds five of them and
//! has up to six children, which follow one another. Addresses are compared in their mapped form, ports as numbers.

use crate::forest::{Key, SLOT_WORDS, Slot};

/// Bounds of a node.
pub const NODE_BOUNDS: usize = 5;
/// Word that says which bounds begin a range.
const BEGINS: usize = 10;
/// Word that names the children.
const CHILDREN: usize = 11;
/// Bit of a [`SetReference`]: what is not in the set matches.
const NEGATED: u32 = 1 << 31;

const _: () = assert!(2 * NODE_BOUNDS == BEGINS && CHILDREN == SLOT_WORDS - 1);

/// Which set a value has to be in, or not: the index of its first node. Zero asks for nothing.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SetReference(u32);

/// Whether a value has to be in a set.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Sense {
    /// It has to.
    In,
    /// It must not.
    NotIn,
}

/// What a [`SetReference`] is about, in the order of [`crate::Extension::sets`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Member {
    /// The source address.
    Source = 0,
    /// The destination address.
    Destination = 1,
    /// The source port.
    SourcePort = 2,
    /// The destination port.
    DestinationPort = 3,
}

/// Number of [`Member`]s.
pub const MEMBERS: u32 = 4;

impl SetReference {
    /// The set whose first node has this index.
    pub const fn new(node: u32, sense: Sense) -> Self {
        match sense {
            Sense::In => Self(node),
            Sense::NotIn => Self(node | NEGATED),
        }
    }

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// Index of the first node; 0 for none.
    #[inline(always)]
    pub(crate) const fn node(self) -> u32 {
        self.0 & !NEGATED
    }

    /// Whether a value that is in the set, or is not, matches.
    #[inline(always)]
    pub(crate) const fn allows(self, is_inside: bool) -> bool {
        is_inside == (self.0 & NEGATED == 0)
    }
}

impl Slot {
    /// A node. `begins` has a bit for each bound that begins a range, from the lowest on; what is missing of five
    /// bounds is above all values. Child `n` holds the bounds between bound `n - 1` and bound `n`.
    pub fn set_node(
        bounds: [u128; NODE_BOUNDS],
        begins: u8,
        (first_child, children): (u32, u8),
    ) -> Self {
        let mut words = [0; SLOT_WORDS];
        for (pair, bound) in words.chunks_exact_mut(2).zip(bounds) {
            let bytes = bound.to_be_bytes();
            for (word, half) in pair.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = half.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            }
        }
        words[BEGINS] = u64::from(begins);
        words[CHILDREN] = u64::from(first_child) | u64::from(children) << 32;
        Self(words)
    }

    /// How many of the bounds are not above a value.
    #[inline(always)]
    fn rank(&self, [high, low]: [u64; 2]) -> u32 {
        let mut rank = 0;
        let mut bound = 0;
        while bound < NODE_BOUNDS {
            let (bound_high, bound_low) = (self.0[2 * bound], self.0[2 * bound + 1]);
            if high > bound_high || (high == bound_high && low >= bound_low) {
                rank += 1;
            }
            bound += 1;
        }
        rank
    }

    /// Takes a step of a search: whether the value is in the set as far as this node tells, if it tells anything, and
    /// the node that tells more.
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    #[inline(always)]
    pub(crate) fn look_up(&self, value: [u64; 2]) -> (Option<bool>, Option<u32>) {
        let rank = self.rank(value);
        let found = if rank == 0 { None } else { Some(self.0[BEGINS] >> (rank - 1) & 1 == 1) };
        let (first, children) = (self.0[CHILDREN] as u32, (self.0[CHILDREN] >> 32) as u32);
        (found, if rank < children { Some(first + rank) } else { None })
    }
}

impl Key {
    /// What a set is asked for, by [`Member`].
    #[inline(always)]
    pub(crate) fn member(&self, member: u32) -> [u64; 2] {
        let member = (member & 3) as usize;
        if member < 2 {
            [self.0[2 * member], self.0[2 * member + 1]]
        } else {
            [0, self.0[member + 2]]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Address;

    #[test]
    fn a_node_tells_values_within_its_ranges() {
        let (low, high) = (1 << 64, (1 << 64) + 9);
        let node = Slot::set_node([low, high, 1 << 70, u128::MAX, u128::MAX], 0b101, (0, 0));
        let inside = |value: u128| {
            let [high, low] = Address::from_v6(value.to_be_bytes()).halves();
            node.look_up([u64::from_be(high), u64::from_be(low)]).0
        };
        for (value, expected) in [
            (0, None),
            (low - 1, None),
            (low, Some(true)),
            (high - 1, Some(true)),
            (high, Some(false)),
            ((1 << 70) - 1, Some(false)),
            (1 << 70, Some(true)),
        ] {
            assert_eq!(inside(value), expected, "{value:x}");
        }
    }

    #[test]
    fn references_say_which_values_match() {
        let [inside, outside] = [Sense::In, Sense::NotIn].map(|sense| SetReference::new(7, sense));
        assert!(inside.allows(true) && !inside.allows(false));
        assert!(outside.allows(false) && !outside.allows(true));
        assert_eq!((inside.node(), outside.node(), SetReference::default().node()), (7, 7, 0));
    }
}
