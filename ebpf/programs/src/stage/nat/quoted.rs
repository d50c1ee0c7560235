//! ICMP errors about translated flows (RFC 5508 section 4.2). As every packet, one gets the destination that it has
//! inside where it comes in, and the source that it has outside where it leaves; so does what it quotes, the other way
//! round.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use nightgate_abi::{Reason, flow::End};
use nightgate_packet::rewrite::{self, Change, Reporter, Side};

use super::{count, resolve};
use crate::{
    frame::TcFrame,
    hook::{self, Hook},
    maps,
    stage::{
        Work, lend,
        track::{Place, lookup::Entry, table},
    },
};

/// Finds the flow of a quoted packet with the key [`Work::key`], sent by an end of that key, and the packet's direction
/// in it. Where the error comes in, the key may be that of an alias; it is that of the flow afterwards.
///
/// # Errors
/// It is of no flow.
#[inline(always)]
pub(crate) fn find_quoted(work: &mut Work, hook: Hook, sender: End) -> Result<Entry, Reason> {
    let (slot, table) = table::find(&work.key).ok_or(Reason::IcmpUnrelated)?;
    // SAFETY: the slot stays mapped while the program runs.
    let found = unsafe { &*slot };
    if !found.is_alias() {
        let direction = found.direction_of(sender);
        // What comes in quotes a packet as it was outside.
        let is_inside = hook == Hook::Ingress && found.translation.guise(direction).is_some();
        return if is_inside {
            Err(Reason::IcmpUnrelated)
        } else {
            Ok(Entry { slot, table, direction })
        };
    }
    if hook == Hook::Egress || found.originator() != sender {
        return Err(Reason::IcmpUnrelated);
    }
    let (slot, table, sender) = resolve(work, slot).ok_or(Reason::IcmpUnrelated)?;
    // SAFETY: as above.
    let direction = unsafe { (*slot).direction_of(sender) };
    Ok(Entry { slot, table, direction })
}

/// Whether an error is changed.
#[derive(Clone, Copy, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Due {
    Nothing = 0,
    Change = 1,
}

/// Finds out what becomes of an error about a packet of a flow, for [`translate_error`].
#[inline(always)]
pub(crate) fn describe_error(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    quoted: &Entry,
    now: u64,
) {
    work.nat.error = Due::Nothing;
    // SAFETY: the slot stays mapped while the program runs.
    let flow = unsafe { &*quoted.slot };
    let hidden = match place.hook {
        Hook::Ingress => quoted.direction,
        Hook::Egress => quoted.direction.other(),
    };
    let Some(guise) = flow.translation.guise(hidden) else { return };
    let packet = &work.quoted;
    work.nat.change = match place.hook {
        Hook::Ingress => Change {
            side: Side::Source,
            old: (packet.source, packet.source_port),
            new: work.key.endpoint(flow.end_of(hidden)),
        },
        Hook::Egress => Change {
            side: Side::Destination,
            old: (packet.destination, packet.destination_port),
            new: guise.endpoint(),
        },
    };
    work.nat.error = Due::Change;
    count(ctx, place.active, guise.counter, now);
}

/// Changes an error as [`describe_error`] has found out.
///
/// # Errors
/// It cannot be changed.
#[inline(always)]
pub(crate) fn translate_error(ctx: &TcContext, work: &mut Work) -> Result<(), Reason> {
    if work.nat.error == Due::Nothing {
        return Ok(());
    }
    lend(work);
    if nightgate_translate_error(ctx.skb.skb) == 0 { Ok(()) } else { Err(Reason::NatRewrite) }
}

/// Makes the change in the work space to the error at hand. A global function, as `nightgate_parse` is. Returns 0 if it
/// is made.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_translate_error(skb: *mut __sk_buff) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: the slot belongs to this CPU; `translate_error` has lent its reference to it.
    let work = unsafe { &*work };
    let ctx = TcContext::new(skb);
    let reporter =
        if hook::ingress_ifindex(&ctx) == 0 { Reporter::Gateway } else { Reporter::Another };
    let frame = TcFrame(&ctx);
    let made = rewrite::rewrite_error(&frame, &work.meta, &work.quoted, &work.nat.change, reporter);
    u32::from(made.is_err())
}
