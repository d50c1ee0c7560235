//! Copies of mirrored flows.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_ktime_get_ns, bpf_ktime_get_tai_ns},
    programs::TcContext,
};
use nightgate_abi::{
    Active, Bucket, Features, Group, Reason,
    flow::Direction,
    mirror::{self, CopyMark, MirrorSession, NEVER, Outcome},
};

use crate::{
    hook::{self, Hook},
    maps,
    stage::{
        Work, classify, limit, report,
        track::{Passage, Place},
    },
};

/// The mirror session of a flow that has been judged, 0 for none: that of its service, or of the first filter that
/// matches it.
///
/// # Errors
/// There is no bank.
#[inline(always)]
pub(crate) fn session(work: &mut Work, active: Active, of_service: u16) -> Result<u16, Reason> {
    if of_service == NEVER || !active.uses(Features::MIRROR) {
        return Ok(mirror::session_of_flow(of_service, None));
    }
    let walk = classify::classify(work, Group::Mirror, active)?;
    let bank = maps::BANKS.get(active.bank()).ok_or(Reason::BankMissing)?;
    let filter = match walk.outcome() {
        Some(found) => Group::Mirror.parameters(found.rule, |index| bank.get(index)),
        None => None,
    };
    Ok(mirror::session_of_flow(of_service, filter))
}

/// Sends a copy of a mirrored flow's packet to the mirror device, with the session, the direction and the service in
/// the copy's mark, and the flow's hash in its traffic control index.
///
/// Only where the originator's packets come in and the answers leave, or the other way around if the gateway itself is
/// the originator, so that each packet is copied once and before it is encrypted. A copy that fails is counted and
/// changes nothing for the packet.
#[inline(always)]
pub(crate) fn copy(ctx: &TcContext, place: &Place, passage: &Passage) {
    if passage.mirror_session == 0 {
        return;
    }
    let here = if passage.origin_ifindex == 0 {
        match place.hook {
            Hook::Ingress => Direction::Reply,
            Hook::Egress => Direction::Original,
        }
    } else if passage.origin_ifindex == hook::ifindex(ctx) {
        match place.hook {
            Hook::Ingress => Direction::Original,
            Hook::Egress => Direction::Reply,
        }
    } else {
        return;
    };
    if passage.direction == here {
        let mark = CopyMark::new(passage.mirror_session, passage.direction, passage.service);
        nightgate_mirror_copy(ctx.skb.skb, mark.0, passage.mirror_hash.into(), passage.bytes);
    }
}

/// Copies a packet of a session's flow, if the session asks for it; counts what becomes of it. A global function, as
/// `nightgate_classify` is.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_mirror_copy(
    skb: *mut __sk_buff,
    mark: u32,
    hash: u32,
    bytes: u64,
) -> u32 {
    let (ctx, copy) = (TcContext::new(skb), CopyMark(mark));
    let frames = hook::segments(&ctx);
    // SAFETY: the entry is not changed in place: userspace replaces it, and frees the old one only after all
    // programs that may read it (BPF_F_NO_PREALLOC).
    let session = unsafe { maps::MIRROR_SESSIONS.get(copy.session()) };
    let here = hook::ifindex(&ctx);
    let is_due = |it: &MirrorSession| it.copies(copy.direction()) && it.copies_at(here);
    if session.is_some_and(|session| !is_due(session)) {
        return 0;
    }
    count(copy.session(), Outcome::Matched, frames, ctx.len());
    let sent = match session {
        Some(session) => admit(session, copy, Due { hash: hash as u16, bytes, frames })
            .and_then(|()| send(&ctx, copy, hash)),
        None => Err(Outcome::NoSession),
    };
    if let Err(outcome) = sent {
        count(copy.session(), outcome, frames, ctx.len());
    }
    0
}

/// A packet that a session may copy.
struct Due {
    hash: u16,
    /// Of its flow.
    bytes: u64,
    frames: u32,
}

/// Whether a session copies the packet.
///
/// # Errors
/// Why not.
#[inline(always)]
fn admit(session: &MirrorSession, copy: CopyMark, due: Due) -> Result<(), Outcome> {
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
            maps::MIRROR_BUCKETS.get_ptr_mut(copy.session()).ok_or(Outcome::RateLimited)?;
        let take = |word| {
            let after = Bucket(word).take_many(now, &session.rate, due.frames & 0xffff);
            after.map(|Bucket(word)| word)
        };
        // SAFETY: the element is there and aligned, and a bucket is one word.
        if !unsafe { limit::change(bucket.cast(), take) } {
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
fn send(ctx: &TcContext, copy: CopyMark, hash: u32) -> Result<(), Outcome> {
    let device = maps::MIRROR_DEVICE.get(0).copied().unwrap_or(0);
    if device == 0 {
        report::count(ctx, Reason::MirrorNoDevice);
        return Err(Outcome::NoDevice);
    }
    let (mark, index) = (hook::mark(ctx), hook::tc_index(ctx));
    ctx.set_mark(copy.0);
    hook::set_tc_index(ctx, hash);
    let result = ctx.clone_redirect(device, 0);
    ctx.set_mark(mark);
    hook::set_tc_index(ctx, index);
    if result.is_err() {
        report::count(ctx, Reason::MirrorRefused);
        return Err(Outcome::Refused);
    }
    report::count(ctx, Reason::Mirrored);
    Ok(())
}

/// Counts frames of a session under an outcome.
#[inline(always)]
pub(crate) fn count(session: u32, outcome: Outcome, frames: u32, length: u32) {
    let index = mirror::counter_index(session, outcome);
    if let Some(counter) = maps::MIRROR_COUNTERS.get_ptr_mut(index) {
        // SAFETY: the slot belongs to this CPU, and TC programs do not preempt each other on one CPU.
        let counter = unsafe { &mut *counter };
        counter.packets += u64::from(frames);
        counter.bytes += u64::from(length);
    }
}
