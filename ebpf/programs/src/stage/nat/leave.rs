//! A packet that leaves.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use nightgate_abi::{
    Active, Reason,
    flow::Direction,
    nat::{Translation, translated},
};
use nightgate_packet::rewrite::Side;

use super::{choose, count, rewrite};
use crate::{
    hook, maps,
    stage::{
        Work, lend,
        track::{Place, lookup::Entry, table},
    },
};

/// Arguments of [`nightgate_leave`], and why it refuses a packet.
pub(super) struct Leaving {
    active: Active,
    direction: Direction,
    now: u64,
    refused: Reason,
}

/// Whether a packet of a flow may get another source where it leaves.
#[inline(always)]
pub(crate) const fn leaves_changed(translation: &Translation, direction: Direction) -> bool {
    let due = match direction {
        Direction::Original => translated::ORIGINATOR | translated::PENDING,
        Direction::Reply => translated::RESPONDER,
    };
    translation.flags & due != 0
}

/// Gives a packet that leaves the source that it has outside. The first one of a flow decides on it.
///
/// # Errors
/// There is no source that it could have, or the packet cannot be changed.
#[inline(always)]
pub(crate) fn leave(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    direction: Direction,
    now: u64,
) -> Result<(), Reason> {
    let active = place.active;
    work.nat.leaving = Leaving { active, direction, now, refused: Reason::NatRewrite };
    lend(work);
    if nightgate_leave(ctx.skb.skb) == 0 { Ok(()) } else { Err(work.nat.leaving.refused) }
}

/// Does it. A global function, as `nightgate_classify` is. Returns 0 unless the packet is refused.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_leave(skb: *mut __sk_buff) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: the slot belongs to this CPU; `leave` has lent its reference to it.
    let work = unsafe { &mut *work };
    match give_source(&TcContext::new(skb), work) {
        Ok(()) => 0,
        Err(reason) => {
            work.nat.leaving.refused = reason;
            1
        }
    }
}

#[inline(always)]
fn give_source(ctx: &TcContext, work: &mut Work) -> Result<(), Reason> {
    let Leaving { active, direction, now, .. } = work.nat.leaving;
    let (slot, table) = table::find(&work.key).ok_or(Reason::FlowTable)?;
    let entry = &Entry { slot, table, direction };
    // SAFETY: the slot stays mapped while the program runs.
    work.nat.translation = unsafe { (*entry.slot).translation };
    let (guise, flag) = match entry.direction {
        Direction::Original => {
            if work.nat.translation.flags & translated::PENDING != 0 {
                choose::choose(ctx, work, active, entry, now)?;
            } else if work.nat.translation.flags & translated::ORIGINATOR != 0 {
                keep(ctx, work, entry)?;
            }
            (work.nat.translation.guises[0], translated::ORIGINATOR)
        }
        Direction::Reply => (work.nat.translation.guises[1], translated::RESPONDER),
    };
    if work.nat.translation.flags & flag == 0 {
        return Ok(());
    }
    let old = (work.meta.source, work.meta.source_port);
    count(ctx, active, guise.counter, now);
    rewrite(ctx, work, Side::Source, [old, guise.endpoint()])
}

/// Keeps the way back to the originator: answers find the flow by an alias, which may have been pushed out of the
/// table while there were none.
///
/// # Errors
/// The flow leaves by another interface than the one whose address it has: it ends. Or another holds the alias.
#[inline(never)]
fn keep(ctx: &TcContext, work: &mut Work, entry: &Entry) -> Result<(), Reason> {
    let translation = &work.nat.translation;
    if translation.ifindex != 0 && translation.ifindex != hook::ifindex(ctx) {
        entry.table.forget(&work.key);
        return Err(Reason::NatRerouted);
    }
    // SAFETY: the slot stays mapped while the program runs.
    let origin = unsafe { (*entry.slot).originator() };
    let (alias, replaced) = work.key.with_end(origin, translation.guises[0].endpoint());
    work.nat.alias = alias;
    match table::find(&work.nat.alias) {
        // SAFETY: as above.
        Some((slot, _)) if unsafe { (*slot).is_alias() } => Ok(()),
        Some(_) => Err(Reason::NatConflict),
        None => {
            let inside = (work.meta.source, work.meta.source_port);
            work.nat.describe_alias(replaced, inside);
            let inserted = entry.table.insert_new(&work.nat.alias, &work.nat.entry);
            inserted.map_err(|_| Reason::FlowTable)
        }
    }
}
