//! What the network layer carries: UDP (RFC 768) here, and every other protocol by number.

use nightgate_abi::{Address, Family, Reason};

use crate::{Fragment, Frame, HEADERS_MAX, PacketMeta, Part, icmp, protocol, tcp};

/// UDP header.
const UDP_HEADER: usize = 8;

/// What the network layer says about its payload.
pub(crate) struct Network {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) family: Family,
    pub(crate) protocol: u8,
    /// Offset of the header in the frame.
    pub(crate) offset: usize,
    pub(crate) dscp: u8,
    pub(crate) source_mac: [u8; 6],
    /// Bytes of payload; the frame holds them all.
    pub(crate) length: usize,
    pub(crate) fragment: Fragment,
}

#[inline(always)]
pub(crate) fn parse(
    frame: &impl Frame,
    offset: usize,
    network: &Network,
) -> Result<PacketMeta, Reason> {
    if offset > HEADERS_MAX {
        return Err(Reason::Ipv6ExtensionDepth);
    }
    let mut meta = PacketMeta {
        family: network.family,
        network: position(network.offset),
        transport: position(offset),
        dscp: network.dscp,
        source_mac: network.source_mac,
        fragment: network.fragment,
        ..PacketMeta::between(network.protocol, (network.source, 0), (network.destination, 0))
    };
    if network.fragment.part != Part::Later {
        headed(frame, offset, network, &mut meta)
            .map_err(|reason| network.fragment.part.refusal(reason))?;
    }
    Ok(meta)
}

/// Parses the header of what has one.
#[inline(always)]
fn headed(
    frame: &impl Frame,
    offset: usize,
    network: &Network,
    meta: &mut PacketMeta,
) -> Result<(), Reason> {
    match network.protocol {
        protocol::TCP => {
            let tcp = tcp::parse(frame, offset, network.length)?;
            (meta.source_port, meta.destination_port) = tcp.ports;
            (meta.tcp_flags, meta.segment) = (tcp.flags, tcp.segment);
        }
        protocol::UDP => {
            (meta.source_port, meta.destination_port) = udp(frame, offset, network)?;
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let message = icmp::parse(frame, offset, network)?;
            (meta.source_port, meta.destination_port) = (message.identifier, message.identifier);
            (meta.icmp_type, meta.icmp_code) = (message.icmp_type, message.code);
            // Errors are short enough to be whole (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c)).
            if network.fragment.part == Part::First && meta.is_icmp_error() {
                return Err(Reason::FragmentControl);
            }
        }
        _ => {}
    }
    Ok(())
}

/// An offset of a header, which is at most [`HEADERS_MAX`].
#[expect(clippy::cast_possible_truncation, reason = "headers start in the first 512 bytes")]
#[inline(always)]
pub(crate) const fn position(offset: usize) -> u16 {
    offset as u16
}

/// Whether an ICMPv6 message is one of the five of neighbour discovery (RFC 4861 section 4).
#[inline(always)]
pub(crate) fn is_neighbour_discovery(frame: &impl Frame, offset: usize) -> bool {
    const ROUTER_SOLICITATION: u8 = 133;
    const REDIRECT: u8 = 137;
    matches!(frame.read(offset), Some([ROUTER_SOLICITATION..=REDIRECT, 0]))
}

#[inline(always)]
fn udp(frame: &impl Frame, offset: usize, network: &Network) -> Result<(u16, u16), Reason> {
    if network.length < UDP_HEADER {
        return Err(Reason::UdpTruncated);
    }
    let [s0, s1, d0, d1, l0, l1]: [u8; 6] = frame.read(offset).ok_or(Reason::UdpTruncated)?;
    let claimed = usize::from(u16::from_be_bytes([l0, l1]));
    // Of a first fragment, the rest is to come.
    let is_beyond = claimed > network.length && network.fragment.part == Part::Whole;
    if claimed < UDP_HEADER || is_beyond {
        return Err(Reason::UdpLength);
    }
    Ok((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
}
