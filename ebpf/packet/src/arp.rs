//! ARP (RFC 826) for IPv4 over Ethernet.

use nightgate_abi::Reason;

use crate::{Frame, Packet};

/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
/// Fixed part, operation and two pairs of addresses.
const LENGTH: usize = 28;

#[inline(always)]
pub(crate) fn parse(frame: &impl Frame, offset: usize) -> Result<Packet, Reason> {
    let fixed: [u8; 6] = frame.read(offset).ok_or(Reason::ArpMalformed)?;
    if fixed != ETHERNET_IPV4 || frame.length() < offset + LENGTH {
        return Err(Reason::ArpMalformed);
    }
    Ok(Packet::Arp)
}
