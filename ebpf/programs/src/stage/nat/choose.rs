//! The source of a flow that leaves for the first time.

use aya_ebpf::{helpers::generated::bpf_get_prandom_u32, programs::TcContext};
use nightgate_abi::{
    Active, Address, Family, Group, Reason,
    flow::{Direction, End},
    nat::{Guise, Ports, kind, translated},
};
use nightgate_packet::PacketMeta;

use super::{reserve, target};
use crate::{
    hook, maps,
    stage::{
        Work, classify, judge,
        repeat::{Turn, repeat},
        track::{lookup::Entry, table::Table},
    },
};

/// Ports that are tried at most, beside the one that the originator has.
const TRIES: u32 = 128;
/// Lowest port that a source may get if no rule says which: below are those of services.
const LOWEST: u16 = 1_024;

/// What a source may become.
pub(crate) struct Choice {
    address: Address,
    /// Counter of the rule that says so.
    counter: u32,
    /// Interface whose address that is; 0 if it is another.
    ifindex: u32,
    /// The lowest port.
    low: u16,
    /// The highest less the lowest.
    span: u16,
    own: Own,
}

/// Whether a source may keep its port.
#[repr(u8)]
#[derive(Clone, Copy, Eq, PartialEq)]
enum Own {
    Refused = 0,
    Allowed = 1,
}

/// What the rules say about a source.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Decision {
    /// It stays.
    Same,
    /// It becomes one of [`Choice`].
    Another,
}

/// Decides whom the flow appears to come from, and reserves that. In [`Work::nat`] and the flow afterwards.
///
/// # Errors
/// A rule wants another source, and there is none.
#[inline(always)]
pub(super) fn choose(
    ctx: &TcContext,
    work: &mut Work,
    active: Active,
    entry: &Entry,
    now: u64,
) -> Result<(), Reason> {
    if decide(ctx, work, active, entry)? == Decision::Another {
        let port = find(work, entry, now).ok_or(Reason::NatExhausted)?;
        let choice = &work.nat.choice;
        work.nat.translation.guises[0] = Guise::new((choice.address, port), choice.counter);
        work.nat.translation.ifindex = choice.ifindex;
        work.nat.translation.flags |= translated::ORIGINATOR;
    }
    work.nat.translation.flags &= !translated::PENDING;
    // Two CPUs with the first packets of one flow may both decide; the last one counts, and answers to the other
    // find the flow as well.
    // SAFETY: the slot stays mapped while the program runs.
    unsafe { (*entry.slot).translation = work.nat.translation };
    Ok(())
}

/// Finds out what the source may become, in [`NatWork::choice`](super::NatWork). A function of its own in the
/// object for the sake of the stack.
#[inline(never)]
fn decide(
    ctx: &TcContext,
    work: &mut Work,
    active: Active,
    entry: &Entry,
) -> Result<Decision, Reason> {
    // SAFETY: the slot stays mapped while the program runs.
    let flow = unsafe { &*entry.slot };
    judge::describe(&mut work.subject, &work.meta, &work.key, Direction::Original);
    (work.subject.from, work.subject.to) = (flow.from, flow.to);
    let group = Group::SourceNat;
    let Some(found) = classify::classify(work, group, active)?.outcome() else {
        return Ok(Decision::Same);
    };
    let target = target(group, found, active)?;
    work.nat.choice.counter = target.counter;
    work.nat.choice.ifindex = 0;
    match target.kind {
        kind::UNCHANGED => return Ok(Decision::Same),
        kind::INTERFACE => {
            work.nat.choice.ifindex = hook::ifindex(ctx);
            work.nat.choice.address = address(ctx, work.meta.family)?;
        }
        _ => work.nat.choice.address = target.address_for(work.meta.source),
    }
    let choice = &mut work.nat.choice;
    (choice.low, choice.span, choice.own) = ports(&target.ports, &work.meta);
    let is_same = choice.address == work.meta.source && choice.own == Own::Allowed;
    Ok(if is_same { Decision::Same } else { Decision::Another })
}

/// The address of the interface at hand.
#[inline(always)]
fn address(ctx: &TcContext, family: Family) -> Result<Address, Reason> {
    // SAFETY: the value is copied at once; userspace replaces whole values only.
    let interface = unsafe { maps::INTERFACES.get(hook::ifindex(ctx)) };
    let interface = interface.ok_or(Reason::UnknownInterface)?;
    let address = match family {
        Family::V4 => interface.addresses[0],
        Family::V6 => interface.addresses[1],
    };
    if address == Address::UNSPECIFIED { Err(Reason::NatNoAddress) } else { Ok(address) }
}

/// The lowest port, the highest less the lowest, and whether the own one may stay.
#[inline(always)]
fn ports(ports: &Ports, meta: &PacketMeta) -> (u16, u16, Own) {
    let own = meta.source_port;
    if *ports != Ports::ANY {
        let is_one = own.wrapping_sub(ports.low) <= ports.span;
        (ports.low, ports.span, if is_one { Own::Allowed } else { Own::Refused })
    } else if own == 0 {
        // A message without an identifier, or of a protocol without ports, has none to give.
        (0, 0, Own::Allowed)
    } else if meta.is_icmp() {
        (1, u16::MAX - 1, Own::Allowed)
    } else {
        (LOWEST, u16::MAX - LOWEST, Own::Allowed)
    }
}

/// A search for a port.
struct Search<'a> {
    work: &'a mut Work,
    table: Table,
    origin: End,
    /// The next port to try, as its place in the range; [`OWN`] for the originator's own.
    next: u32,
    found: Option<u16>,
    now: u64,
}

/// No place in a range: the originator's own port.
const OWN: u32 = u32::MAX;

/// Finds a port and reserves it: the originator's own if it may, else one after the other from a random one on.
#[inline(always)]
fn find(work: &mut Work, entry: &Entry, now: u64) -> Option<u16> {
    // SAFETY: the slot stays mapped while the program runs.
    let origin = unsafe { (*entry.slot).originator() };
    let size = u32::from(work.nat.choice.span) + 1;
    let next = if work.nat.choice.own == Own::Allowed { OWN } else { random(size) };
    let tries = if size == 1 { 1 } else { size.min(TRIES) + 1 };
    let mut search = Search { work, table: entry.table, origin, next, found: None, now };
    repeat(tries, step, &mut search);
    search.found
}

/// Tries a port.
extern "C" fn step(_index: u64, search: &mut Search<'_>) -> Turn {
    let work = &mut *search.work;
    let size = u32::from(work.nat.choice.span) + 1;
    let port = if search.next == OWN {
        search.next = random(size);
        work.meta.source_port
    } else {
        let place = search.next;
        search.next = if place + 1 >= size { 0 } else { place + 1 };
        work.nat.choice.low.wrapping_add(place as u16)
    };
    let replaced;
    (work.nat.alias, replaced) = work.key.with_end(search.origin, (work.nat.choice.address, port));
    work.nat.describe_alias(replaced, (work.meta.source, work.meta.source_port));
    if reserve::reserve(work, search.table, search.now) {
        search.found = Some(port);
        return Turn::Break;
    }
    Turn::Continue
}

/// A random number below another.
#[inline(always)]
fn random(below: u32) -> u32 {
    // SAFETY: reads a random number.
    let number = unsafe { bpf_get_prandom_u32() };
    number % below
}
