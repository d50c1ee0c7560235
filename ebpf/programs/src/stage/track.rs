//! The flow tables: established flows pass by one lookup, others are judged and remembered.

mod idle;
pub(crate) mod lookup;
pub(crate) mod remember;
mod segment;
pub(crate) mod table;

use aya_ebpf::{helpers::generated::bpf_ktime_get_coarse_ns, programs::TcContext};
use nightgate_abi::{
    Active, Facts, Features, Flow, Reason, ZoneId,
    flow::{Direction, Phase},
    intercept,
    nat::{Translation, translated},
};
use nightgate_packet::{PacketMeta, tcp_flags};

use crate::{
    hook::{self, Hook},
    stage::{
        Work,
        judge::{self, Age, Origin},
        limit, nat, report,
        sight::Due,
    },
};
use lookup::{Entry, Found};

/// Where and under which rules a packet is judged.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) hook: Hook,
    /// Zone of the interface.
    pub(crate) here: ZoneId,
    pub(crate) active: Active,
}

/// How a packet passes: its flow, and its direction in it.
pub(crate) struct Passage {
    pub(crate) direction: Direction,
    /// Zone the flow's originator reaches.
    pub(crate) to: ZoneId,
    /// Zone the flow's originator is in.
    pub(crate) from: ZoneId,
    /// Interface the flow came in by; 0 for the gateway itself.
    pub(crate) origin_ifindex: u32,
    /// Mirror session; 0 for none.
    pub(crate) mirror_session: u16,
    /// [`Flow::mirror_hash`].
    pub(crate) mirror_hash: u16,
    /// Bytes of the flow before, or with, the packet.
    pub(crate) bytes: u64,
    /// [`Flow::service`].
    pub(crate) service: u32,
    /// Whether the gateway itself opened the flow, for a service that it hosts.
    pub(crate) is_hosted: bool,
    /// Whether it leaves with another address than it has inside, which [`nat::leave`] gives it.
    pub(crate) leaves_changed: bool,
    /// When it was seen: nanoseconds since boot (`CLOCK_MONOTONIC`).
    pub(crate) now: u64,
}

impl Passage {
    /// How a packet of a flow passes.
    #[inline(always)]
    pub(crate) fn of(flow: &Flow, direction: Direction) -> Self {
        Self {
            direction,
            from: flow.from,
            to: flow.to,
            origin_ifindex: flow.origin_ifindex,
            mirror_session: flow.mirror_session.into(),
            mirror_hash: flow.mirror_hash,
            bytes: flow.bytes[0].wrapping_add(flow.bytes[1]),
            service: flow.service,
            is_hosted: flow.hosted != 0,
            leaves_changed: false,
            now: 0,
        }
    }
}

/// Accepts a packet by its flow, or by the rules.
///
/// # Errors
/// The reason it is refused.
#[inline(always)]
pub(crate) fn pass(ctx: &TcContext, work: &mut Work, place: &Place) -> Result<Passage, Reason> {
    let sender;
    (work.key, sender) = work.meta.flow_key();
    // SAFETY: reads the clock.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    if work.meta.tcp_flags & tcp_flags::SYN != 0 {
        work.scale = segment::window_scale(ctx, &work.meta);
    }
    let origin = match lookup::find(ctx, work, place, sender, now)? {
        Found::Current(entry) => return go_on(ctx, work, place, &entry, now),
        Found::Stale(slot, origin) => {
            // SAFETY: the slot stays mapped while the program runs.
            (work.subject.facts, work.hosted) = unsafe { ((*slot).facts, (*slot).hosted) };
            if is_counted(ctx, place.hook) {
                segment::follow_stale(work, slot, origin.direction)?;
            }
            origin
        }
        Found::Nothing => {
            idle::check_pickup(place.active, &work.meta)?;
            work.subject.facts = facts(&work.meta, place.hook);
            work.nat.translation = Translation::default();
            work.nat.origin = sender;
            if place.active.uses(Features::NAT) {
                nat::redirect(work, place, now)?;
            }
            let end = work.nat.origin;
            let ifindex = match place.hook {
                Hook::Ingress => hook::ifindex(ctx),
                Hook::Egress => hook::ingress_ifindex(ctx),
            };
            work.hosted = if ifindex == 0 {
                intercept::hosted_number(intercept::HOSTED_MARK, hook::mark(ctx))
            } else {
                0
            };
            let (direction, age) = (Direction::Original, Age::New);
            Origin { end, ifindex, direction, age, may_intercept: true }
        }
    };
    match judge::judge(ctx, work, place, &origin) {
        Ok(judgement) => {
            // Of a known flow, the interface it began at was judged, not the one at hand.
            let zones = [judgement.from, judgement.to];
            if expected_zone(zones, origin.direction, place.hook) != place.here {
                return Err(Reason::ZoneMismatch);
            }
            if origin.age != Age::New
                && work.nat.translation.flags & (translated::ORIGINATOR | translated::RESPONDER)
                    != 0
            {
                nat::recount(ctx, work, place, origin.direction, now)?;
            }
            remember::remember(ctx, work, now)?;
            let mirror_hash = work.flow.mirror_hash;
            let bytes = work.flow.bytes[0].wrapping_add(work.flow.bytes[1]);
            let flags = work.nat.translation.flags;
            let is_new = origin.age == Age::New && place.hook == Hook::Ingress;
            if is_new && flags & translated::RESPONDER != 0 {
                nat::admit(ctx, work, place, now)?;
            }
            Ok(Passage {
                direction: origin.direction,
                from: judgement.from,
                to: judgement.to,
                origin_ifindex: origin.ifindex,
                mirror_session: judgement.mirror_session,
                mirror_hash,
                bytes,
                service: judgement.intercept.service,
                is_hosted: work.hosted != 0,
                leaves_changed: place.hook == Hook::Egress && flags != 0,
                now,
            })
        }
        Err(reason) => {
            if let Age::Known(table) = origin.age {
                table.forget(&work.key);
            }
            if reason == Reason::Rejected && work.nat.translation.flags != 0 {
                nat::undo(ctx, work, place, &origin)?;
            }
            Err(reason)
        }
    }
}

