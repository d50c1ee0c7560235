//! The first matching rule.

use core::ffi::{c_long, c_void};

use aya_ebpf::{btf_maps::Array, helpers::generated::bpf_loop};
use nightgate_abi::{
    Active, Reason, Slot,
    forest::{Key, Progress, Walk},
    rule::{Subject, action},
};

use crate::maps;

/// What the first matching rule says.
pub(crate) enum Verdict {
    /// The rule with this index accepts.
    Accept(u32),
    /// The rule with this index drops.
    Drop(u32),
}

/// A search for the first matching rule.
struct Search<'a> {
    bank: &'a Array<Slot, 1, { maps::OF_ANY_SIZE }>,
    key: &'a Key,
    subject: &'a Subject,
    walk: Walk,
}

/// More steps than any bank has slots: what ends a walk is the walk.
const STEPS: u32 = 1 << 20;
/// What a callback of `bpf_loop` returns to go on.
const CONTINUE: c_long = 0;
/// What a callback of `bpf_loop` returns to stop.
const BREAK: c_long = 1;

/// Finds the first rule of the bank in force that matches.
///
/// # Errors
/// No rule matches, or there is no bank.
#[inline(always)]
pub(crate) fn classify(
    subject: &Subject,
    words: &mut Key,
    active: Active,
) -> Result<Verdict, Reason> {
    let bank = maps::BANKS.get(active.bank()).ok_or(Reason::BankMissing)?;
    *words = subject.key();
    let mut search = Search { bank, key: words, subject, walk: Walk::new() };
    // SAFETY: the callback has the signature that bpf_loop calls, and gets the pointer given here. A loop in
    // the program itself would be verified anew for every step (bpf_loop: Linux 5.17).
    unsafe {
        bpf_loop(STEPS, step as *mut c_void, (&raw mut search).cast(), 0);
    }
    match search.walk.outcome() {
        Some((rule, action::ACCEPT)) => Ok(Verdict::Accept(rule)),
        Some((rule, _)) => Ok(Verdict::Drop(rule)),
        None => Err(Reason::NoRule),
    }
}

/// Takes one step of the walk.
extern "C" fn step(_index: u64, search: *mut c_void) -> c_long {
    // SAFETY: the pointer is the search that `classify` gave to bpf_loop, which nothing else uses meanwhile.
    let search = unsafe { &mut *search.cast::<Search<'_>>() };
    let slot = search.bank.get(search.walk.wants());
    match search.walk.step(slot, search.key, search.subject) {
        Progress::Goes => CONTINUE,
        Progress::Over => BREAK,
    }
}
