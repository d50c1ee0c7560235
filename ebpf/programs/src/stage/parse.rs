//! What the packet is.

use aya_ebpf::programs::TcContext;
use nightgate_abi::Reason;
use nightgate_packet::Packet;

use crate::{frame::TcFrame, stage::Work};

/// What a well-formed packet is.
pub(crate) enum Parsed {
    /// ARP.
    Arp,
    /// IPv6 neighbour discovery.
    NeighbourDiscovery,
    /// Any other IP packet; its fields are in [`Work::meta`].
    Ip,
}

/// Parses the packet's headers. A function of its own in the object for the sake of the stack.
///
/// # Errors
/// What is wrong with the packet.
#[inline(never)]
pub(crate) fn parse(ctx: &TcContext, work: &mut Work) -> Result<Parsed, Reason> {
    match nightgate_packet::parse(&TcFrame(ctx))? {
        Packet::Arp => Ok(Parsed::Arp),
        Packet::NeighbourDiscovery => Ok(Parsed::NeighbourDiscovery),
        Packet::Ip(meta) => {
            work.meta = meta;
            Ok(Parsed::Ip)
        }
    }
}
