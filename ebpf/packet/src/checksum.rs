//! Keeping Internet checksums true while fields change (RFC 1071, RFC 1624).

use nightgate_abi::{Address, Family};

/// What a change of some fields adds to the one's complement sum of a packet.
///
/// A sum of 16-bit words in memory order. One's complement sums do not depend on the order of bytes, so
/// neither do differences, as long as every word starts at an even offset of what the checksum covers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Difference(u32);

impl Difference {
    /// Nothing changes.
    pub const NONE: Self = Self(0);

    /// A field of two bytes becomes another.
    #[inline(always)]
    pub const fn of_word(old: [u8; 2], new: [u8; 2]) -> Self {
        let (old, new) = (u16::from_ne_bytes(old), u16::from_ne_bytes(new));
        Self(!old as u32 + new as u32)
    }

    /// An address of a family becomes another.
    #[inline(always)]
    pub const fn of_address(family: Family, old: Address, new: Address) -> Self {
        let (old, new) = (old.quarters(), new.quarters());
        let last = Self::of_quarter(old[3], new[3]);
        match family {
            Family::V4 => last,
            Family::V6 => Self::of_quarter(old[0], new[0])
                .and(Self::of_quarter(old[1], new[1]))
                .and(Self::of_quarter(old[2], new[2]))
                .and(last),
        }
    }

    #[inline(always)]
    const fn of_quarter(old: u32, new: u32) -> Self {
        let old = !old;
        Self((old & 0xffff) + (old >> 16) + (new & 0xffff) + (new >> 16))
    }

    /// Both changes.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        // Folded, each is below 2^17, so that no sum overflows.
        Self(fold(self.0) + fold(other.0))
    }

    /// The checksum after the change (RFC 1624, equation 3).
    #[expect(clippy::cast_possible_truncation, reason = "a sum folded twice has 16 bits")]
    #[inline(always)]
    pub const fn apply(self, checksum: [u8; 2]) -> [u8; 2] {
        let old = !u16::from_ne_bytes(checksum) as u32;
        let sum = fold(fold(old + fold(self.0)));
        (!(sum as u16)).to_ne_bytes()
    }

    /// The sum as the kernel's helpers take it, in memory order.
    #[inline(always)]
    pub const fn sum(self) -> u32 {
        fold(self.0)
    }
}

/// Adds the carries of a sum to it.
#[inline(always)]
const fn fold(sum: u32) -> u32 {
    (sum & 0xffff) + (sum >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_come_out() {
        // RFC 1624 section 4: 0xdd2f with 0x5555 changed to 0x3285 is 0x0000, not 0xffff.
        let difference = Difference::of_word(0x5555_u16.to_be_bytes(), 0x3285_u16.to_be_bytes());
        assert_eq!(difference.apply(0xdd2f_u16.to_be_bytes()), [0, 0]);
    }

    #[test]
    fn no_change_keeps_a_checksum() {
        for checksum in [[0, 1], [0x12, 0x34], [0xff, 0xfe], [0, 0]] {
            assert_eq!(Difference::NONE.apply(checksum), checksum);
            let same = Difference::of_word([7, 9], [7, 9]);
            assert_eq!(same.apply(checksum), checksum);
        }
    }
}
