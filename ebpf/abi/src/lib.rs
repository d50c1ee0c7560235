//! What kernel programs and userspace share: keys, values, map names, limits, reasons.
//!
//! Every type that crosses the boundary is `repr(C)`, has its padding spelled out and holds integers
//! only, so that its bytes mean the same on both sides. With feature `user` they are `aya::Pod`.
//!
//! Anything added, removed or changed here grows [`VERSION`]; the loader refuses an object of another.

#![no_std]

pub mod active;
pub mod address;
pub mod counter;
pub mod flow;
pub mod forest;
pub mod intercept;
pub mod limits;
pub mod listener;
pub mod maps;
pub mod mirror;
#[cfg(feature = "user")]
mod pod;
pub mod reason;
pub mod rule;
pub mod zone;

pub use active::Active;
pub use address::{Address, Family};
pub use counter::Counter;
pub use flow::{Flow, FlowKey};
pub use forest::Slot;
pub use intercept::{Intercept, InterceptKey};
pub use listener::Listener;
pub use reason::Reason;
pub use rule::RuleEntry;
pub use zone::{Interface, ZoneId};

/// Version of everything in this crate. The kernel object carries it in [`VERSION_SECTION`].
pub const VERSION: u32 = 2;

/// ELF section of the kernel object that holds [`VERSION`] as four bytes in the target's order.
pub const VERSION_SECTION: &str = "nightgate_abi";

/// Value of the packet mark on intercepted packets. Policy routing delivers packets with this mark to the
/// gateway itself, whatever their destination address.
pub const INTERCEPT_MARK: u32 = 0x4e47_0001;

/// Index in `__sk_buff.cb` of the [`Reason`] that a program leaves for a caller of `BPF_PROG_TEST_RUN`.
pub const PROBE_CB: usize = 0;
