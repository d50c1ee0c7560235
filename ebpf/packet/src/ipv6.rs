//! IPv6 (RFC 8200) and its extension headers.

use nightgate_abi::{Address, Family, Reason};

use crate::{
    Frame, HEADERS_MAX, Packet,
    ethernet::Header,
    martian, protocol,
    transport::{self, Network},
};

/// Fixed header.
const HEADER: usize = 40;
/// Extension headers that are looked behind. Chains seen in real networks have at most two.
const EXTENSIONS_MAX: usize = 4;
/// Hop limit of genuine neighbour discovery: it has not been forwarded (RFC 4861 section 7.1).
const HOP_LIMIT_UNFORWARDED: u8 = 255;

/// Numbers of extension headers (IANA).
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
}

#[inline(always)]
pub(crate) fn parse(frame: &impl Frame, ethernet: &Header) -> Result<Packet, Reason> {
    let offset = ethernet.end;
    let header: [u8; 8] = frame.read(offset).ok_or(Reason::Ipv6Truncated)?;
    let source = frame.read(offset + 8).ok_or(Reason::Ipv6Truncated)?;
    let destination = frame.read(offset + 24).ok_or(Reason::Ipv6Truncated)?;
    let (source, destination) = (Address::from_v6(source), Address::from_v6(destination));
    let [version, service, _, _, len_0, len_1, next_header, hop_limit] = header;
    if version >> 4 != 6 {
        return Err(Reason::Ipv6Version);
    }
    let end = offset + HEADER + usize::from(u16::from_be_bytes([len_0, len_1]));
    if end > frame.length() {
        return Err(Reason::Ipv6PayloadLength);
    }
    martian::check_v6(source, destination)?;
    let (protocol, payload) = skip_extensions(frame, next_header, offset + HEADER, end)?;
    if protocol == protocol::ICMP {
        return Err(Reason::IcmpFamily);
    }
    let network = Network {
        source,
        destination,
        family: Family::V6,
        protocol,
        offset,
        // The traffic class is four bits of either byte.
        dscp: (version << 4 | service >> 4) >> 2,
        source_mac: ethernet.source_mac,
        length: end - payload,
    };
    let meta = transport::parse(frame, payload, &network)?;
    if protocol == protocol::ICMPV6
        && hop_limit == HOP_LIMIT_UNFORWARDED
        && transport::is_neighbour_discovery(frame, payload)
    {
        return Ok(Packet::NeighbourDiscovery);
    }
    Ok(Packet::Ip(meta))
}

/// The upper-layer protocol and its offset, which is not beyond `end`.
#[inline(always)]
pub(crate) fn skip_extensions(
    frame: &impl Frame,
    first: u8,
    start: usize,
    end: usize,
) -> Result<(u8, usize), Reason> {
    let (mut next, mut offset) = (first, start);
    for depth in 0..=EXTENSIONS_MAX {
        let units = match next {
            extension::FRAGMENT => return Err(Reason::Fragment),
            extension::HOP_BY_HOP if depth > 0 => return Err(Reason::Ipv6ExtensionOrder),
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION => 8,
            extension::AUTHENTICATION => 4,
            _ => return Ok((next, offset)),
        };
        if depth == EXTENSIONS_MAX || offset > HEADERS_MAX {
            return Err(Reason::Ipv6ExtensionDepth);
        }
        let fixed: [u8; 4] = frame.read(offset).ok_or(Reason::Ipv6ExtensionTruncated)?;
        let [following, length, routing_type, _] = fixed;
        if next == extension::ROUTING && routing_type == 0 {
            return Err(Reason::Ipv6RoutingType0);
        }
        // RFC 8200 section 4: 8-octet units, not counting the first. RFC 4302 section 2.2: 4-octet units, not
        // counting two.
        offset += (usize::from(length) + 8 / units) * units;
        if offset > end {
            return Err(Reason::Ipv6ExtensionTruncated);
        }
        next = following;
    }
    Err(Reason::Ipv6ExtensionDepth)
}
