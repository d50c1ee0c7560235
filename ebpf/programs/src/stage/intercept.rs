//! Whether a destination is intercepted, and for which service.

use aya_ebpf::btf_maps::Array;
use nightgate_abi::{
    Intercept, InterceptPorts, InterceptRange,
    intercept::{self, Bisection},
};

use crate::{
    maps,
    stage::{
        Work, lend,
        repeat::{Turn, repeat},
    },
};

/// A search for the stretch that an address is in.
struct RangeSearch<'a> {
    ranges: &'a Array<InterceptRange, 1, { maps::OF_ANY_SIZE }>,
    position: [u64; 2],
    bisection: Bisection,
}

/// A search for the stretch that a protocol and port are in.
struct PortSearch<'a> {
    ports: &'a Array<InterceptPorts, 1, { maps::OF_ANY_SIZE }>,
    door: u32,
    bisection: Bisection,
}

/// The intercept that covers the destination of [`Work::subject`].
#[inline(always)]
pub(crate) fn find(work: &mut Work) -> Intercept {
    let is_empty = maps::INTERCEPT_TABLE.get(0).is_none_or(|table| table.ranges == 0);
    if is_empty {
        return Intercept::NONE;
    }
    lend(work);
    nightgate_intercept();
    work.intercept
}

/// What a connection of the gateway's own was hosted for, by its number; 0 for none.
#[inline(always)]
pub(crate) fn hosted(number: u16) -> Intercept {
    if number == 0 {
        return Intercept::NONE;
    }
    // SAFETY: the entry is not changed in place (BPF_F_NO_PREALLOC).
    unsafe { maps::HOSTED.get(u32::from(number)) }.copied().unwrap_or(Intercept::NONE)
}

/// Leaves what covers the destination in [`Work::intercept`]. A global function, as `nightgate_classify` is.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_intercept() -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else { return 0 };
    // SAFETY: the slot belongs to this CPU; `find` has lent its reference to it.
    let work = unsafe { &mut *work };
    work.intercept = Intercept::NONE;
    let Some(table) = maps::INTERCEPT_TABLE.get(0) else { return 0 };
    let (bank, count) = (table.bank & 1, table.ranges);
    let (Some(ranges), Some(ports)) =
        (maps::INTERCEPT_RANGES.get(bank), maps::INTERCEPT_PORTS.get(bank))
    else {
        return 0;
    };
    let position = intercept::position(work.subject.destination);
    let mut search = RangeSearch { ranges, position, bisection: Bisection::among(0, count) };
    repeat(Bisection::STEPS, step_ranges, &mut search);
    let Some(range) = ranges.get(search.bisection.found()) else { return 0 };
    if intercept::is_before(position, range.first) || intercept::is_before(range.last, position) {
        return 0;
    }
    let door = intercept::door(work.subject.protocol, work.subject.destination_port);
    let bisection = Bisection::among(range.ports_from, range.ports);
    let end = range.ports_from.wrapping_add(range.ports);
    let mut search = PortSearch { ports, door, bisection };
    repeat(Bisection::STEPS, step_ports, &mut search);
    let found = search.bisection.found();
    let Some(entry) = ports.get(found) else { return 0 };
    if found < end && entry.first <= door && door <= entry.last {
        work.intercept = entry.value;
    }
    0
}

extern "C" fn step_ranges(_index: u64, search: &mut RangeSearch<'_>) -> Turn {
    let Some(index) = search.bisection.wants() else { return Turn::Break };
    let Some(range) = search.ranges.get(index) else { return Turn::Break };
    search.bisection.narrow(index, intercept::is_before(range.last, search.position));
    Turn::Continue
}

extern "C" fn step_ports(_index: u64, search: &mut PortSearch<'_>) -> Turn {
    let Some(index) = search.bisection.wants() else { return Turn::Break };
    let Some(entry) = search.ports.get(index) else { return Turn::Break };
    search.bisection.narrow(index, entry.last < search.door);
    Turn::Continue
}
