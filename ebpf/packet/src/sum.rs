//! The Internet checksum (RFC 1071).

use nightgate_abi::{Address, Family};

/// A ones' complement sum. Words are added as they are in memory, so that the checksum's bytes come out in the
/// order of the wire on any machine (RFC 1071 section 2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sum(u64);

impl Sum {
    /// A sum that was computed elsewhere, over whole 16-bit words in memory order.
    #[inline(always)]
    pub const fn from_native(sum: u32) -> Self {
        Self(sum as u64)
    }

    /// Adds bytes; their number is even.
    #[inline(always)]
    #[must_use]
    pub fn bytes<const N: usize>(self, bytes: &[u8; N]) -> Self {
        const { assert!(N.is_multiple_of(2), "whole words") };
        let mut sum = self.0;
        let mut offset = 0;
        while offset < N {
            sum += u64::from(u16::from_ne_bytes([bytes[offset], bytes[offset + 1]]));
            offset += 2;
        }
        Self(sum)
    }

    /// Adds the pseudo-header of a transport protocol: RFC 9293 section 3.1, RFC 8200 section 8.1.
    #[inline(always)]
    #[must_use]
    pub fn pseudo_header(
        self,
        family: Family,
        addresses: [Address; 2],
        protocol: u8,
        length: u16,
    ) -> Self {
        let mut sum = self.0;
        for address in addresses {
            sum += match family {
                Family::V4 => u64::from(address.quarters()[3]),
                Family::V6 => {
                    let [a, b, c, d] = address.quarters().map(u64::from);
                    a + b + c + d
                }
            };
        }
        Self(sum).bytes(&[0, protocol]).bytes(&length.to_be_bytes())
    }

    /// The sum as a word in memory order: what a network card that completes a checksum expects in its place.
    #[inline(always)]
    pub const fn word(self) -> [u8; 2] {
        // Two folds leave at most 33 bits, the third and fourth at most 17, the last 16.
        let mut sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        let [a, b, ..] = sum.to_le_bytes();
        u16::from_le_bytes([a, b]).to_ne_bytes()
    }

    /// The checksum: the complement of the sum.
    #[inline(always)]
    pub const fn checksum(self) -> [u8; 2] {
        let [a, b] = self.word();
        [!a, !b]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_of_the_rfc() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.word(), [0xdd, 0xf2]);
        assert_eq!(sum.checksum(), [0x22, 0x0d]);
    }

    #[test]
    fn carries_of_the_largest_sums_come_around() {
        for sum in [u64::from(u32::MAX), 9 * u64::from(u32::MAX), 0xffff, 0x1_0000, u64::MAX >> 8] {
            let expected = match sum % 0xffff {
                0 => 0xffff,
                other => other,
            };
            assert_eq!(u64::from(u16::from_ne_bytes(Sum(sum).word())), expected, "{sum:x}");
        }
    }
}
