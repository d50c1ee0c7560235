//! The stages of a packet, in order: parse, track, classify, act, mirror; each end is reported.

mod act;
mod clamp;
mod classify;
pub(crate) mod echo;
mod ether;
pub(crate) mod fragment;
mod intercept;
mod judge;
mod limit;
pub(crate) mod mirror;
mod nat;
mod options;
mod parse;
mod quarantine;
pub(crate) mod reject;
mod related;
mod repeat;
pub(crate) mod report;
mod rewrite;
mod route;
mod sight;
mod throttle;
pub(crate) mod track;
mod vlan;
mod zone;

use core::arch::asm;

use aya_ebpf::programs::TcContext;
use nightgate_abi::{
    Active, Features, Flow, FlowKey, Intercept, Reason, mirror::ENCAPSULATED_MARK, reason::Kind,
    rule::Subject,
};
use nightgate_packet::{PacketMeta, tcp_flags};

use crate::{
    hook::{self, Hook},
    maps,
    stage::{classify::Position, parse::Parsed, reject::Quote, sight::Sight},
};

/// What the stages hand on. It is in a map because kernel programs have only 512 bytes of stack for all
/// their functions together; it belongs to one packet at a time, since these programs do not preempt each
/// other on one CPU.
pub(crate) struct Work {
    /// Set by `parse` for a well-formed packet.
    parsed: Parsed,
    /// Set by `parse` for any other.
    malformed: Reason,
    /// Set by `parse`.
    meta: PacketMeta,
    /// Window scale of a SYN. Set by `track`.
    scale: Option<u8>,
    /// What an ICMP error quotes. Set by `related`.
    quoted: PacketMeta,
    /// How an ICMP error passes with the flow that it is about. Set by `related`.
    related: track::Passage,
    /// Set by `track` and `related`.
    key: FlowKey,
    /// Set by `judge`; its facts, which are those of the flow's first packet, by `track`.
    subject: Subject,
    /// Set by `intercept`.
    intercept: Intercept,
    /// [`Flow::hosted`]. Set by `track`.
    hosted: u16,
    /// Set by `act` for an intercepted packet that nobody takes.
    undelivered: Reason,
    /// Set by `judge`, as [`Flow::counting`].
    counting: u32,
    /// Set by `classify`.
    position: Position,
    /// Set by `track` for a flow that is judged.
    flow: Flow,
    /// Set by `judge` for a packet that is rejected: its rule's action.
    refusal: u8,
    /// What an ICMP error quotes.
    quote: Quote,
    /// Set by all of them, if packets are told of.
    sight: Sight,
    /// Set by `judge`.
    judge: judge::JudgeWork,
    /// Set by `nat`.
    nat: nat::NatWork,
    /// Set by `clamp`.
    clamp: clamp::ClampWork,
    /// Set by `fragment`.
    fragment: fragment::FragmentWork,
}

/// Lends the work space to a global function, which finds it by itself: the compiler could not know that it uses what
/// `work` refers to.
#[inline(always)]
fn lend(work: &mut Work) {
    // SAFETY: changes nothing.
    unsafe { asm!("{work} = {work}", work = in(reg) &raw mut *work, options(nostack)) };
}

/// Takes a packet through the stages. `Ok` is the reason it passes, `Err` the reason it is refused.
#[inline(always)]
pub(crate) fn run(ctx: &TcContext, hook: Hook) -> Result<Reason, Reason> {
    let active = *maps::ACTIVE.get(0).ok_or(Reason::NotCommitted)?;
    if active.epoch() == 0 {
        return Err(Reason::NotCommitted);
    }
    if active.uses(Features::SIGHT) {
        sight::begin();
    }
    let outcome = pass(ctx, hook, active);
    if active.uses(Features::SIGHT) {
        let (reason, kind) = match outcome {
            Ok(reason) => (reason, Kind::Pass),
            Err(reason) => (reason, Kind::Drop),
        };
        sight::end(ctx, hook, active, reason, kind);
    }
    outcome
}

/// What becomes of a copy for a sensor that leaves; `None` for any other packet. The encapsulating program has made sure
/// that it goes to a configured sensor by that one's interface. It may have come here in the middle of what another program
/// does with the packet that it is a copy of: the work space is not free.
#[inline(always)]
pub(crate) fn pass_copy(ctx: &TcContext) -> Option<Result<Reason, Reason>> {
    if hook::mark(ctx) != ENCAPSULATED_MARK {
        return None;
    }
    let is_committed = maps::ACTIVE.get(0).is_some_and(|active| active.epoch() != 0);
    Some(if is_committed { Ok(Reason::MirrorCopy) } else { Err(Reason::NotCommitted) })
}

/// Takes a packet through the stages under the rules in force.
#[inline(always)]
fn pass(ctx: &TcContext, hook: Hook, active: Active) -> Result<Reason, Reason> {
    if hook == Hook::Egress && reject::is_answer(ctx) {
        return Ok(Reason::Answer);
    }
    if !vlan::is_untagged(ctx) {
        return vlan::pass(ctx);
    }
    let here = zone::of_interface(hook::ifindex(ctx), active).ok_or(Reason::UnknownInterface)?;
    let work = maps::WORK.get_ptr_mut(0).ok_or(Reason::WorkSpace)?;
    // SAFETY: the slot belongs to this CPU and no other reference to it exists. Its fields are plain
    // integers and enums for which zero, the map's initial content, is a value.
    let work = unsafe { &mut *work };
    let parsed = match parse::parse(ctx, work) {
        Ok(Parsed::Arp) => return Ok(Reason::Arp),
        Ok(Parsed::NeighbourDiscovery) => return Ok(Reason::NeighbourDiscovery),
        Ok(parsed) => parsed,
        Err(Reason::EtherType) => return ether::pass(ctx, here, active),
        Err(reason) => return Err(reason),
    };
    if active.uses(Features::SIGHT) {
        work.sight.parsed(&work.meta);
    }
    let place = track::Place { hook, here, active };
    if parsed == Parsed::IcmpError {
        related::read(ctx, work)?;
        let way = related::pass(ctx, work, &place)?;
        // As it is inside, like all packets of its flow.
        if hook == Hook::Egress {
            mirror::copy(ctx, &place, &work.related);
            nat::translate_error(ctx, work)?;
        } else {
            nat::translate_error(ctx, work)?;
            mirror::copy(ctx, &place, &work.related);
        }
        return Ok(way);
    }
    if parsed == Parsed::LaterFragment {
        return fragment::follow(ctx, work, &place);
    }
    let outcome = judge_ip(ctx, work, &place);
    if parsed == Parsed::FirstFragment {
        fragment::remember(ctx, work, &place, outcome);
    }
    outcome
}

/// Takes a packet with a transport header through the stages.
#[inline(always)]
fn judge_ip(ctx: &TcContext, work: &mut Work, place: &track::Place) -> Result<Reason, Reason> {
    let passage = track::pass(ctx, work, place)?;
    if place.active.uses(Features::THROTTLE) && track::is_counted(ctx, place.hook) {
        throttle::check(work, hook::segments(ctx))?;
    }
    if place.active.uses(Features::CLAMP_MSS) && work.meta.tcp_flags & tcp_flags::SYN != 0 {
        clamp::clamp(ctx, work, place, &passage)?;
    }
    let reason = act::act(ctx, work, place, &passage)?;
    // Before another source is given to it: sensors see all packets of a flow as the gateway does inside.
    mirror::copy(ctx, place, &passage);
    if passage.leaves_changed {
        nat::leave(ctx, work, place, passage.direction, passage.now)?;
    }
    Ok(reason)
}
