//! The maximum segment size of forwarded TCP connections.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use nightgate_abi::{Active, Reason, ZoneId, flow::Direction, mss::MssBound};
use nightgate_packet::{OptionSearch, mss};

use crate::{
    frame::TcFrame,
    hook::{self, Hook},
    maps,
    stage::{
        Work, judge, lend, options, route,
        track::{Passage, Place},
    },
};

/// Arguments of [`nightgate_clamp`].
pub(crate) struct ClampWork {
    zones: [ZoneId; 2],
    active: Active,
}

/// Lowers the segment size that a forwarded SYN announces to the bounds of its flow's zones. It leaves by the
/// interface at hand, so both directions' SYNs come by here, and both ways are known.
///
/// # Errors
/// The packet cannot be changed.
#[inline(always)]
pub(crate) fn clamp(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    passage: &Passage,
) -> Result<(), Reason> {
    if place.hook == Hook::Ingress || hook::ingress_ifindex(ctx) == 0 {
        return Ok(());
    }
    work.clamp = ClampWork { zones: [passage.from, passage.to], active: place.active };
    lend(work);
    if nightgate_clamp(ctx.skb.skb) == 0 { Ok(()) } else { Err(Reason::NatRewrite) }
}

/// Does it. A global function, as `nightgate_parse` is. Returns 0 if the packet is as it should be.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_clamp(skb: *mut __sk_buff) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: the slot belongs to this CPU; `clamp` has lent its reference to it.
    let work = unsafe { &mut *work };
    let ctx = TcContext::new(skb);
    let Some(settings) = maps::SETTINGS.get(work.clamp.active.bank()) else {
        return 0;
    };
    let [from, to] = work.clamp.zones;
    let most = match settings.mss.between(from, to) {
        MssBound::None => return 0,
        MssBound::Bytes(bytes) => bytes,
        MssBound::Routes(bytes) => {
            let carried = mss::of_mtu(work.meta.family, mtu(&ctx, work));
            if carried < bytes { carried } else { bytes }
        }
    };
    let search = OptionSearch::maximum_segment_size(&work.meta);
    match options::find(&ctx, search) {
        Some(offset) => u32::from(mss::lower(&TcFrame(&ctx), &work.meta, offset, most).is_err()),
        None => 0,
    }
}

/// The longest packet that both the way of the packet at hand and the way back take.
#[inline(always)]
fn mtu(ctx: &TcContext, work: &mut Work) -> u16 {
    let (here, origin) = (hook::ifindex(ctx), hook::ingress_ifindex(ctx));
    judge::describe(&mut work.subject, &work.meta, &work.key, Direction::Original);
    let out = route::mtu(ctx, &work.subject, origin, here);
    judge::describe(&mut work.subject, &work.meta, &work.key, Direction::Reply);
    let back = route::mtu(ctx, &work.subject, here, origin);
    let least = if out < back { out } else { back };
    if least > u32::from(u16::MAX) { u16::MAX } else { least as u16 }
}
