//! Copies of packets on their way to the mirror device.

use aya_ebpf::{
    helpers::generated::{bpf_ktime_get_ns, bpf_ktime_get_tai_ns},
    programs::TcContext,
};
use nightgate_abi::{
    Bucket,
    mirror::{self, CopyMark, MirrorSession, Outcome},
};

use super::maps;
use crate::{hook, word::change};

/// A packet of a flow that a session may copy.
pub(crate) struct Due {
    /// Session, direction and service.
    pub(crate) mark: CopyMark,
    /// The same for all packets of the flow.
    pub(crate) hash: u16,
    /// Of the flow, this packet's included.
    pub(crate) bytes: u64,
}

/// Copies a packet, if its session asks for it, and counts what becomes of the copy. `None` if the session does not copy
/// such packets of its flows.
///
/// # Errors
/// Why there is no copy.
#[inline(always)]
pub(crate) fn copy_due(ctx: &TcContext, due: &Due) -> Option<Result<(), Outcome>> {
    let frames = hook::segments(ctx);
    let number = due.mark.session();
    // SAFETY: the entry is not changed in place: userspace replaces it, and frees the old one only after all
    // programs that may read it (BPF_F_NO_PREALLOC).
    let session = unsafe { maps::MIRROR_SESSIONS.get(number) };
    let here = hook::ifindex(ctx);
    let is_due = |it: &MirrorSession| it.copies(due.mark.direction()) && it.copies_at(here);
    if session.is_some_and(|session| !is_due(session)) {
        return None;
    }
    count(number, Outcome::Matched, frames, ctx.len());
    let sent = match session {
        Some(session) => admit(session, due, frames).and_then(|()| send(ctx, due)),
        None => Err(Outcome::NoSession),
    };
    if let Err(outcome) = sent {
        count(number, outcome, frames, ctx.len());
    }
    Some(sent)
}

/// Whether a session copies the packet.
///
/// # Errors
/// Why not.
#[inline(always)]
fn admit(session: &MirrorSession, due: &Due, frames: u32) -> Result<(), Outcome> {
    // SAFETY: reads the clock.
    if session.until != 0 && unsafe { bpf_ktime_get_tai_ns() } >= session.until {
        return Err(Outcome::Expired);
    }
    if !session.samples(due.hash) {
        return Err(Outcome::SampledOut);
    }
    if session.cut_after != 0 && due.bytes > session.cut_after {
        return Err(Outcome::CutOff);
    }
    if session.rate.interval != 0 {
        // SAFETY: reads the clock.
        let now = unsafe { bpf_ktime_get_ns() };
        let bucket =
            maps::MIRROR_BUCKETS.get_ptr_mut(due.mark.session()).ok_or(Outcome::RateLimited)?;
        let take = |word| {
            let after = Bucket(word).take_many(now, &session.rate, frames & 0xffff);
            after.map(|Bucket(word)| word)
        };
        // SAFETY: the element is there and aligned, and a bucket is one word.
        if !unsafe { change(bucket.cast(), take) } {
            return Err(Outcome::RateLimited);
        }
    }
    Ok(())
}

/// Hands a copy to the mirror device.
///
/// # Errors
/// There is none, or the kernel refuses.
#[inline(always)]
fn send(ctx: &TcContext, due: &Due) -> Result<(), Outcome> {
    let device = device();
    if device == 0 {
        return Err(Outcome::NoDevice);
    }
    let (mark, index) = (hook::mark(ctx), hook::tc_index(ctx));
    ctx.set_mark(due.mark.0);
    hook::set_tc_index(ctx, due.hash.into());
    let result = ctx.clone_redirect(device, 0);
    ctx.set_mark(mark);
    hook::set_tc_index(ctx, index);
    result.map_err(|_| Outcome::Refused)
}

/// Number of the mirror device; 0 if there is none.
#[inline(always)]
pub(crate) fn device() -> u32 {
    maps::MIRROR_DEVICE.get(0).copied().unwrap_or(0)
}

/// Counts frames of a session under an outcome.
#[inline(always)]
pub(super) fn count(session: u32, outcome: Outcome, frames: u32, length: u32) {
    let index = mirror::counter_index(session, outcome);
    if let Some(counter) = maps::MIRROR_COUNTERS.get_ptr_mut(index) {
        // SAFETY: the slot belongs to this CPU, and TC programs do not preempt each other on one CPU.
        let counter = unsafe { &mut *counter };
        counter.packets += u64::from(frames);
        counter.bytes += u64::from(length);
    }
}
