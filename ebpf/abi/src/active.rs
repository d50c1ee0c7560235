//! The word that says which bank of rules is in force.

/// Value of [`crate::maps::ACTIVE`]: one bit of bank, 31 bits of epoch.
///
/// One write of it replaces the whole rule set for every packet. The epoch only grows; flows remember the
/// one they were judged in and are judged again in another.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Active(u32);

impl Active {
    /// Nothing has been committed: every packet is refused.
    pub const NONE: Self = Self(0);

    /// The word for a bank, 0 or 1, and an epoch of 1 to 2^31 - 1.
    pub const fn new(bank: u32, epoch: u32) -> Self {
        Self(epoch << 1 | bank & 1)
    }

    /// Bank in force, 0 or 1.
    pub const fn bank(self) -> u32 {
        self.0 & 1
    }

    /// Epoch; 0 while nothing has been committed.
    pub const fn epoch(self) -> u32 {
        self.0 >> 1
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
    fn word_keeps_bank_and_epoch_apart() {
        for (bank, epoch) in [(0, 1), (1, 1), (0, 0x7fff_ffff), (1, 0x7fff_ffff)] {
            let word = Active::new(bank, epoch);
            assert_eq!((word.bank(), word.epoch()), (bank, epoch));
            assert_eq!(word.inactive_bank(), 1 - bank);
        }
        assert_eq!(Active::NONE.epoch(), 0);
    }
}
