//! Giving packets other addresses and ports, with all their checksums kept true.
//!
//! [`rewrite`] changes one end of a packet; [`rewrite_quoted`] one end of the packet that an ICMP error quotes,
//! whatever of it is there; [`rewrite_error`] that and the error's own end (RFC 5508 section 4.2). Which bytes change is decided here; [`Rewritable`] is how.

use nightgate_abi::{Address, Family, Reason};

use crate::{Frame, PacketMeta, checksum::Difference, protocol};

/// A frame whose bytes can be replaced.
pub trait Rewritable: Frame {
    /// Replaces bytes.
    ///
    /// # Errors
    /// They cannot be written.
    fn replace<const N: usize>(&self, offset: usize, bytes: [u8; N]) -> Result<(), Reason>;

    /// Likewise, where no checksum in the packet changes in return, so that the sum of all its bytes, which network
    /// cards compute, becomes another.
    ///
    /// # Errors
    /// They cannot be written.
    fn replace_unsummed<const N: usize>(&self, offset: usize, bytes: [u8; N])
    -> Result<(), Reason>;

    /// Adds a change of the header to the checksum of an IPv4 header.
    ///
    /// # Errors
    /// It cannot be written.
    fn adjust_header(&self, offset: usize, change: Difference) -> Result<(), Reason>;

    /// Adds a change to the checksum of a message. One that is still to be computed by the hardware covers the
    /// pseudo-header only.
    ///
    /// # Errors
    /// It cannot be written.
    fn adjust(&self, checksum: Checksum, change: Difference, of: Covered) -> Result<(), Reason>;
}

/// The checksum of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checksum {
    /// Where it is in the frame.
    pub offset: usize,
    /// What zero means.
    pub zero: Zero,
}

/// What a checksum of zero means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Zero {
    /// The sum.
    Sum,
    /// There is no checksum; 0xffff stands for a sum of zero (RFC 768).
    Absent,
}

/// What has changed of what a checksum covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Covered {
    /// An address in the pseudo-header of a family.
    PseudoHeader(Family),
    /// The message itself.
    Message,
}

/// Where the headers of a packet are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    /// Family.
    pub family: Family,
    /// Offset of the IP header.
    pub network: usize,
    /// Offset of the message behind it.
    pub transport: usize,
    /// IP protocol number.
    pub protocol: u8,
    /// Whether the message's header is there.
    pub message: Message,
}

/// Whether a packet has a transport header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message {
    /// It starts with one.
    Headed,
    /// It is a later fragment.
    Fragment,
}

/// An end of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Who sends it.
    Source,
    /// Who gets it.
    Destination,
}

/// An end of a packet, and what becomes of it. The port is the identifier of an ICMP echo.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Change {
    /// Which one.
    pub side: Side,
    /// Address and port before.
    pub old: (Address, u16),
    /// Address and port afterwards.
    pub new: (Address, u16),
}

/// Offset of the total length in an IPv4 header (RFC 791).
const V4_LENGTH: usize = 2;
/// Offset of the payload length in an IPv6 header, and the header's length (RFC 8200).
const V6_LENGTH: usize = 4;
const V6_HEADER: usize = 40;
/// Offset of the checksum in an IPv4 header (RFC 791).
const V4_CHECKSUM: usize = 10;
/// Offset of the checksum in a TCP header (RFC 9293).
const TCP_CHECKSUM: usize = 16;
/// Offset of the checksum in the headers of UDP (RFC 768), UDP-Lite (RFC 3828) and DCCP (RFC 4340).
const UDP_CHECKSUM: usize = 6;
/// Offset of the checksum in ICMP (RFC 792) and ICMPv6 (RFC 4443).
const ICMP_CHECKSUM: usize = 2;
/// Offset of the identifier of an echo.
const ICMP_IDENTIFIER: usize = 4;
/// DCCP.
const DCCP: u8 = 33;
/// UDP-Lite.
const UDP_LITE: u8 = 136;

/// Changes one end of a packet.
///
/// # Errors
/// The frame cannot be written.
#[inline(always)]
pub fn rewrite(frame: &impl Rewritable, at: &Layout, change: &Change) -> Result<(), Reason> {
    let address = Difference::of_address(at.family, change.old.0, change.new.0);
    let checksum = checksum(at);
    if change.old.0 != change.new.0 {
        let covering = checksum.filter(|_| has_pseudo_header(at));
        if at.family == Family::V6 && covering.is_none() {
            frame.replace_unsummed(v6_offset(at, change.side), change.new.0.octets())?;
        } else {
            replace_address(frame, at, change)?;
        }
        if at.family == Family::V4 {
            frame.adjust_header(at.network + V4_CHECKSUM, address)?;
        }
        if let Some(checksum) = covering {
            frame.adjust(checksum, address, Covered::PseudoHeader(at.family))?;
        }
    }
    if change.old.1 != change.new.1
        && let Some(offset) = port_offset(at, change.side)
    {
        let (old, new) = (change.old.1.to_be_bytes(), change.new.1.to_be_bytes());
        frame.replace(offset, new)?;
        if let Some(checksum) = checksum {
            frame.adjust(checksum, Difference::of_word(old, new), Covered::Message)?;
        }
    }
    Ok(())
}

