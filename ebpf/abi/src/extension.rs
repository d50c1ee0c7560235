//! What a rule asks that has no room in a [`RuleEntry`].

use crate::{
    forest::{SLOT_WORDS, Slot},
    rule::{EXTENDED, RuleEntry, Subject},
    set::{MEMBERS, Sense, SetReference},
};

/// The slot behind an entry that is marked [`EXTENDED`]. It is looked at only if the entry matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extension {
    /// What the [`crate::Facts`] have to be, where `facts_mask` has bits.
    pub facts: u64,
    /// Which facts count.
    pub facts_mask: u64,
    /// Set of code points, by [`crate::Facts::dscp_bit`].
    pub dscp: u64,
    /// Sets that source, destination, source port and destination port have to be in: see [`crate::set::Member`].
    pub sets: [SetReference; MEMBERS as usize],
}

/// First word of the sets.
const SETS: usize = 3;
/// Word that holds what the entry's last word does: the rule and what becomes of the packet.
const REST: usize = SLOT_WORDS - 1;

impl Extension {
    /// An extension that restricts nothing.
    pub const ANY: Self = Self {
        facts: 0,
        facts_mask: 0,
        dscp: u64::MAX,
        sets: [SetReference::new(0, Sense::In); MEMBERS as usize],
    };

    /// The slot behind an entry.
    pub const fn to_slot(self, entry: RuleEntry) -> Slot {
        let mut words = [0; SLOT_WORDS];
        words[0] = self.facts;
        words[1] = self.facts_mask;
        words[2] = self.dscp;
        let mut member = 0;
        while member < MEMBERS as usize {
            words[SETS + member / 2] |= (self.sets[member].bits() as u64) << (32 * (member % 2));
            member += 1;
        }
        words[REST] = RuleEntry { action: entry.action & !EXTENDED, ..entry }.to_words()[REST];
        Slot(words)
    }
}

impl Slot {
    /// The set of an extension for a [`crate::set::Member`].
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    #[inline(always)]
    pub(crate) fn set_of(&self, member: u32) -> SetReference {
        let member = member & 3;
        let word = self.0[SETS + (member / 2) as usize];
        SetReference::from_bits((word >> (32 * (member % 2))) as u32)
    }
}

impl Subject {
    /// Whether an extension matches, its sets apart.
    #[inline(always)]
    pub(crate) const fn meets(&self, extension: &Slot) -> bool {
        let [facts, facts_mask, dscp, ..] = extension.0;
        (self.facts.word() ^ facts) & facts_mask == 0 && dscp & self.facts.dscp_bit() != 0
    }
}
