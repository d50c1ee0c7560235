//! A translated flow under other rules.

use aya_ebpf::programs::TcContext;
use nightgate_abi::{
    Active, Features, Group, Reason, ZoneId,
    flow::Direction,
    nat::{NO_COUNTER, translated},
};

use super::{count, target};
use crate::{
    hook::Hook,
    stage::{Work, classify, track::Place},
};

/// Finds the rules of the bank in force that a translated flow counts under from now on: those that would translate
/// it if it began now; and counts the packet at hand there, if it has come in. [`Work::subject`] is the flow as `judge` has described it; it is not afterwards.
///
/// # Errors
/// The bank cannot be read.
#[inline(never)]
pub(crate) fn recount(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    direction: Direction,
    now: u64,
) -> Result<(), Reason> {
    let active = place.active;
    let flags = work.nat.translation.flags;
    if flags & translated::ORIGINATOR != 0 {
        work.nat.translation.guises[0].counter = counter(work, Group::SourceNat, active)?;
    }
    if flags & translated::RESPONDER != 0 {
        let named = work.nat.translation.guises[1].endpoint();
        work.subject.destination = named.0;
        if !work.meta.is_icmp() {
            work.subject.destination_port = named.1;
        }
        work.subject.to = ZoneId::LOCAL;
        work.nat.translation.guises[1].counter = counter(work, Group::DestinationNat, active)?;
    }
    let (flag, guise) = match direction {
        Direction::Original => (translated::RESPONDER, work.nat.translation.guises[1]),
        Direction::Reply => (translated::ORIGINATOR, work.nat.translation.guises[0]),
    };
    if place.hook == Hook::Ingress && flags & flag != 0 {
        count(ctx, active, guise.counter, now);
    }
    Ok(())
}

#[inline(always)]
fn counter(work: &mut Work, group: Group, active: Active) -> Result<u32, Reason> {
    if !active.uses(Features::NAT) {
        return Ok(NO_COUNTER);
    }
    match classify::classify(work, group, active)?.outcome() {
        Some(found) => Ok(target(group, found, active)?.counter),
        None => Ok(NO_COUNTER),
    }
}
