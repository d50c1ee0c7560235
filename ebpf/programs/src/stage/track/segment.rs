//! What a packet says about its sender, and of TCP whether it fits the connection.

use aya_ebpf::programs::TcContext;
use nightgate_abi::{
    Flow, Reason, Sender,
    flow::Direction,
    sender::{SCALE_MAX, sent},
};
use nightgate_packet::{
    Frame as _, OptionSearch, PacketMeta,
    connection::{self, Arrival},
    protocol, tcp_flags,
};

use crate::{
    frame::TcFrame,
    stage::{Work, options, track::index},
};

/// Takes over what the first packet of a flow says.
#[inline(always)]
pub(super) fn begin(work: &mut Work) {
    let sender = &mut work.flow.senders[0];
    match work.meta.protocol {
        protocol::TCP => {
            connection::begin(&arrival(&work.meta, work.scale, Direction::Original), sender);
        }
        _ => sender.flags |= sent::ANYTHING,
    }
}

/// Takes over what a packet of a known flow says.
///
/// # Errors
/// It cannot belong to the flow.
#[inline(always)]
pub(super) fn follow(work: &Work, flow: &mut Flow, direction: Direction) -> Result<(), Reason> {
    let senders = (&raw mut flow.senders).cast::<Sender>();
    // SAFETY: both indices are 0 or 1, and the array has two elements. They differ, so that the references are
    // to different ones.
    let (sender, receiver) = unsafe {
        (&mut *senders.add(index(direction)), &mut *senders.add(index(direction.other())))
    };
    if work.meta.protocol != protocol::TCP {
        if !sender.has(sent::ANYTHING) {
            sender.flags |= sent::ANYTHING;
        }
        return Ok(());
    }
    if work.meta.tcp_flags & (tcp_flags::SYN | tcp_flags::RST) != 0 {
        return turn(work, sender, receiver, direction);
    }
    connection::follow(&arrival(&work.meta, None, direction), sender, receiver)
}

/// Like [`follow`], for a flow that is about to be judged again. A function of its own in the object, for it is
/// rare.
#[inline(never)]
pub(super) fn follow_stale(
    work: &Work,
    slot: *mut Flow,
    direction: Direction,
) -> Result<(), Reason> {
    // SAFETY: the slot stays mapped while the program runs.
    follow(work, unsafe { &mut *slot }, direction)
}

/// Follows a segment that opens or resets. A function of its own in the object: the others need none of it.
#[inline(never)]
fn turn(
    work: &Work,
    sender: &mut Sender,
    receiver: &mut Sender,
    direction: Direction,
) -> Result<(), Reason> {
    connection::follow(&arrival(&work.meta, work.scale, direction), sender, receiver)
}

#[inline(always)]
fn arrival(meta: &PacketMeta, scale: Option<u8>, direction: Direction) -> Arrival<'_> {
    Arrival { segment: &meta.segment, flags: meta.tcp_flags, direction, scale }
}

/// The window scale option of a SYN. A function of its own in the object for the sake of the stack.
#[inline(never)]
pub(super) fn window_scale(ctx: &TcContext, meta: &PacketMeta) -> Option<u8> {
    let offset = options::find(ctx, OptionSearch::window_scale(meta))?;
    // With the byte before it: of the check for a single byte, the verifier learns nothing.
    let [_length, shift] = TcFrame(ctx).read(offset.wrapping_sub(1))?;
    // RFC 7323 section 2.3: a larger shift is taken for 14.
    Some(if shift > SCALE_MAX { SCALE_MAX } else { shift })
}
