//! The first matching rule.

use core::ffi::{c_long, c_void};

use aya_ebpf::helpers::generated::bpf_loop;
use nightgate_abi::{
    Active, Reason, RuleTable,
    limits::RULE_ENTRIES,
    rule::{Subject, action},
};

use crate::maps;

/// What the first matching rule says.
pub(crate) enum Verdict {
    /// The rule with this index accepts.
    Accept(u16),
    /// The rule with this index drops.
    Drop(u16),
}

/// A search for the first matching entry.
struct Search<'a> {
    table: &'a RuleTable,
    subject: &'a Subject,
    /// Index of the matching entry; [`NOTHING`] so far.
    found: u64,
}

/// No entry matches.
const NOTHING: u64 = u64::MAX;
/// What a callback of `bpf_loop` returns to go on.
const CONTINUE: c_long = 0;
/// What a callback of `bpf_loop` returns to stop.
const BREAK: c_long = 1;

/// Finds the first rule of the bank in force that matches.
///
/// # Errors
/// No rule matches, or there is no bank.
#[inline(always)]
pub(crate) fn classify(subject: &Subject, active: Active) -> Result<Verdict, Reason> {
    let table = maps::BANKS.get_value(active.bank(), &0).ok_or(Reason::BankMissing)?;
    let mut search = Search { table, subject, found: NOTHING };
    // SAFETY: the callback has the signature that bpf_loop calls, and gets the pointer given here. A loop in
    // the program itself would be verified anew for every entry (bpf_loop: Linux 5.17).
    unsafe {
        bpf_loop(table.len, examine as *mut c_void, (&raw mut search).cast(), 0);
    }
    let Some(entry) = table.entries.get(search.found as usize) else {
        return Err(Reason::NoRule);
    };
    Ok(match entry.action {
        action::ACCEPT => Verdict::Accept(entry.rule),
        _ => Verdict::Drop(entry.rule),
    })
}

/// Looks at one entry.
extern "C" fn examine(index: u64, search: *mut c_void) -> c_long {
    // SAFETY: the pointer is the search that `classify` gave to bpf_loop, which nothing else uses meanwhile.
    let search = unsafe { &mut *search.cast::<Search<'_>>() };
    if index >= RULE_ENTRIES as u64 {
        return BREAK;
    }
    // SAFETY: the index is below the array's length.
    let entry = unsafe { search.table.entries.get_unchecked(index as usize) };
    if search.subject.matches(entry) {
        search.found = index;
        return BREAK;
    }
    CONTINUE
}
