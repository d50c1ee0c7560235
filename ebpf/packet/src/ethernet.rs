//! Ethernet and up to two 802.1Q tags.

use nightgate_abi::Reason;

use crate::Frame;

/// EtherType of IPv4.
pub(crate) const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub(crate) const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub(crate) const IPV6: u16 = 0x86dd;
/// Tag protocol identifier of IEEE 802.1Q.
const VLAN: u16 = 0x8100;
/// Tag protocol identifier of IEEE 802.1ad, the outer tag of QinQ.
const VLAN_OUTER: u16 = 0x88a8;
/// Destination, source, EtherType.
const HEADER: usize = 14;
/// Tag control information and the EtherType behind it.
const TAG: usize = 4;
/// Tags that are looked behind.
const TAGS_MAX: usize = 2;

/// What Ethernet says.
pub(crate) struct Header {
    pub(crate) source_mac: [u8; 6],
    /// EtherType behind the tags.
    pub(crate) ether_type: u16,
    /// Offset of what it announces.
    pub(crate) end: usize,
}

#[inline(always)]
pub(crate) fn parse(frame: &impl Frame) -> Result<Header, Reason> {
    const SOURCE: usize = 6;
    let fixed: [u8; HEADER - SOURCE] = frame.read(SOURCE).ok_or(Reason::EthernetTruncated)?;
    let [a, b, c, d, e, f, type_0, type_1] = fixed;
    let source_mac = [a, b, c, d, e, f];
    let mut ether_type = u16::from_be_bytes([type_0, type_1]);
    let mut offset = HEADER;
    for _ in 0..TAGS_MAX {
        if !is_tag(ether_type) {
            return Ok(Header { source_mac, ether_type, end: offset });
        }
        let inner: [u8; 2] = frame.read(offset + 2).ok_or(Reason::VlanTruncated)?;
        ether_type = u16::from_be_bytes(inner);
        offset += TAG;
    }
    if is_tag(ether_type) {
        return Err(Reason::VlanDepth);
    }
    Ok(Header { source_mac, ether_type, end: offset })
}

#[inline(always)]
fn is_tag(ether_type: u16) -> bool {
    ether_type == VLAN || ether_type == VLAN_OUTER
}
