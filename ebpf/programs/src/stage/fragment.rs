//! Fragments: the first one of a packet is judged as if it were whole, and the later ones go its way.

use aya_ebpf::{
    bindings::__sk_buff, helpers::generated::bpf_ktime_get_coarse_ns, programs::TcContext,
};
use nightgate_abi::{
    Active, Address, Family, Features, Flow, FlowKey, INTERCEPT_MARK, Reason, Sender, ZoneId,
    flow::{Direction, End},
    nat::translated,
};
use nightgate_packet::{Frame as _, PacketMeta, connection, protocol, rewrite::Side, tcp_flags};

use crate::{
    frame::TcFrame,
    hook::Hook,
    maps,
    stage::{
        Work, act, lend, mirror, nat, report,
        sight::Due,
        track::{self, Passage, Place, remember, table},
    },
};

/// Key of what is known of a packet that comes in fragments. Each hook has its own: what comes in whole may leave in
/// fragments, and under other addresses.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PacketKey {
    source: Address,
    destination: Address,
    identification: u32,
    /// Zero for IPv6, whose receivers do not look at it (RFC 8200 section 4.5).
    protocol: u8,
    hook: u8,
    pad: [u8; 2],
}

/// What is known of such a packet by its first fragment.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Known {
    /// Nanoseconds since boot of the first fragment.
    seen: u64,
    /// Key of its flow; nothing if it was refused.
    flow: FlowKey,
    /// What has become of the address that the hook translates.
    address: Address,
    /// Epoch that it was judged in.
    epoch: u32,
    /// Why it passed, or was refused.
    reason: Reason,
    /// TCP sequence number behind what precedes the packet's data, if the header were data.
    sequence: u32,
    /// Where the first fragment's data ends in the packet's.
    end: u16,
    /// Zone of the interface it was on.
    zone: ZoneId,
    pad: [u8; 3],
    /// End of the flow's key that sent it.
    sender: End,
    verdict: Verdict,
}

/// What became of a first fragment.
#[repr(u8)]
#[derive(Clone, Copy, Eq, PartialEq)]
enum Verdict {
    Passed = 0,
    Refused = 1,
}

/// What this stage needs of [`Work`]: the arguments and results of its global functions.
pub(crate) struct FragmentWork {
    /// Set by `parse`, but for the hook, from the packet as it was then.
    key: PacketKey,
    /// Of the packet at hand.
    known: Known,
    active: Active,
}

/// Seconds for which later fragments are waited for: as long as receivers wait (RFC 8200 section 4.5, RFC 1122 section
/// 3.3.2).
const PATIENCE: u64 = 60;

/// What the global functions here return: all is done, and the packet passes.
const PASSED: u32 = 0;
/// What they return: the packet is refused.
const REFUSED: u32 = 1;
/// What they return: there is no work space.
const NO_WORK: u32 = 2;

impl FragmentWork {
    /// Takes over which packet a fragment is of, before its addresses are changed.
    #[inline(always)]
    pub(crate) fn parsed(&mut self, meta: &PacketMeta) {
        let key = &mut self.key;
        key.source = meta.source;
        key.destination = meta.destination;
        key.identification = meta.fragment.identification;
        key.protocol = match meta.family {
            Family::V4 => meta.protocol,
            Family::V6 => 0,
        };
    }

    #[inline(always)]
    fn enter(&mut self, place: &Place) {
        self.key.hook = place.hook.number();
        self.known.zone = place.here;
        self.active = place.active;
    }

    /// Where the packet at hand is judged.
    #[inline(always)]
    fn place(&self) -> Place {
        let hook =
            if self.key.hook == Hook::Ingress.number() { Hook::Ingress } else { Hook::Egress };
        Place { hook, here: self.known.zone, active: self.active }
    }
}

/// Remembers what has become of a first fragment, after all stages, so that the later ones follow it.
#[inline(always)]
pub(crate) fn remember(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    outcome: Result<Reason, Reason>,
) {
    work.fragment.enter(place);
    let known = &mut work.fragment.known;
    (known.reason, known.verdict) = match outcome {
        Ok(reason) => (reason, Verdict::Passed),
        Err(reason) => (reason, Verdict::Refused),
    };
    lend(work);
    nightgate_fragment_first(ctx.skb.skb);
}

