//! Limits on the flows that rules accept.

use crate::{Address, Family, Rate, Slot, forest::SLOT_WORDS};

/// Whose flows a limit counts together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Per {
    /// All of the rule's.
    Rule,
    /// Those of a source address; of IPv6, those of its /64 prefix, of which a host may use any address.
    Source,
}

/// The limits of a rule; in a bank, parameters of the rule.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    /// The same for a rule of the same name in another rule set, so that a commit does not fill buckets.
    pub tag: u64,
    /// How fast flows may begin.
    pub rate: Option<(Rate, Per)>,
    /// How many there may be at a time.
    pub connections: Option<(u32, Per)>,
}

/// Word of a slot that says which limits there are.
const KINDS: usize = 0;
const TAG: usize = 1;
const INTERVAL: usize = 2;
const DEPTH: usize = 3;
const CONNECTIONS: usize = 4;
/// Words of a slot that limits take: the first ones.
pub const LIMIT_WORDS: usize = 5;
const _: () = assert!(LIMIT_WORDS <= SLOT_WORDS);

const RATE: u64 = 1;
const RATE_PER_SOURCE: u64 = 2;
const COUNT: u64 = 4;
const COUNT_PER_SOURCE: u64 = 8;

impl Limits {
    /// The words that say it, zero where there is no limit.
    pub fn to_words(&self) -> [u64; LIMIT_WORDS] {
        let mut words = [0; LIMIT_WORDS];
        words[TAG] = self.tag;
        if let Some((rate, per)) = self.rate {
            words[KINDS] |= RATE | if per == Per::Source { RATE_PER_SOURCE } else { 0 };
            (words[INTERVAL], words[DEPTH]) = (rate.interval, rate.depth);
        }
        if let Some((most, per)) = self.connections {
            words[KINDS] |= COUNT | if per == Per::Source { COUNT_PER_SOURCE } else { 0 };
            words[CONNECTIONS] = u64::from(most);
        }
        words
    }

    /// What the words of a slot say.
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    #[inline(always)]
    pub fn from_slot(slot: &Slot) -> Self {
        let words = &slot.0;
        let per = |bit| if words[KINDS] & bit == 0 { Per::Rule } else { Per::Source };
        let rate = Rate { interval: words[INTERVAL], depth: words[DEPTH] };
        Self {
            tag: words[TAG],
            rate: if words[KINDS] & RATE == 0 { None } else { Some((rate, per(RATE_PER_SOURCE))) },
            connections: if words[KINDS] & COUNT == 0 {
                None
            } else {
                Some((words[CONNECTIONS] as u32, per(COUNT_PER_SOURCE)))
            },
        }
    }
}

/// Key of [`crate::maps::RATES`] and [`crate::maps::CONNECTIONS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LimitKey {
    /// [`Limits::tag`].
    pub tag: u64,
    /// Whose flows are counted; [`Address::UNSPECIFIED`] for those of the whole rule.
    pub source: Address,
}

const _: () = assert!(size_of::<LimitKey>() == 24);

impl LimitKey {
    /// The key of a flow from a source address.
    #[inline(always)]
    pub const fn new(tag: u64, per: Per, source: Address) -> Self {
        let source = match per {
            Per::Rule => Address::UNSPECIFIED,
            Per::Source => match source.family() {
                Family::V4 => source,
                Family::V6 => Address::from_halves([source.halves()[0], 0]),
            },
        };
        Self { tag, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_survive_in_a_slot() {
        let rate = Rate::new(10, 1_000_000_000, 20);
        for rate in [None, Some((rate, Per::Rule)), Some((rate, Per::Source))] {
            for connections in [None, Some((7, Per::Rule)), Some((u32::MAX, Per::Source))] {
                let limits = Limits { tag: 99, rate, connections };
                let mut slot = Slot::default();
                slot.0[..LIMIT_WORDS].copy_from_slice(&limits.to_words());
                assert_eq!(Limits::from_slot(&slot), limits);
            }
        }
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_limit() {
        let v6 =
            |last| Address::from_v6([0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, last]);
        let key = |address| LimitKey::new(5, Per::Source, address);
        assert_eq!(key(v6(1)), key(v6(2)));
        let v4 = |last| Address::from_v4([10, 0, 0, last]);
        assert_ne!(key(v4(1)), key(v4(2)));
        assert_eq!(LimitKey::new(5, Per::Rule, v4(1)), LimitKey::new(5, Per::Rule, v6(1)));
    }
}
