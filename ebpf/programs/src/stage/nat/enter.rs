//! A packet that comes in under the addresses that are used outside.

use core::ptr;

use aya_ebpf::programs::TcContext;
use nightgate_abi::{
    Flow, Reason,
    flow::{Direction, End},
};
use nightgate_packet::rewrite::{Change, Side};

use super::{apply, count, resolve};
use crate::{
    hook::Hook,
    stage::{
        Work,
        track::{Place, lookup, table::Table},
    },
};

/// Gives a packet whose key is that of an alias, sent by an end of that key, the destination that it has inside, and
/// returns its flow with the end of the flow's key that has sent it. None if the flow is over: the packet is as it was,
/// and the alias is gone.
///
/// # Errors
/// It is not for the alias: sent by the end that the gateway speaks for, or by the gateway itself. Or it cannot be
/// changed.
#[inline(always)]
pub(crate) fn enter(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    (alias, sender): (*mut Flow, End),
    now: u64,
) -> Result<Option<(*mut Flow, Table, End)>, Reason> {
    if place.hook == Hook::Egress {
        return Err(Reason::NatConflict);
    }
    // SAFETY: the slot stays mapped while the program runs.
    if unsafe { (*alias).originator() } == sender {
        return Err(Reason::ZoneMismatch);
    }
    let slot = find_inside(ctx, work, place, alias, now);
    if slot.is_null() {
        return Ok(None);
    }
    apply(ctx, work)?;
    Ok(Some((slot, work.nat.table, work.nat.origin)))
}

/// Finds the flow of a packet that comes in by an alias, with its table and the end that has sent the packet in
/// [`Work::nat`], and what the packet becomes. Null if the flow is over. A function of its own in the object for the
/// sake of the stack.
#[inline(never)]
fn find_inside(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    alias: *mut Flow,
    now: u64,
) -> *mut Flow {
    let Some((slot, table, end)) = resolve(work, alias) else {
        return give_up(work);
    };
    // SAFETY: the slot stays mapped while the program runs.
    let flow = unsafe { &*slot };
    if lookup::is_over(flow, &work.meta, now) {
        return give_up(work);
    }
    let inside = work.key.endpoint(end);
    let old = (work.meta.destination, work.meta.destination_port);
    work.nat.change = Change { side: Side::Destination, old, new: inside };
    (work.meta.destination, work.meta.destination_port) = inside;
    if work.meta.is_icmp() {
        work.meta.source_port = inside.1;
    }
    (work.nat.table, work.nat.origin) = (table, end.other());
    // A flow of another epoch counts under another rule, which is found when it is judged again.
    if flow.epoch == place.active.epoch() {
        let [originator, responder] = &flow.translation.guises;
        let guise = match flow.direction_of(end) {
            Direction::Original => originator,
            Direction::Reply => responder,
        };
        count(ctx, place.active, guise.counter, now);
    }
    slot
}

/// Forgets the alias, and lets the packet be what it is.
#[inline(always)]
fn give_up(work: &mut Work) -> *mut Flow {
    work.key = work.nat.alias;
    Table::Opening.forget(&work.key);
    Table::Established.forget(&work.key);
    ptr::null_mut()
}
