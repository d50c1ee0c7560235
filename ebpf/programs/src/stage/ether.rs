//! Frames of protocols that are neither IP nor ARP.

use aya_ebpf::programs::TcContext;
use nightgate_abi::{Active, Reason, ZoneId, guard, limits};

use crate::{hook, maps};

/// Lets a frame pass whose protocol its zone asks for.
///
/// # Errors
/// The zone does not.
#[inline(never)]
pub(crate) fn pass(ctx: &TcContext, here: ZoneId, active: Active) -> Result<Reason, Reason> {
    let index = guard::index(active.bank(), here) & (2 * limits::ZONES as u32 - 1);
    let types = maps::ETHER_TYPES.get(index).ok_or(Reason::EtherType)?;
    // The kernel keeps it in network order.
    let ether_type = u16::from_be(hook::protocol(ctx) as u16);
    if types.contains(ether_type) { Ok(Reason::PassThrough) } else { Err(Reason::EtherType) }
}
