//! What the tables know of a packet.

use aya_ebpf::programs::TcContext;
use nightgate_abi::{
    Flow, Reason, ZoneId,
    flow::{Direction, End, Phase},
};
use nightgate_packet::{PacketMeta, protocol, tcp_flags};

use crate::{
    hook::{self, Hook},
    stage::{
        Work,
        judge::{Age, Origin},
        nat,
        track::{
            Place,
            table::{self, Table},
        },
    },
};

/// What the tables know of a packet.
pub(super) enum Found {
    /// A flow of the epoch in force.
    Current(Entry),
    /// A flow that has to be judged again: the rules changed, or its route.
    Stale(*mut Flow, Origin),
    /// No flow, or one that has ended.
    Nothing,
}

/// A flow where it is, and the direction of the packet at hand.
pub(crate) struct Entry {
    pub(crate) slot: *mut Flow,
    pub(crate) table: Table,
    pub(crate) direction: Direction,
}

/// Finds the flow of a packet. A packet of a translated flow that comes in gets the destination it has inside.
///
/// # Errors
/// It pretends to be of a translated flow.
#[inline(always)]
pub(super) fn find(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    mut sender: End,
    now: u64,
) -> Result<Found, Reason> {
    let Some((mut slot, mut table)) = table::find(&work.key) else {
        return Ok(Found::Nothing);
    };
    // SAFETY: the slot stays mapped while the program runs.
    if unsafe { (*slot).is_alias() } {
        let Some(inside) = nat::enter(ctx, work, place, (slot, sender), now)? else {
            return Ok(Found::Nothing);
        };
        (slot, table, sender) = inside;
    }
    // SAFETY: as above.
    let flow = unsafe { &*slot };
    if is_over(flow, &work.meta, now) {
        // The next flow begins in the other table.
        if table == Table::Established {
            table.forget(&work.key);
        }
        return Ok(Found::Nothing);
    }
    let (direction, end) = (flow.direction_of(sender), flow.originator());
    let is_rerouted =
        place.hook == Hook::Egress && direction == Direction::Original && flow.to != place.here;
    let is_current = flow.epoch == place.active.epoch() && !is_rerouted;
    if is_current || is_own_reset(ctx, work, place, direction) {
        return Ok(Found::Current(Entry { slot, table, direction }));
    }
    work.nat.translation = flow.translation;
    let (ifindex, age) = (flow.origin_ifindex, Age::Known(table));
    let may_intercept = flow.to == ZoneId::OVERLAY;
    let origin = Origin { end, ifindex, direction, age, may_intercept };
    Ok(Found::Stale(slot, origin))
}

/// Whether the flow has ended, so that the packet begins another: it was idle for too long, or a TCP
/// connection closed and is opened anew.
#[inline(always)]
pub(crate) fn is_over(flow: &Flow, meta: &PacketMeta, now: u64) -> bool {
    flow.is_idle(now) || (meta.opens() && flow.phase() == Phase::Closed)
}

/// Whether the gateway itself resets a connection it had accepted. That passes whatever the rules have
/// become: a client of a withdrawn service learns at once that its connection is over.
#[inline(always)]
fn is_own_reset(ctx: &TcContext, work: &Work, place: &Place, direction: Direction) -> bool {
    place.hook == Hook::Egress
        && direction == Direction::Reply
        && work.meta.protocol == protocol::TCP
        && work.meta.tcp_flags & tcp_flags::RST != 0
        && hook::ingress_ifindex(ctx) == 0
}
