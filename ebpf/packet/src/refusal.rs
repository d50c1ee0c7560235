//! Answers to packets that a rule rejects: TCP resets, and ICMP errors that quote the packet.

use nightgate_abi::{Address, Family, Refusal};

use crate::{PacketMeta, Part, protocol, sum::Sum, tcp_flags};

/// IPv4 header without options.
pub const IPV4: usize = 20;
/// IPv6 header.
pub const IPV6: usize = 40;
/// TCP header without options.
pub const TCP: usize = 20;
/// ICMP or ICMPv6 header of an error.
pub const ICMP: usize = 8;
/// Bytes of a packet that an ICMP error quotes at most: the error has 576 (RFC 1812 section 4.3.2.3).
pub const QUOTE_V4: usize = 576 - IPV4 - ICMP;
/// Bytes of a packet that an ICMPv6 error quotes at most: the error has 1280 (RFC 4443 section 2.4 (c)).
pub const QUOTE_V6: usize = 1280 - IPV6 - ICMP;

/// [`IPV4`] as the header counts it.
const IPV4_U16: u16 = 20;
/// [`ICMP`] likewise.
const ICMP_U16: u16 = 8;
/// [`TCP`] likewise.
const TCP_U16: u16 = 20;
/// Data offset of a TCP header without options, in its place.
const TCP_WORDS: u8 = 5 << 4;

/// Time to live and hop limit recommended by RFC 1700.
const HOPS: u8 = 64;
/// Precedence of internetwork control (RFC 1812 section 4.3.2.5).
const CONTROL: u8 = 0xc0;
/// The don't-fragment bit.
const UNFRAGMENTED: u8 = 0x40;

/// What is sent back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// A TCP reset.
    Reset,
    /// An ICMP or ICMPv6 error of this type and code.
    Unreachable(u8, u8),
}

/// The answer that a refused packet gets; none if none is allowed: to a later fragment, to an ICMP error or another message that is no
/// query (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e)), to a reset (RFC 9293 section 3.10.7.1), to more than
/// one host, or to a host without an address.
#[inline(always)]
pub fn answer(meta: &PacketMeta, refusal: Refusal) -> Option<Answer> {
    let is_mute = match meta.protocol {
        protocol::TCP => meta.tcp_flags & tcp_flags::RST != 0,
        protocol::ICMP => !is_query(Family::V4, meta.icmp_type),
        protocol::ICMPV6 => !is_query(Family::V6, meta.icmp_type),
        _ => false,
    };
    let is_mute = is_mute || meta.fragment.part == Part::Later;
    if is_mute || !is_one_host(meta.source) || !is_one_host(meta.destination) {
        return None;
    }
    let refusal = match (refusal, meta.protocol) {
        (Refusal::Fitting | Refusal::Reset, protocol::TCP) => return Some(Answer::Reset),
        (Refusal::Reset, _) => return None,
        (Refusal::Fitting, protocol::UDP) => Refusal::PortUnreachable,
        (Refusal::Fitting, _) => Refusal::Prohibited,
        (other, _) => other,
    };
    let (kind, code) = unreachable(meta.family, refusal);
    Some(Answer::Unreachable(kind, code))
}

/// What a reset says beside the ports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reset {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number; counts if the flags have ACK.
    pub acknowledgement: u32,
    /// RST, or RST and ACK.
    pub flags: u8,
}

impl Reset {
    /// The reset for a segment to a closed connection (RFC 9293 section 3.10.7.1). `length` is that of its data.
    #[inline(always)]
    pub const fn of(sequence: u32, acknowledgement: u32, flags: u8, length: u32) -> Self {
        if flags & tcp_flags::ACK != 0 {
            return Self { sequence: acknowledgement, acknowledgement: 0, flags: tcp_flags::RST };
        }
        let syn = (flags & tcp_flags::SYN != 0) as u32;
        let fin = (flags & tcp_flags::FIN != 0) as u32;
        Self {
            sequence: 0,
            acknowledgement: sequence.wrapping_add(length).wrapping_add(syn + fin),
            flags: tcp_flags::RST | tcp_flags::ACK,
        }
    }

    /// The TCP header of the reset in answer to a packet, with its checksum.
    #[inline(always)]
    pub fn header(&self, refused: &PacketMeta, completion: Completion) -> [u8; TCP] {
        let mut header = [0; TCP];
        put(&mut header, 0, refused.destination_port.to_be_bytes());
        put(&mut header, 2, refused.source_port.to_be_bytes());
        put(&mut header, 4, self.sequence.to_be_bytes());
        put(&mut header, 8, self.acknowledgement.to_be_bytes());
        put(&mut header, 12, [TCP_WORDS, self.flags]);
        let addresses = [refused.destination, refused.source];
        let pseudo =
            Sum::default().pseudo_header(refused.family, addresses, protocol::TCP, TCP_U16);
        let checksum = match completion {
            Completion::Done => pseudo.bytes(&header).checksum(),
            Completion::Pending => pseudo.word(),
        };
        put(&mut header, 16, checksum);
        header
    }
}

