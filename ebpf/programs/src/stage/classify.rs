//! The first matching rule.

use aya_ebpf::btf_maps::Array;
use nightgate_abi::{
    Active, Group, Reason, Slot,
    forest::{Key, Progress, Walk},
    rule::Subject,
};

use crate::{
    maps,
    stage::{
        Work, lend,
        repeat::{Turn, repeat},
    },
};

/// Where a search stands. It is in the work space for the sake of the stack.
pub(crate) struct Position {
    key: Key,
    walk: Walk,
}

/// A search for the first matching rule.
struct Search<'a> {
    bank: &'a Array<Slot, 1, { maps::OF_ANY_SIZE }>,
    subject: &'a Subject,
    position: &'a mut Position,
}

/// More steps than any bank has slots: what ends a walk is the walk.
const STEPS: u32 = 1 << 20;

/// What [`nightgate_classify`] returns: there is no bank.
const NO_BANK: u32 = 1;

/// Looks for the first rule of a group that matches [`Work::subject`], in the bank in force.
///
/// # Errors
/// There is no bank.
#[inline(always)]
pub(crate) fn classify(work: &mut Work, group: Group, active: Active) -> Result<Walk, Reason> {
    lend(work);
    if nightgate_classify(active.bank(), group.header()) == NO_BANK {
        return Err(Reason::BankMissing);
    }
    Ok(work.position.walk)
}

/// Walks through the trees whose header is at an index of a bank. A global function in the object, which the
/// verifier looks at once by itself and not again from every place that calls it (Linux 5.6); so it takes and
/// returns numbers, and finds the rest by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_classify(bank: u32, header: u32) -> u32 {
    let (Some(bank), Some(work)) = (maps::BANKS.get(bank), maps::WORK.get_ptr_mut(0)) else {
        return NO_BANK;
    };
    // SAFETY: the slot belongs to this CPU; `classify` has lent its reference to it.
    let Work { subject, position, .. } = unsafe { &mut *work };
    position.key = subject.key();
    position.walk = Walk::at(header);
    let mut search = Search { bank, subject, position };
    repeat(STEPS, step, &mut search);
    0
}

/// Takes one step of the walk.
extern "C" fn step(_index: u64, search: &mut Search<'_>) -> Turn {
    let Position { key, walk } = search.position;
    match walk.step(search.bank.get(walk.wants()), key, search.subject) {
        Progress::Goes => Turn::Continue,
        Progress::Over => Turn::Break,
    }
}
