//! The flow table: established flows pass by one lookup, others are judged and remembered.

use aya_ebpf::{helpers::generated::bpf_ktime_get_coarse_ns, programs::TcContext};
use nightgate_abi::{
    Active, Flow, Reason, ZoneId,
    flow::{End, state},
    limits,
};
use nightgate_packet::{PacketMeta, protocol, tcp_flags};

use crate::{
    hook::{self, Hook},
    maps,
    stage::{
        Work,
        judge::{self, Age, Judgement, Origin},
        report,
    },
};

/// Where and under which rules a packet is judged.
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
}

/// Direction of a packet in its flow: the index of [`Flow::packets`].
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Direction {
    /// From the originator.
    Original = 0,
    /// Back to it.
    Reply = 1,
}

impl Direction {
    /// The index, masked where the verifier can see it: the compiler, which knows the range, would drop an
    /// ordinary mask, and the verifier, which does not, would then refuse the program.
    #[inline(always)]
    fn index(self) -> usize {
        let mut index = self as u64;
        // SAFETY: changes one register.
        unsafe {
            core::arch::asm!("{index} &= 1", index = inout(reg) index, options(nomem, nostack))
        };
        index as usize
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
    let origin = match find(ctx, work, place, sender, now) {
        Found::Current(slot, direction) => {
            // SAFETY: the slot stays mapped while the program runs. Another CPU may give it to another flow;
            // what is read is then of that flow, which has been accepted as well.
            let flow = unsafe { &*slot };
            if expected_zone(flow, direction, place.hook) != place.here {
                return Err(Reason::ZoneMismatch);
            }
            if is_counted(ctx, place.hook) {
                report::count_rule(ctx, place.active, flow.rule);
                touch(ctx, slot, direction, tcp_state(&work.meta, direction), now);
            }
            return Ok(Passage {
                direction,
                from: flow.from,
                to: flow.to,
                origin_ifindex: flow.origin_ifindex,
                mirror_session: flow.mirror_session,
            });
        }
        Found::Stale(origin) => origin,
        Found::Nothing => Origin {
            end: sender,
            ifindex: match place.hook {
                Hook::Ingress => hook::ifindex(ctx),
                Hook::Egress => hook::ingress_ifindex(ctx),
            },
            direction: Direction::Original,
            age: Age::New,
        },
    };
    match judge::judge(ctx, work, place, &origin) {
        Ok(judgement) => {
            remember(ctx, work, &Accepted { place, origin: &origin, judgement: &judgement, now })?;
            Ok(Passage {
                direction: origin.direction,
                from: judgement.from,
                to: judgement.to,
                origin_ifindex: origin.ifindex,
                mirror_session: judgement.intercept.mirror_session,
            })
        }
        Err(reason) => {
            if origin.age == Age::Known {
                // A flow that another CPU has just forgotten is as good.
                let _already_gone = maps::FLOWS.remove(&work.key);
            }
            Err(reason)
        }
    }
}

/// What the flow table knows of a packet.
enum Found {
    /// A flow of the epoch in force.
    Current(*mut Flow, Direction),
    /// A flow that has to be judged again: the rules changed, or its route.
    Stale(Origin),
    /// No flow, or one that has ended.
    Nothing,
}

#[inline(always)]
fn find(ctx: &TcContext, work: &Work, place: &Place, sender: End, now: u64) -> Found {
    let Some(slot) = maps::FLOWS.get_ptr_mut(&work.key) else {
        return Found::Nothing;
    };
    // SAFETY: the slot stays mapped while the program runs.
    let flow = unsafe { &*slot };
    if is_over(flow, &work.meta, now) {
        return Found::Nothing;
    }
    let (direction, end) = match (flow.origin == End::Low as u8, sender) {
        (true, End::Low) => (Direction::Original, End::Low),
        (true, End::High) => (Direction::Reply, End::Low),
        (false, End::Low) => (Direction::Reply, End::High),
        (false, End::High) => (Direction::Original, End::High),
    };
    let is_rerouted =
        place.hook == Hook::Egress && direction == Direction::Original && flow.to != place.here;
    let is_current = flow.epoch == place.active.epoch() && !is_rerouted;
    if is_current || is_own_reset(ctx, work, place, direction) {
        return Found::Current(slot, direction);
    }
    Found::Stale(Origin { end, ifindex: flow.origin_ifindex, direction, age: Age::Known })
}

/// An accepted flow that is about to be remembered.
struct Accepted<'a> {
    place: &'a Place,
    origin: &'a Origin,
    judgement: &'a Judgement,
    now: u64,
}

