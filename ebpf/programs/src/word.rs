//! Words that several CPUs change.

use core::arch::asm;

/// Attempts at a word that other CPUs change at the same time.
const ATTEMPTS: u32 = 4;

/// Replaces a word that other CPUs replace as well, unless there is nothing to replace it by. Says whether it was.
///
/// # Safety
/// The pointer is valid and aligned.
#[inline(always)]
pub(crate) unsafe fn change(word: *mut u64, next: impl Fn(u64) -> Option<u64>) -> bool {
    for _ in 0..ATTEMPTS {
        // SAFETY: the caller's promise.
        let old = unsafe { word.read_volatile() };
        let Some(new) = next(old) else {
            return false;
        };
        // SAFETY: the caller's promise.
        if unsafe { compare_and_swap(word, old, new) } == old {
            return true;
        }
    }
    false
}

/// Writes a word if it is still the old one, and returns what it was. The target has no compare-and-swap in the
/// compiler's eyes (the instruction: Linux 5.12).
///
/// # Safety
/// The pointer is valid and aligned.
#[inline(always)]
unsafe fn compare_and_swap(word: *mut u64, old: u64, new: u64) -> u64 {
    let found;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inout("r0") old => found,
            options(nostack),
        );
    }
    found
}

/// Adds to a word to which other CPUs add as well, and returns what it was.
///
/// # Safety
/// The pointer is valid and aligned.
#[inline(always)]
pub(crate) unsafe fn add(word: *mut u64, value: u64) -> u64 {
    let mut before = value;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "{before} = atomic_fetch_add((u64 *)({word} + 0), {before})",
            word = in(reg) word,
            before = inout(reg) before,
            options(nostack),
        );
    }
    before
}
