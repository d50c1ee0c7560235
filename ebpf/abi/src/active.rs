//! The word that says which bank of rules is in force.

/// Value of [`crate::maps::ACTIVE`]: one bit of bank, 31 bits of epoch, 27 bits of [`Features`], 5 bits of
/// [`Active::counters_shift`].
///
/// One write of it replaces the whole rule set for every packet. The epoch only grows; flows remember the
/// one they were judged in and are judged again in another.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Active(u64);

/// What the programs have to do beyond the filter: a set of bits, so that a packet pays for what is used. The
/// lower 27 bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Features(u32);

impl Features {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// Zones that bound the segments of TCP connections.
    pub const CLAMP_MSS: Self = Self(1 << 9);
    /// Rules that limit how many flows there may be.
    pub const LIMITS: Self = Self(1 << 8);
    /// Some rule is logged, so its packets are told of.
    pub const LOG: Self = Self(1 << 24);
    /// Packets that no rule matches are logged.
    pub const LOG_UNMATCHED: Self = Self(1 << 25);
    /// Some address is in quarantine: set and cleared between commits.
    pub const QUARANTINE: Self = Self(1 << 23);
    /// Some flow or address is limited by an alert: set and cleared between commits.
    pub const THROTTLE: Self = Self(1 << 22);
    /// Packets are traced: set and cleared between commits.
    pub const TRACE: Self = Self(1 << 26);
    /// Any of those that tell of packets.
    pub const SIGHT: Self = Self::LOG.with(Self::LOG_UNMATCHED).with(Self::TRACE);

    /// This set without the others.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// Filters of mirror sessions.
    pub const MIRROR: Self = Self(1 << 1);
    /// Translation rules.
    pub const NAT: Self = Self(1 << 0);

    /// Both sets together.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Active {
    /// Nothing has been committed: every packet is refused.
    pub const NONE: Self = Self(0);

    /// The word for a bank, 0 or 1, and an epoch of 1 to 2^31 - 1.
    pub const fn new(bank: u32, epoch: u32, features: Features) -> Self {
        let features = features.0 & Self::FEATURES;
        Self((features as u64) << 32 | (epoch as u64) << 1 | (bank & 1) as u64)
    }

    /// The bits of features in the upper half.
    const FEATURES: u32 = (1 << 27) - 1;

    /// The word with another [`Active::counters_shift`], below 32.
    pub const fn with_counters_shift(self, shift: u32) -> Self {
        Self(self.0 << 5 >> 5 | (shift as u64) << 59)
    }

    /// The same rules in another epoch, of 1 to 2^31 - 1.
    #[inline(always)]
    pub const fn in_epoch(self, epoch: u32) -> Self {
        Self::new(self.bank(), epoch, self.features()).with_counters_shift(self.counters_shift())
    }

    /// The same rules in the same epoch with other features.
    pub const fn with_features(self, features: Features) -> Self {
        Self::new(self.bank(), self.epoch(), features).with_counters_shift(self.counters_shift())
    }

    /// How the counters of the bank's rules are laid out: each CPU has 2 to this power of them, see
    /// [`crate::maps::rule_counter`].
    #[inline(always)]
    pub const fn counters_shift(self) -> u32 {
        (self.0 >> 59) as u32
    }

    /// Bank in force, 0 or 1.
    #[inline(always)]
    pub const fn bank(self) -> u32 {
        (self.0 & 1) as u32
    }

    /// Epoch; 0 while nothing has been committed.
    #[expect(clippy::cast_possible_truncation, reason = "takes the word apart")]
    #[inline(always)]
    pub const fn epoch(self) -> u32 {
        self.0 as u32 >> 1
    }

    /// What is used.
    #[inline(always)]
    pub const fn features(self) -> Features {
        Features((self.0 >> 32) as u32 & Self::FEATURES)
    }

    /// Whether any of the features is used.
    #[inline(always)]
    pub const fn uses(self, features: Features) -> bool {
        self.0 & (features.0 as u64) << 32 != 0
    }

    /// Bank that the next commit is staged into.
    pub const fn inactive_bank(self) -> u32 {
        self.bank() ^ 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_keeps_bank_epoch_and_features_apart() {
        for (features, shift) in [(0, 31), (1, 0), (1 << 26, 17), ((1 << 27) - 1, 1)] {
            let features = Features(features);
            for (bank, epoch) in [(0, 1), (1, 1), (0, 0x7fff_ffff), (1, 0x7fff_ffff)] {
                let word = Active::new(bank, epoch, features).with_counters_shift(shift);
                assert_eq!(word.counters_shift(), shift);
                let other = word.in_epoch(7);
                assert_eq!((other.epoch(), other.in_epoch(epoch)), (7, word));
                assert_eq!((word.bank(), word.epoch()), (bank, epoch));
                assert_eq!(word.features(), features);
                assert_eq!(word.inactive_bank(), 1 - bank);
                assert_eq!(word.uses(Features(1)), features.0 & 1 != 0);
            }
        }
        assert_eq!(Active::NONE.epoch(), 0);
    }
}
