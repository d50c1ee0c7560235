//! IPv6 (RFC 8200) and its extension headers.

use nightgate_abi::{Address, Family, Reason};

use crate::{
    Frame, HEADERS_MAX, Packet,
    ethernet::Header,
    fragment::{self, Fragment, More},
    martian, protocol,
    transport::{self, Network},
};

/// Fixed header.
const HEADER: usize = 40;
/// Extension headers that are looked behind, before and behind a fragment header. Chains seen in real networks have at most two.
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
pub(crate) fn parse<F: Frame>(frame: &F, ethernet: &Header) -> Result<Packet, Reason> {
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
    if F::IS_ON_WIRE {
        martian::check_v6(source, destination)?;
    }
    let Chain { protocol, payload, fragment } =
        Chain::read(frame, next_header, offset + HEADER, end)?;
    let part = match fragment {
        Some(header) => header.fragment(offset + HEADER, end)?,
        None => Fragment::WHOLE,
    };
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
        fragment: part,
    };
    let meta = transport::parse(frame, payload, &network)?;
    if protocol == protocol::ICMPV6
        && hop_limit == HOP_LIMIT_UNFORWARDED
        && transport::is_neighbour_discovery(frame, payload)
    {
        // RFC 6980 section 5: none with a fragment header.
        return match fragment {
            Some(_) => Err(Reason::FragmentControl),
            None => Ok(Packet::NeighbourDiscovery),
        };
    }
    Ok(Packet::Ip(meta))
}

/// Extension headers, as far as they are there.
pub(crate) struct Chain {
    /// Upper-layer protocol; of a later fragment, what the fragment header says is next.
    pub(crate) protocol: u8,
    /// Offset of what they precede, which is not beyond the packet's end.
    pub(crate) payload: usize,
    /// The fragment header.
    pub(crate) fragment: Option<FragmentHeader>,
}

/// A fragment header.
#[derive(Clone, Copy)]
pub(crate) struct FragmentHeader {
    /// Where it is.
    offset: usize,
    /// Its third and fourth byte.
    word: u16,
    identification: u32,
}

/// Fragment offset in the third and fourth byte of a fragment header, in bytes; below are two reserved bits and the
/// one for more fragments.
const FRAGMENT_OFFSET: u16 = 0xfff8;
/// More fragments.
const MORE_FRAGMENTS: u16 = 1;
/// Fragment header.
const FRAGMENT_HEADER: usize = 8;

impl Chain {
    /// Looks behind the extension headers from `start` on, in a packet that ends at `end`. They may have one fragment
    /// header among them.
    #[inline(always)]
    pub(crate) fn read(
        frame: &impl Frame,
        first: u8,
        start: usize,
        end: usize,
    ) -> Result<Self, Reason> {
        let (protocol, payload) = skip_extensions(frame, first, start, end)?;
        if protocol != extension::FRAGMENT {
            return Ok(Self { protocol, payload, fragment: None });
        }
        let offset = payload;
        if offset > HEADERS_MAX {
            return Err(Reason::Ipv6ExtensionDepth);
        }
        let header: [u8; FRAGMENT_HEADER] =
            frame.read(offset).ok_or(Reason::Ipv6ExtensionTruncated)?;
        let payload = offset + FRAGMENT_HEADER;
        if payload > end {
            return Err(Reason::Ipv6ExtensionTruncated);
        }
        let [protocol, _, offset_0, offset_1, identification @ ..] = header;
        let word = u16::from_be_bytes([offset_0, offset_1]);
        let identification = u32::from_be_bytes(identification);
        let header = FragmentHeader { offset, word, identification };
        if header.is_later() {
            return Ok(Self { protocol, payload, fragment: Some(header) });
        }
        if protocol == extension::HOP_BY_HOP {
            return Err(Reason::Ipv6ExtensionOrder);
        }
        let (protocol, payload) = skip_extensions(frame, protocol, payload, end)?;
        if protocol == extension::FRAGMENT {
            return Err(Reason::Ipv6ExtensionOrder);
        }
        Ok(Self { protocol, payload, fragment: Some(header) })
    }
}

impl FragmentHeader {
    /// Whether it is that of a later fragment.
    #[inline(always)]
    pub(crate) const fn is_later(self) -> bool {
        self.word & FRAGMENT_OFFSET != 0
    }

    /// The fragment, in a packet whose extension headers begin at `start` and that ends at `end`.
    #[inline(always)]
    fn fragment(self, start: usize, end: usize) -> Result<Fragment, Reason> {
        let is_last = self.word & MORE_FRAGMENTS == 0;
        let header = fragment::Header {
            identification: self.identification,
            units: self.word / 8,
            more: if is_last { More::None } else { More::Fragments },
        };
        // The packet that is put together has no fragment header.
        header.of(self.offset - start, end - (self.offset + FRAGMENT_HEADER))
    }
}

/// The protocol behind extension headers, or the number of the fragment header, and its offset, which is not beyond
/// `end`.
#[inline(always)]
fn skip_extensions(
    frame: &impl Frame,
    first: u8,
    start: usize,
    end: usize,
) -> Result<(u8, usize), Reason> {
    let (mut next, mut offset) = (first, start);
    for depth in 0..=EXTENSIONS_MAX {
        let units = match next {
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
