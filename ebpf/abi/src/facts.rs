//! What rules ask of the packet that opens a flow, beyond its zones, addresses, protocol and ports.

/// Source MAC address, TCP flags and DSCP in one word, so that one comparison answers for all.
///
/// Bits 0 to 47 are the MAC address, 0 for a packet that did not come in by the interface at hand; bits 48 to 55
/// the TCP flags; bits 56 to 61 the differentiated services code point (RFC 2474).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Facts(u64);

/// Where the TCP flags are.
const FLAGS: u32 = 48;
/// Where the code point is.
const DSCP: u32 = 56;
/// Highest code point.
const DSCP_MAX: u8 = 63;

impl Facts {
    /// The facts of a packet. Only six bits of the code point count.
    #[inline(always)]
    pub const fn new(source_mac: [u8; 6], tcp_flags: u8, dscp: u8) -> Self {
        let [a, b, c, d, e, f] = source_mac;
        Self(
            u64::from_be_bytes([0, 0, a, b, c, d, e, f])
                | (tcp_flags as u64) << FLAGS
                | ((dscp & DSCP_MAX) as u64) << DSCP,
        )
    }

    /// The word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// One bit of a set of code points.
    #[inline(always)]
    pub const fn dscp_bit(self) -> u64 {
        1 << ((self.0 >> DSCP) & DSCP_MAX as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_do_not_overlap() {
        let all = Facts::new([0xff; 6], 0xff, 63);
        let parts =
            [Facts::new([0xff; 6], 0, 0), Facts::new([0; 6], 0xff, 0), Facts::new([0; 6], 0, 0xff)];
        assert_eq!(parts.iter().map(|part| part.word()).sum::<u64>(), all.word());
        assert_eq!(all.dscp_bit(), 1 << 63);
        assert_eq!(parts[0].dscp_bit(), 1);
        assert_eq!(Facts::new([2, 0, 0, 0, 0, 1], 0, 0).word(), 0x0200_0000_0001);
    }
}
