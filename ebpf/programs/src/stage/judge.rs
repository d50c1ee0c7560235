//! Judging a flow: its zones, then the rules.

use aya_ebpf::programs::TcContext;
use nightgate_abi::{Intercept, InterceptKey, Reason, ZoneId, flow::End, rule::Subject};
use nightgate_packet::PacketMeta;

use crate::{
    hook::Hook,
    maps,
    stage::{
        Work,
        classify::{self, Verdict},
        report, route,
        track::{Direction, Place},
        zone,
    },
};

/// Where a flow began, and which of its packets occasions the judgement.
pub(crate) struct Origin {
    /// End of the flow's key that sent the first packet.
    pub(crate) end: End,
    /// Interface the first packet came in by; 0 for the gateway itself.
    pub(crate) ifindex: u32,
    /// Direction of the packet at hand.
    pub(crate) direction: Direction,
    /// Whether the flow table knows the flow.
    pub(crate) age: Age,
}

/// Whether a flow is in the table.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Age {
    /// It is not.
    New,
    /// It is, and its counts go on.
    Known,
}

/// An accepted flow.
pub(crate) struct Judgement {
    pub(crate) from: ZoneId,
    pub(crate) to: ZoneId,
    pub(crate) rule: u32,
    /// Zero unless the destination is intercepted.
    pub(crate) intercept: Intercept,
}

/// Judges a flow by a packet of it, seen from its originator's side. A function of its own in the object
/// for the sake of the stack.
///
/// # Errors
/// The reason the flow is refused.
#[inline(never)]
pub(crate) fn judge(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    origin: &Origin,
) -> Result<Judgement, Reason> {
    let subject = &mut work.subject;
    describe(subject, &work.meta, origin.direction);
    subject.from = if origin.ifindex == 0 {
        ZoneId::LOCAL
    } else {
        zone::of_interface(origin.ifindex, place.active).ok_or(Reason::UnknownZone)?
    };
    let intercept = if origin.ifindex == 0 { Intercept::NONE } else { intercept(subject) };
    subject.to = if intercept.service == 0 {
        destination(ctx, subject, place, origin)?
    } else {
        ZoneId::OVERLAY
    };
    match classify::classify(subject, &mut work.words, place.active)? {
        Verdict::Accept(rule) => {
            Ok(Judgement { from: subject.from, to: subject.to, rule, intercept })
        }
        Verdict::Drop(rule) => {
            report::count_rule(ctx, place.active, rule);
            Err(Reason::Rule)
        }
    }
}

/// Describes what the originator sends, by a packet of either direction.
#[inline(always)]
fn describe(subject: &mut Subject, meta: &PacketMeta, direction: Direction) {
    let (source, destination) =
        ((meta.source, meta.source_port), (meta.destination, meta.destination_port));
    let (source, destination) = match direction {
        Direction::Original => (source, destination),
        Direction::Reply => (destination, source),
    };
    (subject.source, subject.source_port) = source;
    (subject.destination, subject.destination_port) = destination;
    subject.protocol = meta.protocol;
}

/// The intercept that covers a destination.
#[inline(always)]
fn intercept(subject: &Subject) -> Intercept {
    let key = InterceptKey::new(subject.protocol, subject.destination, subject.destination_port);
    // SAFETY: the value is copied at once; userspace replaces whole values only.
    unsafe { maps::INTERCEPTS.get(&key) }.copied().unwrap_or(Intercept::NONE)
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