/// Writes a flow with a new judgement. The whole value is replaced at once, so that no other CPU sees the
/// new epoch with the old zones. A function of its own in the object for the sake of the stack.
#[inline(never)]
fn remember(ctx: &TcContext, work: &mut Work, accepted: &Accepted<'_>) -> Result<(), Reason> {
    let Accepted { place, origin, judgement, now } = *accepted;
    let flow = &mut work.flow;
    let known = match origin.age {
        Age::Known => maps::FLOWS.get_ptr(&work.key),
        Age::New => None,
    };
    match known {
        // SAFETY: the slot stays mapped while the program runs; what it counts is copied.
        Some(slot) => *flow = unsafe { *slot },
        None => *flow = Flow { first_seen: now, ..Flow::default() },
    }
    flow.last_seen = now;
    flow.epoch = place.active.epoch();
    flow.origin_ifindex = origin.ifindex;
    flow.origin = origin.end as u8;
    flow.service = judgement.intercept.service;
    flow.mirror_session = judgement.intercept.mirror_session;
    flow.rule = judgement.rule;
    flow.from = judgement.from;
    flow.to = judgement.to;
    flow.state |= tcp_state(&work.meta, origin.direction);
    if is_counted(ctx, place.hook) {
        // SAFETY: the flow is in this CPU's work space.
        unsafe { count(flow, origin.direction, ctx.len(), |word, value| *word += value) };
        report::count_rule(ctx, place.active, flow.rule);
    }
    maps::FLOWS.insert(&work.key, &*flow, 0).map_err(|_| Reason::FlowTable)
}

/// Counts a packet of an established flow.
#[inline(always)]
fn touch(ctx: &TcContext, slot: *mut Flow, direction: Direction, state: u8, now: u64) {
    // SAFETY: the slot stays mapped while the program runs. All CPUs add to the counts atomically; of the
    // clock any CPU's reading will do, and a state bit lost to another CPU's write is set again by the next
    // packet that carries it.
    unsafe {
        count(slot, direction, ctx.len(), |word, value| atomic_add(word, value));
        (*slot).last_seen = now;
        if (*slot).state & state != state {
            (*slot).state |= state;
        }
    }
}

/// Adds a packet to the counts of its direction.
///
/// # Safety
/// The flow is valid, and may be changed in the way that `add` does.
#[inline(always)]
unsafe fn count(flow: *mut Flow, direction: Direction, length: u32, add: impl Fn(*mut u64, u64)) {
    let index = direction.index();
    // SAFETY: the index is 0 or 1, and the arrays have two elements.
    unsafe {
        add((&raw mut (*flow).packets).cast::<u64>().add(index), 1);
        add((&raw mut (*flow).bytes).cast::<u64>().add(index), u64::from(length));
    }
}

/// Adds to a word that other CPUs add to as well. The target has no compare-and-swap in the compiler's eyes,
/// so `core::sync::atomic` offers no addition.
///
/// # Safety
/// The pointer is valid and aligned.
#[inline(always)]
unsafe fn atomic_add(word: *mut u64, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({word} + 0) += {value}",
            word = in(reg) word,
            value = in(reg) value,
            options(nostack),
        );
    }
}

/// Whether the flow has ended, so that the packet begins another: it was idle for too long, or a TCP
/// connection closed and is opened anew.
#[inline(always)]
fn is_over(flow: &Flow, meta: &PacketMeta, now: u64) -> bool {
    let idle = match meta.protocol {
        protocol::TCP => limits::TCP_IDLE_NS,
        protocol::UDP => limits::UDP_IDLE_NS,
        _ => limits::OTHER_IDLE_NS,
    };
    let opens = meta.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
    now.saturating_sub(flow.last_seen) > idle || (opens && state::is_closed(flow.state))
}

/// The zone of the interface that a packet of the flow has to be on. None for `local` and `overlay`: what
/// claims to come from there and comes in by an interface is forged.
#[inline(always)]
fn expected_zone(flow: &Flow, direction: Direction, hook: Hook) -> ZoneId {
    match (hook, direction) {
        (Hook::Ingress, Direction::Original) | (Hook::Egress, Direction::Reply) => flow.from,
        (Hook::Ingress, Direction::Reply) | (Hook::Egress, Direction::Original) => flow.to,
    }
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

/// Whether the packet is counted here: once on its way through, where it is first seen.
#[inline(always)]
fn is_counted(ctx: &TcContext, hook: Hook) -> bool {
    match hook {
        Hook::Ingress => true,
        Hook::Egress => hook::ingress_ifindex(ctx) == 0,
    }
}

/// The state bits that a packet sets.
#[inline(always)]
fn tcp_state(meta: &PacketMeta, direction: Direction) -> u8 {
    let (replied, fin) = match direction {
        Direction::Original => (0, state::FIN_ORIGIN),
        Direction::Reply => (state::REPLIED, state::FIN_REPLY),
    };
    let mut bits = replied;
    if meta.tcp_flags & tcp_flags::FIN != 0 {
        bits |= fin;
    }
    if meta.tcp_flags & tcp_flags::RST != 0 {
        bits |= state::RESET;
    }
    bits
}
