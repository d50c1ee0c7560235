//! The destination of a flow that begins.

use aya_ebpf::programs::TcContext;
use nightgate_abi::{
    Group, Reason, ZoneId,
    flow::Direction,
    nat::{Guise, Translation, kind, translated},
};
use nightgate_packet::rewrite::Side;

use super::{rewrite, target};
use crate::{
    hook::Hook,
    stage::{
        Work, classify, intercept, judge,
        track::{
            Place, lookup,
            table::{self, Table},
        },
    },
};

/// Looks up whether a flow that begins with the packet at hand gets another destination. Which end of its key has
/// sent the packet is in [`NatWork::origin`](super::NatWork) before and afterwards. The packet itself is changed when the flow has been accepted: [`admit`].
///
/// # Errors
/// The flow would be another one that goes on.
#[inline(never)]
pub(crate) fn redirect(work: &mut Work, place: &Place, now: u64) -> Result<(), Reason> {
    judge::describe(&mut work.subject, &work.meta, &work.key, Direction::Original);
    if intercept::find(work).service != 0 {
        return Ok(());
    }
    work.nat.translation.flags = translated::PENDING;
    if place.hook == Hook::Egress {
        return Ok(());
    }
    work.subject.from = place.here;
    work.subject.to = ZoneId::LOCAL;
    let group = Group::DestinationNat;
    let found = classify::classify(work, group, place.active)?.outcome();
    let Some(found) = found else {
        return Ok(());
    };
    let target = target(group, found, place.active)?;
    let old = (work.meta.destination, work.meta.destination_port);
    let new = (target.address_for(old.0), target.destination_port(old.1));
    if target.kind == kind::UNCHANGED || new == old {
        return Ok(());
    }
    let guises = [Guise::default(), Guise::new(old, target.counter)];
    let flags = translated::PENDING | translated::RESPONDER;
    work.nat.translation = Translation { guises, flags, ..Translation::default() };
    work.nat.alias = work.key;
    work.nat.replaced = work.nat.origin.other();
    (work.meta.destination, work.meta.destination_port) = new;
    (work.key, work.nat.origin) = work.meta.flow_key();
    check_free(work, now)
}

/// Makes sure that the flow's key is free. If it is that of the very flow whose alias has been pushed out, the
/// alias is made anew, and the next packet finds it.
#[inline(never)]
fn check_free(work: &mut Work, now: u64) -> Result<(), Reason> {
    let Some((slot, table)) = table::find(&work.key) else {
        return Ok(());
    };
    // SAFETY: the slot stays mapped while the program runs.
    let flow = unsafe { &*slot };
    if flow.is_alias() {
        return Err(Reason::NatConflict);
    }
    if lookup::is_over(flow, &work.meta, now) {
        if table == Table::Established {
            table.forget(&work.key);
        }
        return Ok(());
    }
    let known = &flow.translation;
    let is_same = flow.originator() == work.nat.origin
        && known.flags & translated::RESPONDER != 0
        && known.guises[1].endpoint() == work.nat.translation.guises[1].endpoint();
    if !is_same {
        return Err(Reason::NatConflict);
    }
    insert_alias(work, table)?;
    Err(Reason::NatRestored)
}

/// Lets the packets of an accepted flow with another destination through: makes the alias, and changes the packet
/// at hand, which is the flow's first.
///
/// # Errors
/// The table has no room, or the packet cannot be changed.
#[inline(never)]
pub(crate) fn admit(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    now: u64,
) -> Result<(), Reason> {
    let guise = work.nat.translation.guises[1];
    insert_alias(work, Table::Opening)?;
    let new = (work.meta.destination, work.meta.destination_port);
    super::count(ctx, place.active, guise.counter, now);
    rewrite(ctx, work, Side::Destination, [guise.endpoint(), new])
}

/// Writes the alias. A function of its own in the object for the sake of the stack.
#[inline(never)]
fn insert_alias(work: &mut Work, table: Table) -> Result<(), Reason> {
    let inside = (work.meta.destination, work.meta.destination_port);
    work.nat.describe_alias(work.nat.replaced, inside);
    table.insert(&work.nat.alias, &work.nat.entry).map_err(|_| Reason::FlowTable)
}
