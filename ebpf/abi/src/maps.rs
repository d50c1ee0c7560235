//! Names of the maps in the kernel object.

use crate::limits;

/// One [`crate::Active`] word.
pub const ACTIVE: &str = "ACTIVE";
/// Two banks, each an array of [`crate::Slot`]s: see [`crate::forest`].
pub const BANKS: &str = "BANKS";
/// [`crate::Interface`] by interface index.
pub const INTERFACES: &str = "INTERFACES";
/// [`crate::Flow`] by [`crate::FlowKey`], least recently used out first.
pub const FLOWS: &str = "FLOWS";
/// [`crate::Intercept`] by [`crate::InterceptKey`].
pub const INTERCEPTS: &str = "INTERCEPTS";
/// [`crate::Listener`] by [`crate::Family`].
pub const LISTENERS: &str = "LISTENERS";
/// Interface index of the device that copies of mirrored packets go to; 0 for none.
pub const MIRROR_DEVICE: &str = "MIRROR_DEVICE";
/// [`crate::Counter`] per CPU by [`crate::Reason`].
pub const REASON_COUNTERS: &str = "REASON_COUNTERS";
/// [`crate::Counter`] per CPU by bank and rule: see [`rule_counter`].
pub const RULE_COUNTERS: &str = "RULE_COUNTERS";

/// Index in [`RULE_COUNTERS`] of a rule of a bank.
#[inline(always)]
pub const fn rule_counter(bank: u32, rule: u32) -> u32 {
    bank * limits::RULES + rule
}
