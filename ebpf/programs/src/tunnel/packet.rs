//! What the programs on interfaces look at of a packet.

use aya_ebpf::programs::TcContext;
use nightgate_abi::{Address, Family, tunnel::Taken};
use nightgate_packet::{
    protocol::{TCP, UDP},
    tcp_flags,
};

/// Length of the link header, which the loopback interface has too.
pub(crate) const LINK: usize = 14;
/// EtherTypes (IANA).
pub(crate) const IPV4: u16 = 0x0800;
/// Likewise.
pub(crate) const IPV6: u16 = 0x86dd;
/// Next header of a fragment (RFC 8200 section 4.5).
const FRAGMENT: u8 = 44;
/// Length of its header.
const FRAGMENT_HEADER: usize = 8;
/// More fragments, and the offset of one (RFC 791 section 3.1).
const FRAGMENT_BITS: u16 = 0x3fff;
/// The offset alone, and that of IPv6 (RFC 8200 section 4.5).
const OFFSET_V4: u16 = 0x1fff;
/// Likewise.
const OFFSET_V6: u16 = 0xfff8;
/// Offset of the flags in a TCP header (RFC 9293 section 3.1).
const TCP_FLAGS: usize = 13;

/// Whether the segment whose header is there begins a connection.
#[inline(always)]
pub(crate) fn begins(ctx: &TcContext, header: usize) -> Option<bool> {
    let flags = ctx.load::<u8>(header + TCP_FLAGS).ok()?;
    Some(flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN)
}

/// A packet of TCP or UDP.
pub(crate) struct Packet {
    pub(crate) family: Family,
    pub(crate) ends: Taken,
    /// It begins a connection.
    pub(crate) begins: bool,
    /// It is a part of one.
    pub(crate) fragment: bool,
    /// Of which one, among those between two hosts; 0 if it is whole.
    pub(crate) identification: u32,
    /// It is whole, or the first part: later ones have none.
    pub(crate) has_ports: bool,
    /// Offset of what is behind the header of IP.
    pub(crate) transport: usize,
}

impl Packet {
    /// Reads a packet whose network header begins at `start`; `None` if it is of another protocol.
    #[inline(always)]
    pub(crate) fn read(ctx: &TcContext, start: usize) -> Option<Self> {
        // SAFETY: the context is valid for the whole program run.
        let ether_type = u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16);
        let mut packet = match ether_type {
            IPV4 => Self::read_v4(ctx, start)?,
            IPV6 => Self::read_v6(ctx, start)?,
            _ => return None,
        };
        let protocol = packet.ends.protocol;
        if protocol != TCP && protocol != UDP {
            return None;
        }
        if packet.has_ports {
            let [from, to] = ctx.load::<[u16; 2]>(packet.transport).ok()?.map(u16::from_be);
            (packet.ends.source_port, packet.ends.destination_port) = (from, to);
        }
        packet.begins = !packet.fragment && protocol == TCP && begins(ctx, packet.transport)?;
        Some(packet)
    }

    #[inline(always)]
    fn read_v4(ctx: &TcContext, start: usize) -> Option<Self> {
        let words = ctx.load::<u8>(start).ok()? & 0x0f;
        let identification = u16::from_be(ctx.load::<u16>(start + 4).ok()?);
        let part = u16::from_be(ctx.load::<u16>(start + 6).ok()?);
        let fragment = part & FRAGMENT_BITS != 0;
        let ends = Taken {
            source: Address::from_v4(ctx.load::<[u8; 4]>(start + 12).ok()?),
            destination: Address::from_v4(ctx.load::<[u8; 4]>(start + 16).ok()?),
            protocol: ctx.load::<u8>(start + 9).ok()?,
            ..Taken::default()
        };
        Some(Self {
            family: Family::V4,
            ends,
            begins: false,
            fragment,
            identification: if fragment { identification.into() } else { 0 },
            has_ports: part & OFFSET_V4 == 0,
            transport: start + usize::from(words) * 4,
        })
    }

    #[inline(always)]
    fn read_v6(ctx: &TcContext, start: usize) -> Option<Self> {
        let header = start + 40;
        let ends = Taken {
            source: Address::from_v6(ctx.load::<[u8; 16]>(start + 8).ok()?),
            destination: Address::from_v6(ctx.load::<[u8; 16]>(start + 24).ok()?),
            protocol: ctx.load::<u8>(start + 6).ok()?,
            ..Taken::default()
        };
        let whole = Self {
            family: Family::V6,
            ends,
            begins: false,
            fragment: false,
            identification: 0,
            has_ports: true,
            transport: header,
        };
        if ends.protocol != FRAGMENT {
            return Some(whole);
        }
        let part = u16::from_be(ctx.load::<u16>(header + 2).ok()?);
        Some(Self {
            ends: Taken { protocol: ctx.load::<u8>(header).ok()?, ..ends },
            fragment: true,
            identification: ctx.load::<u32>(header + 4).ok()?,
            has_ports: part & OFFSET_V6 == 0,
            transport: header + FRAGMENT_HEADER,
            ..whole
        })
    }
}