/// Does it. A global function, as `nightgate_parse` is.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_fragment_first(skb: *mut __sk_buff) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else {
        return NO_WORK;
    };
    // SAFETY: the slot belongs to this CPU; `remember` has lent its reference to it.
    let work = unsafe { &mut *work };
    let address = translated_address(&TcContext::new(skb), work);
    let known = &mut work.fragment.known;
    // SAFETY: reads the clock.
    known.seen = unsafe { bpf_ktime_get_coarse_ns() };
    known.epoch = work.fragment.active.epoch();
    known.end = work.meta.fragment.length;
    known.sequence = sequence(&work.meta);
    known.flow = work.key;
    (_, known.sender) = work.meta.flow_key();
    known.address = address;
    let (key, known) = (&work.fragment.key, &work.fragment.known);
    // A packet without an entry is refused just as well.
    let _full = match known.verdict {
        Verdict::Passed => {
            let _none_before = maps::FRAGMENTED_REFUSED.remove(key);
            maps::FRAGMENTED.insert(key, known, 0)
        }
        Verdict::Refused => {
            let _none_before = maps::FRAGMENTED.remove(key);
            maps::FRAGMENTED_REFUSED.insert(key, known, 0)
        }
    };
    PASSED
}

/// The TCP sequence number of the first byte of a packet's data, counted from the header's on, such that the number
/// behind a later fragment is that much more. SYN and FIN take one number each.
#[inline(always)]
fn sequence(meta: &PacketMeta) -> u32 {
    let flags = meta.tcp_flags & (tcp_flags::SYN | tcp_flags::FIN) != 0;
    let before = u32::from(meta.segment.header_length);
    meta.segment.sequence.wrapping_add(flags.into()).wrapping_sub(before)
}

/// The address that a hook may have translated: where the packet goes after it came in, whom it comes from when it
/// leaves.
#[inline(always)]
fn translated_address(ctx: &TcContext, work: &Work) -> Address {
    let network = usize::from(work.meta.network);
    let frame = TcFrame(ctx);
    let is_egress = work.fragment.key.hook == Hook::Egress.number();
    let address = match work.meta.family {
        Family::V4 => frame.read(network + if is_egress { 12 } else { 16 }).map(Address::from_v4),
        Family::V6 => frame.read(network + if is_egress { 8 } else { 24 }).map(Address::from_v6),
    };
    address.unwrap_or(Address::UNSPECIFIED)
}

/// Lets a later fragment go the way of the first one.
///
/// # Errors
/// That was refused, or is not known; or the fragment cannot be of the same packet.
#[inline(always)]
pub(crate) fn follow(ctx: &TcContext, work: &mut Work, place: &Place) -> Result<Reason, Reason> {
    work.fragment.enter(place);
    lend(work);
    match nightgate_fragment_later(ctx.skb.skb) {
        PASSED => Ok(work.fragment.known.reason),
        REFUSED => Err(work.fragment.known.reason),
        _ => Err(Reason::WorkSpace),
    }
}

/// Does it. A global function, as `nightgate_parse` is.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_fragment_later(skb: *mut __sk_buff) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else {
        return NO_WORK;
    };
    // SAFETY: the slot belongs to this CPU; `follow` has lent its reference to it.
    let work = unsafe { &mut *work };
    let outcome = go_on(&TcContext::new(skb), work);
    let (Ok(reason) | Err(reason)) = outcome;
    work.fragment.known.reason = reason;
    if outcome.is_ok() { PASSED } else { REFUSED }
}

