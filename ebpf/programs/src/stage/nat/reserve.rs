//! Aliases: who holds an address and port outside.

use nightgate_abi::{flow::Direction, nat::translated};

use crate::stage::{
    Work,
    track::table::{self, Table},
};

/// Reserves the alias [`NatWork::alias`](super::NatWork) for the flow with the key [`Work::key`], in the table of
/// that flow. Whether it is the flow's afterwards: someone else may hold it.
#[inline(always)]
pub(super) fn reserve(work: &mut Work, table: Table, now: u64) -> bool {
    if let Some((slot, held_in)) = table::find(&work.nat.alias) {
        // SAFETY: the slot stays mapped while the program runs.
        let holder = unsafe { &*slot };
        if !holder.is_alias() {
            return false;
        }
        let inside = holder.translation.guises[0].endpoint();
        work.nat.holder = work.nat.alias.with_end(holder.originator(), inside).0;
        if work.nat.holder == work.key {
            return true;
        }
        if is_alive(&work.nat.holder, now) {
            return false;
        }
        held_in.forget(&work.nat.alias);
    }
    if table.insert_new(&work.nat.alias, &work.nat.entry).is_err() {
        return false;
    }
    // The holder may have become established between the look and the insertion.
    if table == Table::Opening && Table::Established.get(&work.nat.alias).is_some() {
        table.forget(&work.nat.alias);
        return false;
    }
    true
}

/// Moves the aliases of the flow [`Work::key`], which is in [`Work::flow`], after it from the opening table.
#[inline(never)]
pub(crate) fn move_aliases(work: &mut Work) {
    let flow = &work.flow;
    let origin = flow.originator();
    let aliases = [
        (translated::ORIGINATOR, origin, Direction::Original),
        (translated::RESPONDER, origin.other(), Direction::Reply),
    ];
    for (flag, replaced, direction) in aliases {
        if flow.translation.flags & flag == 0 {
            continue;
        }
        let guise = match direction {
            Direction::Original => &flow.translation.guises[0],
            Direction::Reply => &flow.translation.guises[1],
        };
        let inside = work.key.endpoint(replaced);
        let (alias, end) = work.key.with_end(replaced, guise.endpoint());
        work.nat.alias = alias;
        work.nat.describe_alias(end, inside);
        if Table::Established.insert(&work.nat.alias, &work.nat.entry).is_ok() {
            Table::Opening.forget(&work.nat.alias);
        }
    }
}

#[inline(always)]
fn is_alive(key: &nightgate_abi::FlowKey, now: u64) -> bool {
    match table::find(key) {
        // SAFETY: the slot stays mapped while the program runs.
        Some((slot, _)) => unsafe { !(*slot).is_alias() && !(*slot).is_idle(now) },
        None => false,
    }
}