/// What rules ask of a packet that opens a flow. Its source MAC address says something only where it came in.
#[inline(always)]
fn facts(meta: &PacketMeta, hook: Hook) -> Facts {
    let source_mac = match hook {
        Hook::Ingress => meta.source_mac,
        Hook::Egress => [0; 6],
    };
    Facts::new(source_mac, meta.tcp_flags, meta.dscp)
}

/// Lets a packet of a flow that has been judged pass.
#[inline(always)]
fn go_on(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    entry: &Entry,
    now: u64,
) -> Result<Passage, Reason> {
    // SAFETY: the slot stays mapped while the program runs. Another CPU may give it to another flow; what is
    // read is then of that flow, which has been accepted as well.
    let flow = unsafe { &*entry.slot };
    if expected_zone([flow.from, flow.to], entry.direction, place.hook) != place.here {
        return Err(Reason::ZoneMismatch);
    }
    if place.active.uses(Features::SIGHT) {
        work.sight.between(flow.from, flow.to);
        work.sight.decided(flow.rule, Due::Nothing);
    }
    if is_counted(ctx, place.hook) {
        report::count_rules(ctx, place.active, flow, now);
        let may_close = place.active.uses(Features::LIMITS) && flow.phase() != Phase::Closed;
        remember::touch(ctx, work, place, entry, now)?;
        // SAFETY: as above; read anew, for it has been changed.
        let flow = unsafe { &*entry.slot };
        if may_close && flow.phase() == Phase::Closed {
            limit::release(place.active, &work.key, flow);
        }
    }
    let leaves_changed =
        place.hook == Hook::Egress && nat::leaves_changed(&flow.translation, entry.direction);
    Ok(Passage { leaves_changed, now, ..Passage::of(flow, entry.direction) })
}

/// The zone of the interface that a packet of the flow has to be on. None for `local` and `overlay`: what
/// claims to come from there and comes in by an interface is forged.
#[inline(always)]
pub(crate) fn expected_zone([from, to]: [ZoneId; 2], direction: Direction, hook: Hook) -> ZoneId {
    match (hook, direction) {
        (Hook::Ingress, Direction::Original) | (Hook::Egress, Direction::Reply) => from,
        (Hook::Ingress, Direction::Reply) | (Hook::Egress, Direction::Original) => to,
    }
}

/// Whether the packet is counted here: once on its way through, where it is first seen.
#[inline(always)]
pub(crate) fn is_counted(ctx: &TcContext, hook: Hook) -> bool {
    match hook {
        Hook::Ingress => true,
        Hook::Egress => hook::ingress_ifindex(ctx) == 0,
    }
}

/// The index of a direction, masked where the verifier can see it: the compiler, which knows the range, would
/// drop an ordinary mask, and the verifier, which does not, would then refuse the program.
#[inline(always)]
pub(crate) fn index(direction: Direction) -> usize {
    let mut index = direction as u64;
    // SAFETY: changes one register.
    unsafe { core::arch::asm!("{index} &= 1", index = inout(reg) index, options(nomem, nostack)) };
    index as usize
}
