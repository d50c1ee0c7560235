//! What ICMP and ICMPv6 errors quote: the packet that they are about.

use nightgate_abi::{Address, Family, Reason};

use crate::{
    Fragment, Frame, HEADERS_MAX, PacketMeta, icmp, ipv6::Chain, protocol, transport::position,
};

/// IPv4 header without options.
const IPV4_HEADER: usize = 20;
/// IPv6 header.
const IPV6_HEADER: usize = 40;
/// ICMP header of an error.
const ICMP_HEADER: usize = 8;
/// Mask of offsets of headers, which are below it: the verifier has to see the bound where it is used.
const OFFSETS: usize = 2 * HEADERS_MAX - 1;
/// Fragment offset of IPv4.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Reads the packet that an error quotes into `quoted`. Of it, the network header and the first eight bytes behind it
/// count (RFC 792, RFC 4443 section 2.4 (c)): of TCP its ports and sequence number.
///
/// # Errors
/// The quote is cut off, is of another family, is a later fragment, or was not sent by the error's receiver.
#[inline(always)]
pub fn quote(
    frame: &impl Frame,
    error: &PacketMeta,
    quoted: &mut PacketMeta,
) -> Result<(), Reason> {
    let start = (usize::from(error.transport) & OFFSETS) + ICMP_HEADER;
    let offset = match error.family {
        Family::V4 => ipv4(frame, start, quoted)?,
        Family::V6 => ipv6(frame, start, quoted)?,
    };
    (quoted.family, quoted.fragment) = (error.family, Fragment::WHOLE);
    (quoted.network, quoted.transport) = (position(start), position(offset));
    if quoted.source != error.destination || offset > HEADERS_MAX {
        return Err(Reason::IcmpQuote);
    }
    let [b0, b1, b2, b3, b4, b5, b6, b7]: [u8; 8] =
        frame.read(offset & OFFSETS).ok_or(Reason::IcmpQuote)?;
    (quoted.source_port, quoted.destination_port) = (0, 0);
    (quoted.icmp_type, quoted.icmp_code) = (0, 0);
    match quoted.protocol {
        protocol::TCP | protocol::UDP => {
            quoted.source_port = u16::from_be_bytes([b0, b1]);
            quoted.destination_port = u16::from_be_bytes([b2, b3]);
            quoted.segment.sequence = u32::from_be_bytes([b4, b5, b6, b7]);
        }
        protocol::ICMP | protocol::ICMPV6 => {
            // Errors are not about errors (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)).
            if icmp::query(quoted.family, b0).is_none() {
                return Err(Reason::IcmpQuote);
            }
            (quoted.icmp_type, quoted.icmp_code) = (b0, b1);
            quoted.source_port = u16::from_be_bytes([b4, b5]);
            quoted.destination_port = quoted.source_port;
        }
        _ => {}
    }
    Ok(())
}

/// Reads a quoted IPv4 header. Returns the offset behind it.
#[inline(always)]
fn ipv4(frame: &impl Frame, start: usize, quoted: &mut PacketMeta) -> Result<usize, Reason> {
    let header: [u8; IPV4_HEADER] = frame.read(start).ok_or(Reason::IcmpQuote)?;
    let [version_ihl, _, _, _, _, _, frag_0, frag_1, _, protocol, _, _, addresses @ ..] = header;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    let length = usize::from(version_ihl & 0xf) * 4;
    let is_later = u16::from_be_bytes([frag_0, frag_1]) & FRAGMENT_OFFSET != 0;
    if version_ihl >> 4 != 4 || length < IPV4_HEADER || is_later {
        return Err(Reason::IcmpQuote);
    }
    quoted.source = Address::from_v4([s0, s1, s2, s3]);
    quoted.destination = Address::from_v4([d0, d1, d2, d3]);
    quoted.protocol = protocol;
    Ok(start + length)
}

/// Reads a quoted IPv6 header and its extension headers. Returns the offset behind them.
#[inline(always)]
fn ipv6(frame: &impl Frame, start: usize, quoted: &mut PacketMeta) -> Result<usize, Reason> {
    let [version, _, _, _, _, _, next, _]: [u8; 8] = frame.read(start).ok_or(Reason::IcmpQuote)?;
    let source = frame.read(start + 8).ok_or(Reason::IcmpQuote)?;
    let destination = frame.read(start + 24).ok_or(Reason::IcmpQuote)?;
    if version >> 4 != 6 {
        return Err(Reason::IcmpQuote);
    }
    quoted.source = Address::from_v6(source);
    quoted.destination = Address::from_v6(destination);
    // The quoted packet's own end is beyond the quote's.
    let end = frame.length();
    let found = Chain::read(frame, next, start + IPV6_HEADER, end);
    let chain = found.map_err(|_quoted| Reason::IcmpQuote)?;
    if chain.fragment.is_some_and(|header| header.is_later()) {
        return Err(Reason::IcmpQuote);
    }
    quoted.protocol = chain.protocol;
    Ok(chain.payload)
}
