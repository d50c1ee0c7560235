//! The stages of a packet, in order: parse, track, classify, act, mirror; each end is reported.

mod act;
mod classify;
mod judge;
mod mirror;
mod parse;
pub(crate) mod report;
mod route;
mod track;
mod zone;

use aya_ebpf::programs::TcContext;
use nightgate_abi::{Flow, FlowKey, Reason, forest::Key, mirror::ENCAPSULATED_MARK, rule::Subject};
use nightgate_packet::PacketMeta;

use crate::{
    hook::{self, Hook},
    maps,
};

/// What the stages hand on. It is in a map because kernel programs have only 512 bytes of stack for all
/// their functions together; it belongs to one packet at a time, since these programs do not preempt each
/// other on one CPU.
pub(crate) struct Work {
    /// Set by `parse`.
    meta: PacketMeta,
    /// Set by `track`.
    key: FlowKey,
    /// Set by `judge`.
    subject: Subject,
    /// Set by `classify`.
    words: Key,
    /// Set by `track` for a flow that is judged.
    flow: Flow,
}

/// Takes a packet through the stages. `Ok` is the reason it passes, `Err` the reason it is refused.
#[inline(always)]
pub(crate) fn run(ctx: &TcContext, hook: Hook) -> Result<Reason, Reason> {
    let active = *maps::ACTIVE.get(0).ok_or(Reason::NotCommitted)?;
    if active.epoch() == 0 {
        return Err(Reason::NotCommitted);
    }
    // The encapsulating program has made sure that it goes to a configured sensor by that one's interface.
    if hook == Hook::Egress && hook::mark(ctx) == ENCAPSULATED_MARK {
        return Ok(Reason::MirrorCopy);
    }
    let here = zone::of_interface(hook::ifindex(ctx), active).ok_or(Reason::UnknownInterface)?;
    let work = maps::WORK.get_ptr_mut(0).ok_or(Reason::WorkSpace)?;
    // SAFETY: the slot belongs to this CPU and no other reference to it exists. Its fields are plain
    // integers and enums for which zero, the map's initial content, is a value.
    let work = unsafe { &mut *work };
    match parse::parse(ctx, work)? {
        parse::Parsed::Arp => return Ok(Reason::Arp),
        parse::Parsed::NeighbourDiscovery => return Ok(Reason::NeighbourDiscovery),
        parse::Parsed::Ip => {}
    }
    let place = track::Place { hook, here, active };
    let passage = track::pass(ctx, work, &place)?;
    let reason = act::act(ctx, &work.meta, &place, &passage)?;
    mirror::copy(ctx, &place, &passage);
    Ok(reason)
}