/// Changes one end of the packet that an ICMP error quotes. `error` is where the error is, `quoted` where the
/// quoted packet is in the same frame; it may end anywhere behind its addresses. Of a checksum that it ends in, the
/// half that is there stays: what it becomes depends on the other half.
///
/// # Errors
/// The frame cannot be written.
#[inline(always)]
pub fn rewrite_quoted(
    frame: &impl Rewritable,
    error: &Layout,
    quoted: &Layout,
    change: &Change,
) -> Result<(), Reason> {
    let end = datagram_end(frame, error).ok_or(Reason::NatRewrite)?;
    let address = Difference::of_address(quoted.family, change.old.0, change.new.0);
    let (old, new) = (change.old.1.to_be_bytes(), change.new.1.to_be_bytes());
    let mut total = address;
    replace_address(frame, quoted, change)?;
    if quoted.family == Family::V4 {
        let header = Checksum { offset: quoted.network + V4_CHECKSUM, zero: Zero::Sum };
        total = total.and(amend(frame, header, address)?);
    }
    let mut message = Difference::NONE;
    if let Some(offset) = port_offset(quoted, change.side)
        && old != new
        && offset + 2 <= end
    {
        frame.replace(offset, new)?;
        message = Difference::of_word(old, new);
        total = total.and(message);
    }
    if let Some(checksum) = checksum(quoted)
        && checksum.offset + 2 <= end
    {
        let covered = if has_pseudo_header(quoted) { message.and(address) } else { message };
        total = total.and(amend(frame, checksum, covered)?);
    }
    let checksum = Checksum { offset: error.transport + ICMP_CHECKSUM, zero: Zero::Sum };
    frame.adjust(checksum, total, Covered::Message)
}

/// Whose source address an ICMP error has that is about to leave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reporter {
    /// The gateway's, which everyone may see.
    Gateway,
    /// Another host's or router's, on the side of the end that appears as another.
    Another,
}

/// Changes one end of the packet that an ICMP error quotes, and with it the error itself: who gets it is the quoted
/// packet's source; and as its source appears who the quoted packet's destination appears as, be it that host itself or
/// a router on its side, whose address is not to be seen either (RFC 5508 section 4.2, REQ-4 and REQ-5).
///
/// # Errors
/// The frame cannot be written.
#[inline(always)]
pub fn rewrite_error(
    frame: &impl Rewritable,
    error: &PacketMeta,
    quoted: &PacketMeta,
    change: &Change,
    reporter: Reporter,
) -> Result<(), Reason> {
    let at = error.layout();
    rewrite_quoted(frame, &at, &quoted.layout(), change)?;
    let (side, old) = match change.side {
        Side::Source => (Side::Destination, error.destination),
        Side::Destination => (Side::Source, error.source),
    };
    if side == Side::Source && reporter == Reporter::Gateway && old != change.old.0 {
        return Ok(());
    }
    rewrite(frame, &at, &Change { side, old: (old, 0), new: (change.new.0, 0) })
}

/// Offset of the end of a datagram; what is behind it in the frame is padding.
#[inline(always)]
fn datagram_end(frame: &impl Frame, at: &Layout) -> Option<usize> {
    let (field, before) = match at.family {
        Family::V4 => (V4_LENGTH, 0),
        Family::V6 => (V6_LENGTH, V6_HEADER),
    };
    let length = u16::from_be_bytes(frame.read(at.network + field)?);
    Some(at.network + before + usize::from(length))
}

/// Changes a checksum that is part of another message, and says what that changes there.
#[inline(always)]
fn amend(
    frame: &impl Rewritable,
    Checksum { offset, zero }: Checksum,
    change: Difference,
) -> Result<Difference, Reason> {
    match frame.read::<2>(offset) {
        None => Ok(Difference::NONE),
        Some([0, 0]) if zero == Zero::Absent => Ok(Difference::NONE),
        Some(old) => {
            let new = match change.apply(old) {
                [0, 0] if zero == Zero::Absent => [0xff, 0xff],
                new => new,
            };
            frame.replace(offset, new)?;
            Ok(Difference::of_word(old, new))
        }
    }
}

#[inline(always)]
fn replace_address(frame: &impl Rewritable, at: &Layout, change: &Change) -> Result<(), Reason> {
    match (at.family, change.side) {
        (Family::V4, Side::Source) => frame.replace(at.network + 12, change.new.0.v4_octets()),
        (Family::V4, Side::Destination) => frame.replace(at.network + 16, change.new.0.v4_octets()),
        (Family::V6, side) => frame.replace(v6_offset(at, side), change.new.0.octets()),
    }
}

/// Where an IPv6 header has an address.
#[inline(always)]
const fn v6_offset(at: &Layout, side: Side) -> usize {
    match side {
        Side::Source => at.network + 8,
        Side::Destination => at.network + 24,
    }
}

/// Where a message has its port; an echo has one identifier for both ends.
#[inline(always)]
fn port_offset(at: &Layout, side: Side) -> Option<usize> {
    if at.message == Message::Fragment {
        return None;
    }
    match (at.protocol, side) {
        (protocol::TCP | protocol::UDP, Side::Source) => Some(at.transport),
        (protocol::TCP | protocol::UDP, Side::Destination) => Some(at.transport + 2),
        (protocol::ICMP | protocol::ICMPV6, _) => Some(at.transport + ICMP_IDENTIFIER),
        _ => None,
    }
}

#[inline(always)]
fn checksum(at: &Layout) -> Option<Checksum> {
    if at.message == Message::Fragment {
        return None;
    }
    let (offset, zero) = match at.protocol {
        protocol::TCP => (TCP_CHECKSUM, Zero::Sum),
        protocol::UDP => (UDP_CHECKSUM, Zero::Absent),
        protocol::ICMP | protocol::ICMPV6 => (ICMP_CHECKSUM, Zero::Sum),
        UDP_LITE | DCCP => (UDP_CHECKSUM, Zero::Sum),
        _ => return None,
    };
    Some(Checksum { offset: at.transport + offset, zero })
}

/// Whether a message's checksum covers the addresses.
#[inline(always)]
fn has_pseudo_header(at: &Layout) -> bool {
    at.protocol != protocol::ICMP
}
