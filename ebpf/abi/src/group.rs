//! Groups of trees in a bank, and what rules say beyond their action.

use crate::forest::Slot;

/// A group of rules with trees of its own: rules of different groups never decide in each other's place.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Group {
    /// Which flows pass.
    Filter = 0,
    /// Which flows get another destination.
    DestinationNat = 1,
    /// Which flows get another source.
    SourceNat = 2,
    /// Which flows are mirrored, by which session.
    Mirror = 3,
}

/// Number of groups. The first slots of a bank are their headers.
pub const GROUPS: u32 = 4;
/// References to slots of parameters in a slot.
pub const REFERENCES: u32 = 16;

impl Group {
    /// All of them, in the order of their headers.
    pub const ALL: [Self; GROUPS as usize] =
        [Self::Filter, Self::DestinationNat, Self::SourceNat, Self::Mirror];

    /// Index of the slot that holds the group's header.
    #[inline(always)]
    pub const fn header(self) -> u32 {
        self as u32
    }

    /// The slot of parameters of a rule; none if it has none. `slot` gives the slots of the bank by index.
    ///
    /// The header names the first of the slots of references, [`REFERENCES`] in each, one for each rule.
    #[inline(always)]
    pub fn parameters<'a>(
        self,
        rule: u32,
        slot: impl Fn(u32) -> Option<&'a Slot>,
    ) -> Option<&'a Slot> {
        let first = slot(self.header())?.first_reference()?;
        let reference = slot(first + rule / REFERENCES)?.reference(rule % REFERENCES);
        if reference == 0 { None } else { slot(reference) }
    }
}

impl Slot {
    /// References to slots of parameters; 0 for none.
    pub fn references(references: [u32; REFERENCES as usize]) -> Self {
        let mut slot = Self::default();
        for (index, reference) in references.into_iter().enumerate() {
            slot.0[index / 2] |= u64::from(reference) << (32 * (index % 2));
        }
        slot
    }

    /// The reference with an index below [`REFERENCES`].
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    #[inline(always)]
    fn reference(&self, index: u32) -> u32 {
        (self.0[((index / 2) & 7) as usize] >> (32 * (index & 1))) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_rule() {
        let mut references = [[0; REFERENCES as usize]; 2];
        (references[0][3], references[1][1]) = (6, 7);
        let [one, other] = [7, 8].map(|word| Slot([word; 12]));
        let bank = [
            Slot::header(&[], 4),
            Slot::header(&[], 0),
            Slot::header(&[], 0),
            Slot::header(&[], 0),
            Slot::references(references[0]),
            Slot::references(references[1]),
            one,
            other,
        ];
        let find = |group: Group, rule| group.parameters(rule, |index| bank.get(index as usize));
        assert_eq!(find(Group::Filter, 3), Some(&one));
        assert_eq!(find(Group::Filter, 17), Some(&other));
        assert_eq!(find(Group::Filter, 2), None);
        assert_eq!(find(Group::SourceNat, 3), None);
    }
}
