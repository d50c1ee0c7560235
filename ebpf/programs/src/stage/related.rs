//! ICMP and ICMPv6 errors: they pass with the flow of the packet that they quote.

use aya_ebpf::{
    bindings::__sk_buff, helpers::generated::bpf_ktime_get_coarse_ns, programs::TcContext,
};
use nightgate_abi::{Flow, INTERCEPT_MARK, Reason, Sender, flow::Direction};
use nightgate_packet::{connection, protocol, quote};

use crate::{
    frame::TcFrame,
    hook::Hook,
    maps,
    stage::{
        Work, act, lend, nat, report,
        track::{self, Passage, Place, remember},
    },
};

/// Reads what an error quotes into [`Work::quoted`].
///
/// # Errors
/// The quote is malformed.
#[inline(always)]
pub(crate) fn read(ctx: &TcContext, work: &mut Work) -> Result<(), Reason> {
    lend(work);
    if nightgate_quote(ctx.skb.skb) == 0 { Ok(()) } else { Err(Reason::IcmpQuote) }
}

/// Reads what the error in the work space quotes. A global function, as `nightgate_parse` is. Returns 0 if the quote
/// is sound.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_quote(skb: *mut __sk_buff) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: the slot belongs to this CPU; `read` has lent its reference to it.
    let work = unsafe { &mut *work };
    let ctx = TcContext::new(skb);
    u32::from(quote::quote(&TcFrame(&ctx), &work.meta, &mut work.quoted).is_err())
}

/// Lets an error pass that quotes a packet of a flow of the epoch in force, towards the end that sent that packet. It
/// may come from any router on the flow's path, so its own source says nothing. [`read`] has left
/// what it quotes. If the flow is translated, so has the error to be, by [`nat::translate_error`].
///
/// # Errors
/// The quote is of no flow.
#[inline(never)]
pub(crate) fn pass(ctx: &TcContext, work: &mut Work, place: &Place) -> Result<Reason, Reason> {
    let sender;
    (work.key, sender) = work.quoted.flow_key();
    // SAFETY: reads the clock.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let quoted = nat::find_quoted(work, place.hook, sender)?;
    // SAFETY: the slot stays mapped while the program runs.
    let flow = unsafe { &*quoted.slot };
    if flow.is_idle(now) || flow.epoch != place.active.epoch() {
        return Err(Reason::IcmpUnrelated);
    }
    if !is_recent(work, flow, quoted.direction) {
        return Err(Reason::IcmpUnrelated);
    }
    let direction = quoted.direction.other();
    let is_on_path = match place.hook {
        Hook::Ingress => place.here == flow.from || place.here == flow.to,
        Hook::Egress => {
            track::expected_zone([flow.from, flow.to], direction, Hook::Egress) == place.here
        }
    };
    if !is_on_path {
        return Err(Reason::ZoneMismatch);
    }
    if track::is_counted(ctx, place.hook) {
        report::count_rules(ctx, place.active, flow, now);
        remember::count_beside(ctx, quoted.slot, direction);
    }
    work.related = Passage::of(flow, direction);
    let way = act::way(place.hook, [flow.from, flow.to], direction);
    nat::describe_error(ctx, work, place, &quoted, now);
    if way == Reason::Intercepted {
        // The connection that it is about is the gateway's, at an address that is not.
        ctx.set_mark(INTERCEPT_MARK);
    }
    act::deliver_to_transparent(ctx, way, &work.related);
    Ok(way)
}

/// Whether a quoted TCP segment is one that its sender may have on its way (RFC 5927 section 4).
#[inline(always)]
fn is_recent(work: &Work, flow: &Flow, direction: Direction) -> bool {
    if work.quoted.protocol != protocol::TCP {
        return true;
    }
    let [origin, responder]: &[Sender; 2] = &flow.senders;
    match direction {
        Direction::Original => {
            connection::is_recent(work.quoted.segment.sequence, origin, responder)
        }
        Direction::Reply => connection::is_recent(work.quoted.segment.sequence, responder, origin),
    }
}
