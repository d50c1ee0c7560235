//! TCP segments (RFC 9293).

use nightgate_abi::Reason;

use crate::Frame;

/// Header without options.
pub(crate) const HEADER: usize = 20;

/// TCP flags (RFC 9293 section 3.1).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
}

/// What a segment says beside its ports and flags.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Segment {
    /// Sequence number of its first byte.
    pub sequence: u32,
    /// Acknowledgement number; counts if the flag says so.
    pub acknowledgement: u32,
    /// Window, not scaled.
    pub window: u16,
    /// Length of the header with its options, in bytes.
    pub header_length: u8,
    /// Bytes of data.
    pub length: u32,
}

/// What a segment is, with its ports and flags.
pub(crate) struct Tcp {
    pub(crate) ports: (u16, u16),
    pub(crate) flags: u8,
    pub(crate) segment: Segment,
}

/// Parses the header of a segment of `length` bytes, which the frame holds.
#[inline(always)]
pub(crate) fn parse(frame: &impl Frame, offset: usize, length: usize) -> Result<Tcp, Reason> {
    if length < HEADER {
        return Err(Reason::TcpTruncated);
    }
    let fixed: [u8; 16] = frame.read(offset).ok_or(Reason::TcpTruncated)?;
    let [p0, p1, p2, p3, s0, s1, s2, s3, a0, a1, a2, a3, data_offset, flags, w0, w1] = fixed;
    let header_length = usize::from(data_offset >> 4) * 4;
    if header_length < HEADER || header_length > length {
        return Err(Reason::TcpDataOffset);
    }
    if !is_possible(flags) {
        return Err(Reason::TcpFlags);
    }
    Ok(Tcp {
        ports: (u16::from_be_bytes([p0, p1]), u16::from_be_bytes([p2, p3])),
        flags,
        segment: Segment {
            sequence: u32::from_be_bytes([s0, s1, s2, s3]),
            acknowledgement: u32::from_be_bytes([a0, a1, a2, a3]),
            window: u16::from_be_bytes([w0, w1]),
            header_length: (data_offset >> 4) * 4,
            length: low_word(length - header_length),
        },
    })
}

/// Whether a connection can bring forth these flags: SYN, FIN and RST exclude each other, and all but a first SYN
/// and a RST acknowledge (RFC 9293 section 3.10.7).
#[inline(always)]
const fn is_possible(flags: u8) -> bool {
    use tcp_flags::{ACK, FIN, RST, SYN};
    /// One bit for each possible combination, by its value.
    const POSSIBLE: u32 =
        1 << SYN | 1 << (SYN | ACK) | 1 << RST | 1 << (RST | ACK) | 1 << ACK | 1 << (FIN | ACK);
    POSSIBLE >> (flags & (FIN | SYN | RST | ACK)) & 1 != 0
}

/// The length of data, which is below 2^32 as frames are.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
#[inline(always)]
const fn low_word(length: usize) -> u32 {
    length as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flags_that_connections_bring_forth_are_possible() {
        use tcp_flags::{ACK, FIN, RST, SYN};
        const PUSH_AND_URGENT: u8 = 0x28;
        for flags in [SYN, SYN | ACK, RST, RST | ACK, ACK, FIN | ACK] {
            assert!(is_possible(flags) && is_possible(flags | PUSH_AND_URGENT), "{flags:#x}");
        }
        for flags in [0, FIN, SYN | FIN, SYN | RST, RST | FIN, SYN | FIN | ACK, SYN | RST | ACK] {
            assert!(!is_possible(flags), "{flags:#x}");
        }
    }
}