#[inline(always)]
fn go_on(ctx: &TcContext, work: &mut Work) -> Result<Reason, Reason> {
    let place = work.fragment.place();
    // SAFETY: reads the clock.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    recall(work, &place, now)?;
    if work.fragment.known.verdict == Verdict::Refused {
        return Err(work.fragment.known.reason);
    }
    let (slot, _) = table::find(&work.fragment.known.flow).ok_or(Reason::FragmentUnknown)?;
    // SAFETY: the slot stays mapped while the program runs. Another CPU may give it to another flow; what is read is
    // then of that flow, which has been accepted as well.
    let flow = unsafe { &*slot };
    if flow.is_alias() || flow.epoch != place.active.epoch() {
        return Err(Reason::FragmentUnknown);
    }
    let direction = flow.direction_of(work.fragment.known.sender);
    if place.active.uses(Features::SIGHT) {
        work.sight.between(flow.from, flow.to);
        work.sight.decided(flow.rule, Due::Nothing);
    }
    if track::is_counted(ctx, place.hook) {
        report::count_rules(ctx, place.active, flow, now);
        remember::count_beside(ctx, slot, direction);
        if work.meta.protocol == protocol::TCP {
            extend(work, slot, direction);
        }
    }
    if place.hook == Hook::Egress {
        mirror::copy(ctx, &place, &Passage::of(flow, direction));
    }
    translate(ctx, work, flow, direction, now)?;
    let passage = Passage::of(flow, direction);
    if work.fragment.known.reason == Reason::Intercepted {
        ctx.set_mark(INTERCEPT_MARK);
    }
    act::deliver_to_transparent(ctx, work.fragment.known.reason, &passage);
    if place.hook == Hook::Ingress {
        mirror::copy(ctx, &place, &passage);
    }
    Ok(work.fragment.known.reason)
}

/// Finds out what is known of the packet, if the fragment at hand can follow that.
///
/// # Errors
/// It cannot.
#[inline(always)]
fn recall(work: &mut Work, place: &Place, now: u64) -> Result<(), Reason> {
    const SECOND: u64 = 1_000_000_000;
    let key = &work.fragment.key;
    let slot = match maps::FRAGMENTED.get_ptr_mut(key) {
        Some(slot) => slot,
        None => maps::FRAGMENTED_REFUSED.get_ptr_mut(key).ok_or(Reason::FragmentUnknown)?,
    };
    // SAFETY: the slot stays mapped while the program runs, and holds what this stage has written.
    let known = unsafe { &mut *slot };
    let is_late = now.saturating_sub(known.seen) >= PATIENCE * SECOND;
    if is_late || known.epoch != place.active.epoch() {
        return Err(Reason::FragmentUnknown);
    }
    if known.zone != place.here {
        return Err(Reason::ZoneMismatch);
    }
    if work.meta.fragment.offset < known.end {
        // RFC 5722 section 4: those to come as well.
        (known.reason, known.verdict) = (Reason::FragmentOverlap, Verdict::Refused);
    }
    work.fragment.known = *known;
    Ok(())
}

/// Follows a TCP segment to the end of the fragment at hand.
#[inline(always)]
fn extend(work: &Work, slot: *mut Flow, direction: Direction) {
    let fragment = &work.meta.fragment;
    let end = u32::from(fragment.offset) + u32::from(fragment.length);
    // SAFETY: the slot stays mapped while the program runs. Of its numbers, any CPU's reading will do; the index is 0
    // or 1, and the array has two elements.
    let sender =
        unsafe { &mut *(&raw mut (*slot).senders).cast::<Sender>().add(track::index(direction)) };
    connection::extend(work.fragment.known.sequence.wrapping_add(end), sender);
}

/// Gives the fragment at hand the address that the first one got.
#[inline(always)]
fn translate(
    ctx: &TcContext,
    work: &mut Work,
    flow: &Flow,
    direction: Direction,
    now: u64,
) -> Result<(), Reason> {
    let Place { hook, active, .. } = work.fragment.place();
    let (flag, guise) = match (hook, direction) {
        (Hook::Egress, Direction::Original) | (Hook::Ingress, Direction::Reply) => {
            (translated::ORIGINATOR, &flow.translation.guises[0])
        }
        (Hook::Egress, Direction::Reply) | (Hook::Ingress, Direction::Original) => {
            (translated::RESPONDER, &flow.translation.guises[1])
        }
    };
    if flow.translation.flags & flag == 0 {
        return Ok(());
    }
    nat::count(ctx, active, guise.counter, now);
    let (side, old) = match hook {
        Hook::Ingress => (Side::Destination, work.meta.destination),
        Hook::Egress => (Side::Source, work.meta.source),
    };
    let new = work.fragment.known.address;
    if new == old { Ok(()) } else { nat::rewrite(ctx, work, side, [(old, 0), (new, 0)]) }
}
