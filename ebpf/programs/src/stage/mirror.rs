//! Copies of mirrored flows.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use nightgate_abi::{
    Active, Features, Group, Reason,
    flow::Direction,
    mirror::{self, CopyMark, NEVER, Outcome},
};

use crate::{
    hook::{self, Hook},
    maps,
    mirror::{Due, copy_due},
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
    let ctx = TcContext::new(skb);
    let due = Due { mark: CopyMark(mark), hash: hash as u16, bytes };
    let reason = match copy_due(&ctx, &due) {
        Some(Ok(())) => Reason::Mirrored,
        Some(Err(Outcome::NoDevice)) => Reason::MirrorNoDevice,
        Some(Err(Outcome::Refused)) => Reason::MirrorRefused,
        Some(Err(_)) | None => return 0,
    };
    report::count(&ctx, reason);
    0
}
