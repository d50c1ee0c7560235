//! Copies of mirrored flows.

use aya_ebpf::programs::TcContext;
use nightgate_abi::{Reason, flow::Direction, mirror::CopyMark};

use crate::{
    hook::{self, Hook},
    maps,
    stage::{
        report,
        track::{Passage, Place},
    },
};

/// Sends a copy of a mirrored flow's packet to the mirror device, with the session, the direction and the service in
/// the copy's mark.
///
/// Only between the originator and the gateway, where the originator's packets come in and the answers
/// leave, so that each packet is copied once and before it is encrypted. A copy that fails is counted and
/// changes nothing for the packet.
#[inline(always)]
pub(crate) fn copy(ctx: &TcContext, place: &Place, passage: &Passage) {
    if passage.mirror_session == 0 || passage.origin_ifindex != hook::ifindex(ctx) {
        return;
    }
    let is_on_the_way = match place.hook {
        Hook::Ingress => passage.direction == Direction::Original,
        Hook::Egress => passage.direction == Direction::Reply,
    };
    if !is_on_the_way {
        return;
    }
    let device = maps::MIRROR_DEVICE.get(0).copied().unwrap_or(0);
    if device == 0 {
        report::count(ctx, Reason::MirrorNoDevice);
        return;
    }
    let mark = hook::mark(ctx);
    let copy = CopyMark::new(passage.mirror_session, passage.direction, passage.service);
    ctx.set_mark(copy.0);
    let result = ctx.clone_redirect(device, 0);
    ctx.set_mark(mark);
    let reason = if result.is_ok() { Reason::Mirrored } else { Reason::MirrorRefused };
    report::count(ctx, reason);
}
