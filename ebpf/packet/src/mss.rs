//! The maximum segment size that SYNs announce (RFC 9293 section 3.7.1).

use nightgate_abi::{Family, Reason};

use crate::{
    PacketMeta,
    checksum::Difference,
    rewrite::{Checksum, Covered, Rewritable, Zero},
};

/// Headers of IPv4 and TCP without options (RFC 6691).
const HEADERS_V4: u16 = 20 + 20;
/// Headers of IPv6 and TCP without extensions and options.
const HEADERS_V6: u16 = 40 + 20;
/// Offset of the checksum in a TCP header (RFC 9293 section 3.1).
const CHECKSUM: usize = 16;

/// The largest segment that a packet of `mtu` bytes has room for.
#[inline(always)]
pub const fn of_mtu(family: Family, mtu: u16) -> u16 {
    match family {
        Family::V4 => mtu.saturating_sub(HEADERS_V4),
        Family::V6 => mtu.saturating_sub(HEADERS_V6),
    }
}

/// Lowers what a SYN announces to `most`, with its checksum, if it announces more. `offset` is where the frame has it.
///
/// # Errors
/// The frame cannot be written.
#[inline(always)]
pub fn lower(
    frame: &impl Rewritable,
    meta: &PacketMeta,
    offset: usize,
    most: u16,
) -> Result<(), Reason> {
    let transport = usize::from(meta.transport);
    let Some(old) = frame.read::<2>(offset) else {
        return Ok(());
    };
    if u16::from_be_bytes(old) <= most {
        return Ok(());
    }
    let new = most.to_be_bytes();
    frame.replace(offset, new)?;
    // Options may begin anywhere: at an odd offset, each byte is in the other half of its word of the sum.
    let change = if offset.wrapping_sub(transport) & 1 == 0 {
        Difference::of_word(old, new)
    } else {
        Difference::of_word([old[1], old[0]], [new[1], new[0]])
    };
    let checksum = Checksum { offset: transport + CHECKSUM, zero: Zero::Sum };
    frame.adjust(checksum, change, Covered::Message)
}
