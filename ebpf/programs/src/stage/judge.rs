//! Judging a flow: its zones, then the rules.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use nightgate_abi::{
    Features, FlowKey, Group, Intercept, Reason, ZoneId,
    flow::{Direction, End},
    forest::Match,
    nat::translated,
    rule::{Subject, action},
};
use nightgate_packet::PacketMeta;

use crate::{
    hook::Hook,
    maps,
    stage::{
        Work, classify, intercept, lend, limit, mirror, quarantine, report, route,
        sight::Due,
        track::{Place, table::Table},
        zone,
    },
};

/// Where a flow began, and which of its packets occasions the judgement.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    /// End of the flow's key that sent the first packet.
    pub(crate) end: End,
    /// Interface the first packet came in by; 0 for the gateway itself.
    pub(crate) ifindex: u32,
    /// Direction of the packet at hand.
    pub(crate) direction: Direction,
    /// Whether the flow tables know the flow.
    pub(crate) age: Age,
    /// Whether the flow may be one that is intercepted: new, or intercepted already. What has begun otherwise
    /// goes on as it began, whatever is intercepted since.
    pub(crate) may_intercept: bool,
}

/// Whether a flow is in a table.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Age {
    /// It is not.
    New,
    /// It is in this one, and its counts go on.
    Known(Table),
}

/// An accepted flow.
#[derive(Clone, Copy)]
pub(crate) struct Judgement {
    pub(crate) from: ZoneId,
    pub(crate) to: ZoneId,
    pub(crate) rule: u32,
    /// Zero unless the destination is intercepted, or the gateway itself connects it for a service that it hosts.
    pub(crate) intercept: Intercept,
    /// Mirror session; 0 for none.
    pub(crate) mirror_session: u16,
}

/// Arguments of [`nightgate_judge`], and what comes of it.
pub(crate) struct JudgeWork {
    pub(crate) place: Place,
    pub(crate) origin: Origin,
    pub(crate) judgement: Judgement,
    refused: Reason,
}

/// Judges a flow by a packet of it, seen from its originator's side.
///
/// # Errors
/// The reason the flow is refused.
#[inline(always)]
pub(crate) fn judge(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    origin: &Origin,
) -> Result<Judgement, Reason> {
    (work.judge.place, work.judge.origin) = (*place, *origin);
    lend(work);
    if nightgate_judge(ctx.skb.skb) == 0 {
        Ok(work.judge.judgement)
    } else {
        Err(work.judge.refused)
    }
}

/// Does it. A global function, as `nightgate_classify` is. Returns 0 if the flow is accepted.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_judge(skb: *mut __sk_buff) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: the slot belongs to this CPU; `judge` has lent its reference to it.
    let work = unsafe { &mut *work };
    let JudgeWork { place, origin, .. } = work.judge;
    match decide(&TcContext::new(skb), work, &place, &origin) {
        Ok(judgement) => {
            work.judge.judgement = judgement;
            0
        }
        Err(reason) => {
            work.judge.refused = reason;
            1
        }
    }
}

#[inline(always)]
fn decide(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    origin: &Origin,
) -> Result<Judgement, Reason> {
    let subject = &mut work.subject;
    describe(subject, &work.meta, &work.key, origin.direction);
    if place.active.uses(Features::QUARANTINE) {
        quarantine::check(&[subject.source, subject.destination])?;
    }
    subject.from = if origin.ifindex == 0 {
        ZoneId::LOCAL
    } else {
        zone::of_interface(origin.ifindex, place.active).ok_or(Reason::UnknownZone)?
    };
    let is_redirected = work.nat.translation.flags & translated::RESPONDER != 0;
    let is_own = origin.ifindex == 0;
    let intercept = if is_own {
        intercept::hosted(work.hosted)
    } else if is_redirected || !origin.may_intercept {
        Intercept::NONE
    } else {
        intercept::find(work)
    };
    work.subject.to = if is_own || intercept.service == 0 {
        destination(ctx, &work.subject, place, origin)?
    } else {
        ZoneId::OVERLAY
    };
    work.sight.between(work.subject.from, work.subject.to);
    let walk = classify::classify(work, Group::Filter, place.active)?;
    let counting = walk.counting();
    work.counting = counting.map_or(0, |rule| rule + 1);
    if let Some(found) = walk.outcome() {
        work.sight.decided(found.rule, due(found, origin.age));
    }
    let found = match walk.outcome() {
        Some(found) if found.action() == action::ACCEPT => found,
        refused => {
            for rule in [counting, refused.map(|found| found.rule)].into_iter().flatten() {
                report::count_refusal(ctx, place.active, rule);
            }
            let found = refused.ok_or(Reason::NoRule)?;
            if found.action() == action::DROP {
                return Err(Reason::Rule);
            }
            work.refusal = found.action();
            return Err(Reason::Rejected);
        }
    };
    if found.has_parameters() && origin.age == Age::New {
        limit::admit(place.active, found.rule, &work.subject.source)?;
    }
    let (from, to) = (work.subject.from, work.subject.to);
    let mirror_session = mirror::session(work, place.active, intercept.mirror_session)?;
    Ok(Judgement { from, to, rule: found.rule, intercept, mirror_session })
}

/// What the log has to be told of a packet that a rule decides.
#[inline(always)]
fn due(found: Match, age: Age) -> Due {
    match age {
        _ if !found.is_logged() => Due::Nothing,
        Age::New => Due::Packet,
        Age::Known(_) => Due::Refusal,
    }
}

/// Describes what the originator sends, by a packet of either direction.
#[inline(always)]
pub(crate) fn describe(
    subject: &mut Subject,
    meta: &PacketMeta,
    key: &FlowKey,
    direction: Direction,
) {
    let (source, destination) =
        ((meta.source, meta.source_port), (meta.destination, meta.destination_port));
    let (source, destination) = match direction {
        Direction::Original => (source, destination),
        Direction::Reply => (destination, source),
    };
    (subject.source, subject.source_port) = source;
    (subject.destination, subject.destination_port) = destination;
    subject.protocol = meta.protocol;
    if meta.is_icmp() {
        let message = match direction {
            Direction::Original => [meta.icmp_type, meta.icmp_code],
            Direction::Reply => [key.icmp_type, key.icmp_code],
        };
        (subject.source_port, subject.destination_port) = (0, u16::from_be_bytes(message));
    }
}

/// The zone a flow that is not intercepted goes to: that of the interface at hand if the packet leaves by
/// it, or answers what the gateway itself sent by it; otherwise what the routing table says.
#[inline(always)]
fn destination(
    ctx: &TcContext,
    subject: &Subject,
    place: &Place,
    origin: &Origin,
) -> Result<ZoneId, Reason> {
    let is_by_this_interface = match place.hook {
        Hook::Egress => origin.direction == Direction::Original,
        Hook::Ingress => origin.ifindex == 0,
    };
    if is_by_this_interface {
        Ok(place.here)
    } else {
        route::destination_zone(ctx, subject, origin.ifindex, place.active)
    }
}
