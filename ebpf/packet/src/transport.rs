//! TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792), ICMPv6 (RFC 4443), and every other protocol by number.

use nightgate_abi::{Address, Family, Reason};

use crate::{Frame, HEADERS_MAX, PacketMeta, protocol};

/// TCP header without options.
const TCP_HEADER: usize = 20;
/// UDP header.
const UDP_HEADER: usize = 8;
/// The shortest ICMP or ICMPv6 message.
const ICMP_HEADER: usize = 8;

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

/// What the network layer says about its payload.
pub(crate) struct Network {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) family: Family,
    pub(crate) protocol: u8,
    /// Bytes of payload; the frame holds them all.
    pub(crate) length: usize,
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
    let (ports, tcp_flags) = match network.protocol {
        protocol::TCP => tcp(frame, offset, network.length)?,
        protocol::UDP => (udp(frame, offset, network.length)?, 0),
        protocol::ICMP | protocol::ICMPV6 => (icmp(frame, offset, network)?, 0),
        _ => ((0, 0), 0),
    };
    Ok(PacketMeta {
        source: network.source,
        destination: network.destination,
        source_port: ports.0,
        destination_port: ports.1,
        protocol: network.protocol,
        tcp_flags,
        family: network.family,
    })
}

/// Whether an ICMPv6 message is one of the five of neighbour discovery (RFC 4861 section 4).
#[inline(always)]
pub(crate) fn is_neighbour_discovery(frame: &impl Frame, offset: usize) -> bool {
    const ROUTER_SOLICITATION: u8 = 133;
    const REDIRECT: u8 = 137;
    matches!(frame.read(offset), Some([ROUTER_SOLICITATION..=REDIRECT, 0]))
}

#[inline(always)]
fn tcp(frame: &impl Frame, offset: usize, length: usize) -> Result<((u16, u16), u8), Reason> {
    if length < TCP_HEADER {
        return Err(Reason::TcpTruncated);
    }
    let [s0, s1, d0, d1]: [u8; 4] = frame.read(offset).ok_or(Reason::TcpTruncated)?;
    let [data_offset, flags]: [u8; 2] = frame.read(offset + 12).ok_or(Reason::TcpTruncated)?;
    let header_length = usize::from(data_offset >> 4) * 4;
    if header_length < TCP_HEADER || header_length > length {
        return Err(Reason::TcpDataOffset);
    }
    Ok(((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])), flags))
}

#[inline(always)]
fn udp(frame: &impl Frame, offset: usize, length: usize) -> Result<(u16, u16), Reason> {
    if length < UDP_HEADER {
        return Err(Reason::UdpTruncated);
    }
    let [s0, s1, d0, d1, l0, l1]: [u8; 6] = frame.read(offset).ok_or(Reason::UdpTruncated)?;
    let claimed = usize::from(u16::from_be_bytes([l0, l1]));
    if claimed < UDP_HEADER || claimed > length {
        return Err(Reason::UdpLength);
    }
    Ok((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
}

#[inline(always)]
fn icmp(frame: &impl Frame, offset: usize, network: &Network) -> Result<(u16, u16), Reason> {
    if network.length < ICMP_HEADER {
        return Err(Reason::IcmpTruncated);
    }
    let [kind, _, _, _, id_0, id_1]: [u8; 6] = frame.read(offset).ok_or(Reason::IcmpTruncated)?;
    let is_echo = match network.family {
        // RFC 792: echo reply and echo.
        Family::V4 => kind == 0 || kind == 8,
        // RFC 4443 section 4: echo request and echo reply.
        Family::V6 => kind == 128 || kind == 129,
    };
    let identifier = if is_echo { u16::from_be_bytes([id_0, id_1]) } else { 0 };
    Ok((identifier, identifier))
}
