//! A packet that comes in under the addresses that are used outside.

use aya_ebpf::programs::TcContext;
use nightgate_abi::{Reason, flow::End};
use nightgate_packet::rewrite::Side;

use super::{count, rewrite};
use crate::{
    hook::Hook,
    stage::{
        Work,
        track::{Place, lookup, table},
    },
};

/// Gives a packet whose key is that of an alias, sent by the end `sender` of that key, the destination that it has
/// inside, and returns the end of the flow's key that has sent it. None if the flow is over: the packet is as it was, and the alias is gone.
///
/// # Errors
/// It is not for the alias: sent by the end that the gateway speaks for, or by the gateway itself.
#[inline(never)]
pub(crate) fn enter(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    sender: End,
    now: u64,
) -> Result<Option<End>, Reason> {
    if place.hook == Hook::Egress {
        return Err(Reason::NatConflict);
    }
    let Some((slot, _)) = table::find(&work.key) else {
        return Ok(None);
    };
    // SAFETY: the slot stays mapped while the program runs.
    let alias = unsafe { &*slot };
    let replaced = alias.originator();
    if replaced == sender {
        return Err(Reason::ZoneMismatch);
    }
    let inside = alias.translation.guises[0].endpoint();
    work.nat.alias = work.key;
    let (middle, end) = work.nat.alias.with_end(replaced, inside);
    work.key = middle;
    let Some((slot, _)) = table::find(&work.key) else {
        return Ok(give_up(work));
    };
    // SAFETY: as above.
    let flow = unsafe { &*slot };
    if flow.is_alias() || lookup::is_over(flow, &work.meta, now) {
        return Ok(give_up(work));
    }
    let old = (work.meta.destination, work.meta.destination_port);
    rewrite(ctx, work, Side::Destination, [old, inside])?;
    (work.meta.destination, work.meta.destination_port) = inside;
    if work.meta.is_icmp() {
        work.meta.source_port = inside.1;
    }
    // What the originator sends has been given another destination: the responder's guise is gone.
    // A flow of another epoch counts under another rule, which is found when it is judged again.
    let guise = if flow.originator() == end { 0 } else { 1 };
    if flow.epoch == place.active.epoch() {
        count(ctx, place.active, flow.translation.guises[guise & 1].counter, now);
    }
    Ok(Some(end.other()))
}

/// Forgets the alias, and lets the packet be what it is.
#[inline(always)]
fn give_up(work: &mut Work) -> Option<End> {
    work.key = work.nat.alias;
    table::Table::Opening.forget(&work.key);
    table::Table::Established.forget(&work.key);
    None
}