/// Who completes the checksum of the refused packet's transport header, and so of what stands in its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Completion {
    /// Nobody: it is complete.
    Done,
    /// The network card, or the kernel before it: the field holds the sum that it begins with.
    Pending,
}

/// The IPv4 header of an answer from the refused packet's destination to its source, with its checksum. `length` is
/// that of what follows it.
#[inline(always)]
pub fn ipv4(refused: &PacketMeta, answer: Answer, length: u16) -> [u8; IPV4] {
    let mut header = [0; IPV4];
    let (service, protocol) = match answer {
        Answer::Reset => (0, protocol::TCP),
        Answer::Unreachable(..) => (CONTROL, protocol::ICMP),
    };
    put(&mut header, 0, [0x45, service]);
    put(&mut header, 2, (IPV4_U16 + length).to_be_bytes());
    put(&mut header, 6, [UNFRAGMENTED, 0, HOPS, protocol]);
    put(&mut header, 12, refused.destination.v4_octets());
    put(&mut header, 16, refused.source.v4_octets());
    let checksum = Sum::default().bytes(&header).checksum();
    put(&mut header, 10, checksum);
    header
}

/// The IPv6 header of an answer, as [`ipv4`].
#[inline(always)]
pub fn ipv6(refused: &PacketMeta, answer: Answer, length: u16) -> [u8; IPV6] {
    let mut header = [0; IPV6];
    let protocol = match answer {
        Answer::Reset => protocol::TCP,
        Answer::Unreachable(..) => protocol::ICMPV6,
    };
    put(&mut header, 0, [0x60]);
    put(&mut header, 4, length.to_be_bytes());
    put(&mut header, 6, [protocol, HOPS]);
    put(&mut header, 8, refused.destination.octets());
    put(&mut header, 24, refused.source.octets());
    header
}

/// The ICMP header of an error. `quote` is the sum of the bytes that it quotes, `length` their number.
#[inline(always)]
pub fn icmp(refused: &PacketMeta, (kind, code): (u8, u8), quote: Sum, length: u16) -> [u8; ICMP] {
    let mut header = [0; ICMP];
    put(&mut header, 0, [kind, code]);
    let sum = match refused.family {
        Family::V4 => quote,
        Family::V6 => {
            let addresses = [refused.destination, refused.source];
            let length = ICMP_U16 + length;
            quote.pseudo_header(Family::V6, addresses, protocol::ICMPV6, length)
        }
    };
    put(&mut header, 2, sum.bytes(&[kind, code]).checksum());
    header
}

/// ICMP messages that ask for an answer: echo, router solicitation, timestamp, information, address mask (RFC 792,
/// RFC 950, RFC 1256). ICMPv6: echo (RFC 4443 section 4).
#[inline(always)]
fn is_query(family: Family, kind: u8) -> bool {
    match family {
        Family::V4 => matches!(kind, 8 | 10 | 13 | 15 | 17),
        Family::V6 => kind == 128,
    }
}

/// Whether an address can be that of one host: not unspecified, multicast, reserved or the limited broadcast.
#[inline(always)]
fn is_one_host(address: Address) -> bool {
    match address.family() {
        Family::V4 => {
            let [first, ..] = address.v4_octets();
            first != 0 && first < 224
        }
        Family::V6 => {
            let [high, low] = address.halves().map(u64::from_be);
            high >> 56 != 0xff && (high | low) != 0
        }
    }
}

/// Type and code of an error.
#[inline(always)]
fn unreachable(family: Family, refusal: Refusal) -> (u8, u8) {
    match family {
        Family::V4 => match refusal {
            Refusal::PortUnreachable => (3, 3),
            Refusal::HostUnreachable => (3, 1),
            Refusal::NetworkUnreachable => (3, 0),
            Refusal::Fitting | Refusal::Reset | Refusal::Prohibited => (3, 13),
        },
        Family::V6 => match refusal {
            Refusal::PortUnreachable => (1, 4),
            Refusal::HostUnreachable => (1, 3),
            Refusal::NetworkUnreachable => (1, 0),
            Refusal::Fitting | Refusal::Reset | Refusal::Prohibited => (1, 1),
        },
    }
}

#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8], offset: usize, value: [u8; N]) {
    bytes[offset..offset + N].copy_from_slice(&value);
}
