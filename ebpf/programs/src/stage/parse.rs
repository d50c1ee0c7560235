//! What the packet is.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use nightgate_abi::Reason;
use nightgate_packet::{Packet, Part};

use crate::{
    frame::TcFrame,
    maps,
    stage::{Work, lend},
};

/// What a well-formed packet is.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Parsed {
    /// ARP.
    Arp,
    /// IPv6 neighbour discovery.
    NeighbourDiscovery,
    /// An ICMP or ICMPv6 error; its fields are in [`Work::meta`].
    IcmpError,
    /// A first fragment, with a transport header; its fields are in [`Work::meta`] and [`Work::fragment`].
    FirstFragment,
    /// A later fragment; its fields are in [`Work::meta`] and [`Work::fragment`].
    LaterFragment,
    /// Any other IP packet; its fields are in [`Work::meta`].
    Ip,
}

/// Parses the packet's headers into [`Work::meta`].
///
/// # Errors
/// What is wrong with the packet.
#[inline(always)]
pub(crate) fn parse(ctx: &TcContext, work: &mut Work) -> Result<Parsed, Reason> {
    lend(work);
    match nightgate_parse(ctx.skb.skb) {
        PARSED => Ok(work.parsed),
        REFUSED => Err(work.malformed),
        _ => Err(Reason::WorkSpace),
    }
}

/// What [`nightgate_parse`] returns: the packet is well-formed.
const PARSED: u32 = 0;
/// What [`nightgate_parse`] returns: it is not.
const REFUSED: u32 = 1;
/// What [`nightgate_parse`] returns: there is no work space.
const NO_WORK: u32 = 2;

/// Parses the packet's headers. A global function in the object, which the verifier looks at once by itself and not
/// again with all that may follow (Linux 5.6): it takes and returns what the verifier knows by type, and leaves the
/// rest in the work space.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_parse(skb: *mut __sk_buff) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else {
        return NO_WORK;
    };
    // SAFETY: the slot belongs to this CPU; `parse` has lent its reference to it.
    let work = unsafe { &mut *work };
    let ctx = TcContext::new(skb);
    match nightgate_packet::parse(&TcFrame(&ctx)) {
        Ok(Packet::Arp) => work.parsed = Parsed::Arp,
        Ok(Packet::NeighbourDiscovery) => work.parsed = Parsed::NeighbourDiscovery,
        Ok(Packet::Ip(meta)) => {
            work.meta = meta;
            if meta.fragment.part != Part::Whole {
                work.fragment.parsed(&meta);
            }
            work.parsed = match meta.fragment.part {
                Part::Whole if meta.is_icmp_error() => Parsed::IcmpError,
                Part::Whole => Parsed::Ip,
                Part::First => Parsed::FirstFragment,
                Part::Later => Parsed::LaterFragment,
            };
        }
        Err(reason) => {
            work.malformed = reason;
            return REFUSED;
        }
    }
    PARSED
}
