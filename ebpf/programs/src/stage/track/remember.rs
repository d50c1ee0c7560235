//! Writing flows: new ones, those judged again, and what their packets change.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use nightgate_abi::{Flow, Reason, flow::Direction, mirror::flow_hash, sender::sent};
use nightgate_packet::{PacketMeta, encapsulation::hash, protocol, tcp_flags};

use crate::{
    maps,
    stage::{
        Work,
        judge::{Age, JudgeWork},
        lend, nat, report,
        track::{Place, idle, index, is_counted, lookup::Entry, segment, table::Table},
    },
};

/// Writes a flow with a new judgement, which [`judge`](crate::stage::judge::judge) has left in the work space. The whole
/// value is replaced at once, so that no other CPU sees the new epoch with the old zones.
///
/// # Errors
/// The table takes no more.
#[inline(always)]
pub(super) fn remember(ctx: &TcContext, work: &mut Work, now: u64) -> Result<(), Reason> {
    lend(work);
    if nightgate_remember(ctx.skb.skb, now) == 0 { Ok(()) } else { Err(Reason::FlowTable) }
}

/// Does it. A global function, as `nightgate_classify` is. Returns 0 if the flow is in its table.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_remember(skb: *mut __sk_buff, now: u64) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: the slot belongs to this CPU; `remember` has lent its reference to it.
    let work = unsafe { &mut *work };
    u32::from(write(&TcContext::new(skb), work, now).is_err())
}

#[inline(always)]
fn write(ctx: &TcContext, work: &mut Work, now: u64) -> Result<(), i32> {
    let JudgeWork { place, origin, judgement, .. } = work.judge;
    let (table, known) = match origin.age {
        Age::Known(table) => (table, table.get(&work.key)),
        Age::New => (Table::Opening, None),
    };
    let is_first_sight = is_counted(ctx, place.hook);
    match known {
        // SAFETY: the slot stays mapped while the program runs; what it counts is copied.
        Some(slot) => work.flow = unsafe { *slot },
        None => {
            work.flow = Flow { first_seen: now, ..Flow::default() };
            segment::begin(work);
        }
    }
    let flow = &mut work.flow;
    flow.last_seen = now;
    flow.epoch = place.active.epoch();
    flow.origin_ifindex = origin.ifindex;
    flow.origin = origin.end as u8;
    flow.service = judgement.intercept.service;
    flow.hosted = work.hosted;
    flow.mirror_session = judgement.mirror_session as u8;
    flow.mirror_hash = if judgement.mirror_session == 0 { 0 } else { flow_hash(hash(&work.key)) };
    flow.rule = judgement.rule;
    flow.counting = work.counting;
    flow.facts = work.subject.facts;
    flow.from = judgement.from;
    flow.to = judgement.to;
    flow.translation = work.nat.translation;
    flow.idle_limit = idle::limit(place.active, work.meta.protocol, flow.phase());
    if is_first_sight {
        // SAFETY: the flow is in this CPU's work space.
        unsafe { count(flow, origin.direction, ctx.len(), |word, value| *word += value) };
        report::count_rules(ctx, place.active, flow, now);
    }
    table.insert(&work.key, flow)
}

/// Counts a packet of a flow, and takes over what it says about the flow.
///
/// # Errors
/// It cannot belong to the flow.
#[inline(always)]
pub(super) fn touch(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    entry: &Entry,
    now: u64,
) -> Result<(), Reason> {
    let Entry { slot, table, direction } = *entry;
    // SAFETY: the slot stays mapped while the program runs. Of flags and clock any CPU's reading will do.
    let flow = unsafe { &mut *slot };
    let before = flow.phase();
    segment::follow(work, flow, direction)?;
    let is_established = table == Table::Opening && is_confirmed(flow, &work.meta, direction);
    if is_established {
        flow.senders[0].flags |= sent::CONFIRMATION;
    }
    flow.last_seen = now;
    let phase = flow.phase();
    if phase != before {
        flow.idle_limit = idle::limit(place.active, work.meta.protocol, phase);
    }
    // SAFETY: as above; all CPUs add to the counts atomically.
    unsafe { count(slot, direction, ctx.len(), |word, value| atomic_add(word, value)) };
    if is_established {
        establish(work, slot);
    }
    Ok(())
}

/// Counts a packet that is about a flow and none of it: that keeps the flow no longer.
#[inline(always)]
pub(crate) fn count_beside(ctx: &TcContext, slot: *mut Flow, direction: Direction) {
    // SAFETY: the slot stays mapped while the program runs, and all CPUs add atomically.
    unsafe { count(slot, direction, ctx.len(), |word, value| atomic_add(word, value)) };
}

/// Whether a packet of an opening flow shows that its originator has heard the answer.
#[inline(always)]
fn is_confirmed(flow: &Flow, meta: &PacketMeta, direction: Direction) -> bool {
    let hears = meta.protocol != protocol::TCP || meta.tcp_flags & tcp_flags::ACK != 0;
    direction == Direction::Original && flow.senders[1].has(sent::ANYTHING) && hears
}

/// Moves a flow to the table of established ones. A packet that another CPU looks up meanwhile finds it in one
/// of them; should there be no room, it stays where it is.
///
/// Packets that confirm a flow may come on several CPUs at once, each of which has followed its own in the flow that
/// opens. The first copy stands: a later one may be older, and would take back what others have said since. What this
/// packet says, which may have come after that copy was made, it says once more.
#[inline(never)]
fn establish(work: &mut Work, slot: *mut Flow) {
    // SAFETY: the slot stays mapped while the program runs.
    work.flow = unsafe { *slot };
    if Table::Established.insert_new(&work.key, &work.flow).is_ok() {
        Table::Opening.forget(&work.key);
        if work.flow.translation.flags != 0 {
            nat::move_aliases(work);
        }
    } else if let Some(standing) = maps::FLOWS.get_ptr_mut(&work.key) {
        // SAFETY: as above. It has been accepted before.
        let _accepted = segment::follow(work, unsafe { &mut *standing }, Direction::Original);
    }
}

/// Adds a packet to the counts of its direction.
///
/// # Safety
/// The flow is valid, and may be changed in the way that `add` does.
#[inline(always)]
unsafe fn count(flow: *mut Flow, direction: Direction, length: u32, add: impl Fn(*mut u64, u64)) {
    let index = index(direction);
    // SAFETY: the index is 0 or 1, and the arrays have two elements.
    unsafe {
        add((&raw mut (*flow).packets).cast::<u64>().add(index), 1);
        add((&raw mut (*flow).bytes).cast::<u64>().add(index), u64::from(length));
    }
}

/// Adds to a word that other CPUs add to as well. The target has no compare-and-swap in the compiler's eyes,
/// so `core::sync::atomic` offers no addition.
///
/// # Safety
/// The pointer is valid and aligned.
#[inline(always)]
unsafe fn atomic_add(word: *mut u64, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({word} + 0) += {value}",
            word = in(reg) word,
            value = in(reg) value,
            options(nostack),
        );
    }
}
