//! Counting what became of packets.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    programs::TcContext,
};
use nightgate_abi::{Active, Counter, PROBE_CB, Reason, maps::rule_counter};

use crate::maps;

/// Counts a packet that passes and lets the next program on the hook, or else the stack, have it.
#[inline(always)]
pub(crate) fn pass(ctx: &TcContext, reason: Reason) -> i32 {
    count(ctx, reason);
    tell(ctx, reason);
    TC_ACT_UNSPEC
}

/// Counts a packet that is refused and drops it.
#[inline(always)]
pub(crate) fn drop(ctx: &TcContext, reason: Reason) -> i32 {
    count(ctx, reason);
    tell(ctx, reason);
    TC_ACT_SHOT
}

/// Leaves the reason where a caller of `BPF_PROG_TEST_RUN` finds it. Nobody else reads it.
#[inline(always)]
fn tell(ctx: &TcContext, reason: Reason) {
    // SAFETY: the context is valid for the whole program run.
    unsafe { (*ctx.skb.skb).cb[PROBE_CB] = reason.index() };
}

/// Counts a packet under a reason.
#[inline(always)]
pub(crate) fn count(ctx: &TcContext, reason: Reason) {
    add(maps::REASON_COUNTERS.get_ptr_mut(reason.index()), ctx);
}

/// Counts a packet under a rule of the bank in force.
#[inline(always)]
pub(crate) fn count_rule(ctx: &TcContext, active: Active, rule: u32) {
    add(maps::RULE_COUNTERS.get_ptr_mut(rule_counter(active.bank(), rule)), ctx);
}

#[inline(always)]
fn add(counter: Option<*mut Counter>, ctx: &TcContext) {
    if let Some(counter) = counter {
        // SAFETY: the slot belongs to this CPU, and TC programs do not preempt each other on one CPU.
        let counter = unsafe { &mut *counter };
        counter.packets += 1;
        counter.bytes += u64::from(ctx.len());
    }
}
