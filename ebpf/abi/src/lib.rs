//! What kernel programs and userspace share: keys, values, map names, limits, reasons.
//!
//! Every type that crosses the boundary is `repr(C)`, has its padding spelled out and holds integers
//! only, so that its bytes mean the same on both sides. With feature `user` they are `aya::Pod`.
//!
//! Anything added, removed or changed here grows [`VERSION`]; the loader refuses an object of another.

#![no_std]

pub mod active;
pub mod address;
pub mod bucket;
pub mod counter;
pub mod ether;
pub mod event;
pub mod extension;
pub mod facts;
pub mod fallback;
pub mod flow;
pub mod forest;
pub mod group;
pub mod guard;
mod hook;
pub mod intercept;
pub mod limit;
pub mod limits;
pub mod listener;
pub mod maps;
pub mod mirror;
pub mod mss;
pub mod nat;
#[cfg(feature = "user")]
mod pod;
pub mod reason;
pub mod refusal;
pub mod rule;
pub mod sender;
pub mod set;
pub mod settings;
pub mod throttle;
pub mod tunnel;
pub mod vlan;
pub mod zone;

pub use active::{Active, Features};
pub use address::{Address, Family};
pub use bucket::{Bucket, Rate};
pub use counter::{Counter, Hits};
pub use extension::Extension;
pub use facts::Facts;
pub use fallback::Fallback;
pub use flow::{Flow, FlowKey};
pub use forest::Slot;
pub use group::Group;
pub use hook::Hook;
pub use intercept::{Intercept, InterceptPorts, InterceptRange, InterceptTable};
pub use listener::Listener;
pub use reason::Reason;
pub use refusal::Refusal;
pub use rule::RuleEntry;
pub use sender::Sender;
pub use settings::Settings;
pub use throttle::Throttle;
pub use zone::{Interface, ZoneId};

/// Version of everything in this crate. The kernel object carries it in [`VERSION_SECTION`].
pub const VERSION: u32 = 39;

/// ELF section of the kernel object that holds [`VERSION`] as four bytes in the target's order.
pub const VERSION_SECTION: &str = "nightgate_abi";

/// Value of the packet mark on intercepted packets. Policy routing delivers packets with this mark to the
/// gateway itself, whatever their destination address.
pub const INTERCEPT_MARK: u32 = 0x4e47_0001;

/// Value of `__sk_buff.tc_index` on answers to rejected packets, which leave by the interface that the packet came
/// in by. No socket option sets it, and what the gateway itself sends has no interface that it came in by.
pub const ANSWER_TC_INDEX: u32 = 0x4e47;

/// Index in `__sk_buff.cb` of the [`Reason`] that a program leaves for a caller of `BPF_PROG_TEST_RUN`.
pub const PROBE_CB: usize = 0;
