//! Limits on the flows that rules accept: how fast they may begin, and how many there may be.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::generated::bpf_ktime_get_ns};
use nightgate_abi::{
    Active, Address, Bucket, Flow, FlowKey, Group, Rate, Reason,
    limit::{LimitKey, Limits},
};

use crate::{maps, word::change};

/// Admits a new flow that a rule with parameters accepts. A function of its own in the object for the sake of the
/// stack.
///
/// # Errors
/// It is beyond a limit of the rule.
#[inline(never)]
pub(crate) fn admit(active: Active, rule: u32, source: &Address) -> Result<(), Reason> {
    let Some(limits) = of_rule(active, rule) else {
        return Ok(());
    };
    if let Some((most, per)) = limits.connections {
        let key = LimitKey::new(limits.tag, per, *source);
        let count = maps::CONNECTIONS.get_ptr(&key);
        // SAFETY: the slot stays mapped while the program runs.
        if count.is_some_and(|count| unsafe { *count } >= u64::from(most)) {
            return Err(Reason::ConnectionLimit);
        }
    }
    if let Some((rate, per)) = limits.rate {
        take(&LimitKey::new(limits.tag, per, *source), &rate, 1)?;
    }
    if let Some((_, per)) = limits.connections {
        begin(&LimitKey::new(limits.tag, per, *source));
    }
    Ok(())
}

/// Gives back the place of a flow that is over. What this misses (a flow that was idle for too long, or made room
/// for another) the next count of the table finds.
#[inline(never)]
pub(crate) fn release(active: Active, key: &FlowKey, flow: &Flow) {
    if flow.epoch != active.epoch() {
        return;
    }
    let Some(Limits { tag, connections: Some((_, per)), .. }) = of_rule(active, flow.rule) else {
        return;
    };
    let (source, _) = key.endpoint(flow.originator());
    if let Some(count) = maps::CONNECTIONS.get_ptr_mut(&LimitKey::new(tag, per, source)) {
        // SAFETY: the slot stays mapped while the program runs.
        unsafe { change(count, |count| count.checked_sub(1)) };
    }
}

/// The limits of a rule of the filter.
#[inline(always)]
fn of_rule(active: Active, rule: u32) -> Option<Limits> {
    let bank = maps::BANKS.get(active.bank())?;
    Group::Filter.parameters(rule, |index| bank.get(index)).map(Limits::from_slot)
}

/// Takes tokens, less than 2^16, from a bucket.
///
/// # Errors
/// There are fewer.
#[inline(always)]
pub(crate) fn take(key: &LimitKey, rate: &Rate, tokens: u32) -> Result<(), Reason> {
    // SAFETY: reads the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    if maps::RATES.get_ptr(key).is_none()
        && let Some(bucket) = Bucket::default().take_many(now, rate, tokens & 0xffff)
        && maps::RATES.insert(key, bucket, u64::from(BPF_NOEXIST)).is_ok()
    {
        return Ok(());
    }
    let bucket = maps::RATES.get_ptr_mut(key).ok_or(Reason::RateLimited)?;
    // SAFETY: the slot stays mapped while the program runs, and a bucket is one word.
    let taken = unsafe {
        change(bucket.cast(), |word| {
            Bucket(word).take_many(now, rate, tokens & 0xffff).map(|Bucket(word)| word)
        })
    };
    if taken { Ok(()) } else { Err(Reason::RateLimited) }
}

/// Counts a flow that begins.
#[inline(always)]
fn begin(key: &LimitKey) {
    if maps::CONNECTIONS.insert(key, 1, u64::from(BPF_NOEXIST)).is_ok() {
        return;
    }
    if let Some(count) = maps::CONNECTIONS.get_ptr_mut(key) {
        // SAFETY: the slot stays mapped while the program runs.
        unsafe { change(count, |count| Some(count + 1)) };
    }
}
