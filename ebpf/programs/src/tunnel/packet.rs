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
/// More fragments, and the offset of one (RFC 791 section 3.1).
const FRAGMENT_BITS: u16 = 0x3fff;
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
    /// It is a part of one, which may have no ports.
    pub(crate) fragment: bool,
    /// Offset of the header behind that of IP, except in parts of packets.
    pub(crate) transport: usize,
}

impl Packet {
    /// Reads a packet whose network header begins at `start`; `None` if it is of another protocol.
    #[inline(always)]
    pub(crate) fn read(ctx: &TcContext, start: usize) -> Option<Self> {
        // SAFETY: the context is valid for the whole program run.
        let ether_type = u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16);
        let (family, source, destination, protocol, fragment, header) = match ether_type {
            IPV4 => {
                let words = ctx.load::<u8>(start).ok()? & 0x0f;
                let part = u16::from_be(ctx.load::<u16>(start + 6).ok()?) & FRAGMENT_BITS != 0;
                let protocol = ctx.load::<u8>(start + 9).ok()?;
                let source = Address::from_v4(ctx.load::<[u8; 4]>(start + 12).ok()?);
                let destination = Address::from_v4(ctx.load::<[u8; 4]>(start + 16).ok()?);
                let header = start + usize::from(words) * 4;
                (Family::V4, source, destination, protocol, part, header)
            }
            IPV6 => {
                let next = ctx.load::<u8>(start + 6).ok()?;
                let source = Address::from_v6(ctx.load::<[u8; 16]>(start + 8).ok()?);
                let destination = Address::from_v6(ctx.load::<[u8; 16]>(start + 24).ok()?);
                let part = next == FRAGMENT;
                let protocol = if part { ctx.load::<u8>(start + 40).ok()? } else { next };
                (Family::V6, source, destination, protocol, part, start + 40)
            }
            _ => return None,
        };
        if protocol != TCP && protocol != UDP {
            return None;
        }
        let mut ends = Taken { source, destination, protocol, ..Taken::default() };
        if fragment {
            return Some(Self { family, ends, begins: false, fragment, transport: header });
        }
        let [from, to] = ctx.load::<[u16; 2]>(header).ok()?.map(u16::from_be);
        (ends.source_port, ends.destination_port) = (from, to);
        let begins = protocol == TCP && begins(ctx, header)?;
        Some(Self { family, ends, begins, fragment, transport: header })
    }
}
