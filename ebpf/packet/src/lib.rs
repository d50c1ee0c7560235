//! Packet header parsing, pure and shared by kernel programs and host tests.
//!
//! [`parse`] reads an Ethernet frame through [`Frame`] and says what it is, or the [`Reason`] why it is
//! refused. Nothing is read beyond the frame or beyond [`HEADERS_MAX`], whatever the frame claims.

#![no_std]

mod arp;
pub mod checksum;
pub mod connection;
pub mod encapsulation;
mod ethernet;
mod fragment;
mod icmp;
mod ipv4;
mod ipv6;
mod martian;
pub mod mss;
mod options;
pub mod quote;
pub mod refusal;
pub mod rewrite;
pub mod sum;
mod tcp;
mod transport;

use nightgate_abi::{Address, Facts, Family, FlowKey, Reason, ZoneId, flow::End, rule::Subject};

pub use fragment::{Fragment, Part};
pub use options::{OPTIONS_MAX, OptionSearch, Step};
pub use tcp::{Segment, tcp_flags};

use rewrite::{Layout, Message};

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
    /// Whether addresses that no packet on a wire may have, such as loopback ones, are refused.
    const IS_ON_WIRE: bool = true;

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
    /// Source port; identifier of an ICMP or ICMPv6 query; else 0.
    pub source_port: u16,
    /// Destination port; identifier of an ICMP or ICMPv6 query; else 0.
    pub destination_port: u16,
    /// IP protocol number, behind any IPv6 extension headers.
    pub protocol: u8,
    /// TCP flags ([`tcp_flags`]); 0 for other protocols.
    pub tcp_flags: u8,
    /// What a TCP segment says; zero for other protocols.
    pub segment: Segment,
    /// Type of an ICMP or ICMPv6 message; 0 for other protocols.
    pub icmp_type: u8,
    /// Code of an ICMP or ICMPv6 message; 0 for other protocols.
    pub icmp_code: u8,
    /// Differentiated services code point (RFC 2474), 0 to 63.
    pub dscp: u8,
    /// Source MAC address.
    pub source_mac: [u8; 6],
    /// Which part of a packet it is. A later fragment has no ports, flags or message.
    pub fragment: Fragment,
    /// Family of both addresses.
    pub family: Family,
    /// Offset of the IP header in the frame, in bytes.
    pub network: u16,
    /// Offset of the transport header in the frame, in bytes.
    pub transport: u16,
}

impl PacketMeta {
    /// Where the packet's headers are.
    #[inline(always)]
    pub fn layout(&self) -> Layout {
        Layout {
            family: self.family,
            network: self.network.into(),
            transport: self.transport.into(),
            protocol: self.protocol,
            message: match self.fragment.part {
                Part::Whole | Part::First => Message::Headed,
                Part::Later => Message::Fragment,
            },
        }
    }

    /// A packet of a protocol between two ends of one family, each an address and a port, that says nothing
    /// else.
    #[inline(always)]
    pub const fn between(
        protocol: u8,
        source: (Address, u16),
        destination: (Address, u16),
    ) -> Self {
        Self {
            source: source.0,
            destination: destination.0,
            source_port: source.1,
            destination_port: destination.1,
            protocol,
            tcp_flags: 0,
            segment: Segment {
                sequence: 0,
                acknowledgement: 0,
                window: 0,
                header_length: 0,
                length: 0,
            },
            transport: 0,
            icmp_type: 0,
            icmp_code: 0,
            dscp: 0,
            source_mac: [0; 6],
            fragment: Fragment::WHOLE,
            family: source.0.family(),
            network: 0,
        }
    }

    /// Whether it is an ICMP or ICMPv6 error, which quotes the packet that it is about.
    #[inline(always)]
    pub fn is_icmp_error(&self) -> bool {
        self.is_icmp() && icmp::is_error(self.family, self.icmp_type)
    }

    /// The key of the packet's flow, and the end that sent this packet.
    #[inline(always)]
    pub fn flow_key(&self) -> (FlowKey, End) {
        let (key, sender) = FlowKey::new(
            self.protocol,
            (self.source, self.source_port),
            (self.destination, self.destination_port),
        );
        if !self.is_icmp() {
            return (key, sender);
        }
        let (icmp_type, icmp_code) = match icmp::query(self.family, self.icmp_type) {
            Some(query) => (query, 0),
            None => (self.icmp_type, self.icmp_code),
        };
        (key.with_message(icmp_type, icmp_code), sender)
    }

    /// Whether it is an ICMP or ICMPv6 message.
    #[inline(always)]
    pub const fn is_icmp(&self) -> bool {
        self.protocol == protocol::ICMP || self.protocol == protocol::ICMPV6
    }

    /// Whether it is a TCP segment that opens a connection: a SYN without ACK.
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN
    }

    /// What rules look at, if the packet opens a flow between two zones. Its source MAC address counts only if it
    /// comes from a zone of interfaces.
    pub fn subject(&self, from: ZoneId, to: ZoneId) -> Subject {
        let source_mac = if from == ZoneId::LOCAL { [0; 6] } else { self.source_mac };
        let (source_port, destination_port) = if self.is_icmp() {
            (0, u16::from_be_bytes([self.icmp_type, self.icmp_code]))
        } else {
            (self.source_port, self.destination_port)
        };
        Subject {
            from,
            to,
            source: self.source,
            destination: self.destination,
            source_port,
            destination_port,
            protocol: self.protocol,
            facts: Facts::new(source_mac, self.tcp_flags, self.dscp),
        }
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
    let header = ethernet::parse(frame)?;
    match header.ether_type {
        ethernet::IPV4 => ipv4::parse(frame, &header),
        ethernet::IPV6 => ipv6::parse(frame, &header),
        ethernet::ARP => arp::parse(frame, header.end),
        _ => Err(Reason::EtherType),
    }
}

/// A frame of an interface that is no wire: packets of the loopback interface are well-formed too.
#[derive(Clone, Copy, Debug)]
pub struct HostFrame<'a>(pub &'a [u8]);

impl Frame for HostFrame<'_> {
    const IS_ON_WIRE: bool = false;

    fn length(&self) -> usize {
        self.0.len()
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        Frame::read(&self.0, offset)
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
