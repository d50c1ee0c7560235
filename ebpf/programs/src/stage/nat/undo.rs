//! A packet that is answered instead of let through.

use aya_ebpf::programs::TcContext;
use nightgate_abi::{Reason, flow::Direction, nat::translated};
use nightgate_packet::rewrite::Side;

use super::rewrite;
use crate::{
    hook::Hook,
    stage::{
        Work,
        judge::{Age, Origin},
        track::Place,
    },
};

/// Gives a packet that came in the destination back that its sender has written, so that the answer to it comes
/// from there.
///
/// # Errors
/// The packet cannot be changed.
#[inline(never)]
pub(crate) fn undo(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    origin: &Origin,
) -> Result<(), Reason> {
    let (flag, guise) = match origin.direction {
        Direction::Original => (translated::RESPONDER, work.nat.translation.guises[1]),
        Direction::Reply => (translated::ORIGINATOR, work.nat.translation.guises[0]),
    };
    if place.hook == Hook::Egress || work.nat.translation.flags & flag == 0 {
        return Ok(());
    }
    let old = (work.meta.destination, work.meta.destination_port);
    if origin.age != Age::New {
        rewrite(ctx, work, Side::Destination, [old, guise.endpoint()])?;
    }
    (work.meta.destination, work.meta.destination_port) = guise.endpoint();
    Ok(())
}
