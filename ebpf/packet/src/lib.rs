//! Packet header parsing, pure and shared by kernel programs and host tests.
//!
//! [`parse`] reads an Ethernet frame through [`Frame`] and says what it is, or the [`Reason`] why it is
//! refused. Nothing is read beyond the frame or beyond [`HEADERS_MAX`], whatever the frame claims.

#![no_std]

mod arp;
mod ethernet;
mod ipv4;
mod ipv6;
mod martian;
mod transport;
pub mod vxlan;

use nightgate_abi::{Address, Family, FlowKey, Reason, flow::End};

pub use transport::tcp_flags;

/// Offset from the start of the frame beyond which no header is looked for, in bytes.
pub const HEADERS_MAX: usize = 512;

/// IP protocol numbers (IANA) that the parser tells apart.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// Bytes of a frame, from its Ethernet header on.
pub trait Frame {
    /// Length of the whole frame in bytes.
    fn length(&self) -> usize;

    /// `N` bytes at an offset of at most [`HEADERS_MAX`], or `None` if the frame ends before.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

/// What a well-formed frame is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Packet {
    /// ARP for IPv4 over Ethernet.
    Arp,
    /// IPv6 neighbour discovery with hop limit 255.
    NeighbourDiscovery,
    /// Any other IP packet.
    Ip(PacketMeta),
}

/// What is known of an IP packet after parsing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PacketMeta {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port; identifier of an ICMP or ICMPv6 echo; else 0.
    pub source_port: u16,
    /// Destination port; identifier of an ICMP or ICMPv6 echo; else 0.
    pub destination_port: u16,
    /// IP protocol number, behind any IPv6 extension headers.
    pub protocol: u8,
    /// TCP flags ([`tcp_flags`]); 0 for other protocols.
    pub tcp_flags: u8,
    /// Family of both addresses.
    pub family: Family,
}

impl PacketMeta {
    /// The key of the packet's flow, and the end that sent this packet.
    #[inline(always)]
    pub fn flow_key(&self) -> (FlowKey, End) {
        FlowKey::new(
            self.protocol,
            (self.source, self.source_port),
            (self.destination, self.destination_port),
        )
    }

    /// The packet that the other end would send in answer.
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..*self
        }
    }
}

/// Parses a frame.
///
/// # Errors
/// The first thing that is wrong with it, from the outer header inwards.
#[inline(always)]
pub fn parse(frame: &impl Frame) -> Result<Packet, Reason> {
    let (ether_type, offset) = ethernet::parse(frame)?;
    match ether_type {
        ethernet::IPV4 => ipv4::parse(frame, offset),
        ethernet::IPV6 => ipv6::parse(frame, offset),
        ethernet::ARP => arp::parse(frame, offset),
        _ => Err(Reason::EtherType),
    }
}

impl Frame for &[u8] {
    fn length(&self) -> usize {
        <[u8]>::len(self)
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }
}
