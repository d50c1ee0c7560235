//! Copies of mirrored flows.

use aya_ebpf::programs::TcContext;
use nightgate_abi::{
    Active, Features, Group, Reason,
    flow::Direction,
    mirror::{self, CopyMark, NEVER, Outcome},
};

use crate::{
    hook::{self, Hook},
    maps,
    stage::{
        Work, classify, report,
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
/// the copy's mark.
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
    if passage.direction != here {
        return;
    }
    let session = passage.mirror_session.into();
    let frames = hook::segments(ctx);
    count(session, Outcome::Matched, frames, ctx.len());
    let device = maps::MIRROR_DEVICE.get(0).copied().unwrap_or(0);
    if device == 0 {
        count(session, Outcome::NoDevice, frames, ctx.len());
        report::count(ctx, Reason::MirrorNoDevice);
        return;
    }
    let mark = hook::mark(ctx);
    let copy = CopyMark::new(passage.mirror_session, passage.direction, passage.service);
    ctx.set_mark(copy.0);
    let result = ctx.clone_redirect(device, 0);
    ctx.set_mark(mark);
    if result.is_ok() {
        report::count(ctx, Reason::Mirrored);
    } else {
        count(session, Outcome::Refused, frames, ctx.len());
        report::count(ctx, Reason::MirrorRefused);
    }
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
