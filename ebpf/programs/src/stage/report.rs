//! Counting what became of packets.

use aya_ebpf::{
    bindings::{BPF_NOEXIST, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_coarse_ns},
    programs::TcContext,
};
use nightgate_abi::{
    Active, Counter, Flow, PROBE_CB, Reason, counter::DropKey, maps::rule_counter,
};

use crate::{
    hook::{self, Hook},
    maps,
};

/// Counts a packet that passes and lets the next program on the hook, or else the stack, have it.
#[inline(always)]
pub(crate) fn pass(ctx: &TcContext, reason: Reason) -> i32 {
    count(ctx, reason);
    tell(ctx, reason);
    TC_ACT_UNSPEC
}

/// Counts a packet that is refused and drops it.
#[inline(always)]
pub(crate) fn drop(ctx: &TcContext, hook: Hook, reason: Reason) -> i32 {
    count_refused(hook::ifindex(ctx), hook, reason, ctx.len().into());
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
    count_reason(reason, ctx.len().into());
}

/// Counts a frame of some bytes that is refused, under the reason and under the interface.
#[inline(always)]
pub(crate) fn count_refused(ifindex: u32, hook: Hook, reason: Reason, bytes: u64) {
    count_reason(reason, bytes);
    let reason = reason.index() as u16;
    count_drop(&DropKey { ifindex, reason, hook: hook.number(), pad: 0 }, bytes);
}

/// Counts a packet under a rule of the bank in force.
#[inline(always)]
pub(crate) fn count_rule(ctx: &TcContext, active: Active, rule: u32, now: u64) {
    // SAFETY: reads the number of the CPU.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let index = rule_counter(active.counters_shift(), cpu, rule);
    let Some(bank) = maps::RULE_COUNTERS.get(active.bank()) else { return };
    if let Some(hits) = bank.get_ptr_mut(index) {
        // SAFETY: the element is this CPU's, and TC programs do not preempt each other on one CPU.
        let hits = unsafe { &mut *hits };
        hits.counter.packets += 1;
        hits.counter.bytes += u64::from(ctx.len());
        hits.last_seen = now;
    }
}

/// Counts a packet under a rule of the bank in force, of a flow that is refused.
#[inline(always)]
pub(crate) fn count_refusal(ctx: &TcContext, active: Active, rule: u32) {
    // SAFETY: reads the clock.
    count_rule(ctx, active, rule, unsafe { bpf_ktime_get_coarse_ns() });
}

/// Counts a packet of some bytes under a reason.
#[inline(always)]
pub(crate) fn count_reason(reason: Reason, bytes: u64) {
    add(maps::REASON_COUNTERS.get_ptr_mut(reason.index()), bytes);
}

/// Counts a frame under the reason and the interface that refused it. A table that is full counts no more
/// pairs of them; the reason's own counter goes on.
#[inline(never)]
fn count_drop(key: &DropKey, bytes: u64) {
    if let Some(counter) = maps::DROPS.get_ptr_mut(key) {
        return add(Some(counter), bytes);
    }
    let _another_cpu_was_first = maps::DROPS.insert(key, &Counter::default(), BPF_NOEXIST.into());
    add(maps::DROPS.get_ptr_mut(key), bytes);
}

/// Counts a packet under the rules of its flow: the one that accepted it, and one that only counts.
#[inline(always)]
pub(crate) fn count_rules(ctx: &TcContext, active: Active, flow: &Flow, now: u64) {
    count_rule(ctx, active, flow.rule, now);
    if flow.counting != 0 {
        count_rule(ctx, active, flow.counting - 1, now);
    }
}

#[inline(always)]
fn add(counter: Option<*mut Counter>, bytes: u64) {
    if let Some(counter) = counter {
        // SAFETY: the slot belongs to this CPU, and programs at these hooks do not preempt each other on one CPU.
        let counter = unsafe { &mut *counter };
        counter.packets += 1;
        counter.bytes += bytes;
    }
}
