//! How much the maps hold, and how long flows last.

/// Rules of one rule set.
pub const RULES: u32 = 100_000;
/// Entries of one rule set: a rule has one for each combination of its prefixes and port ranges.
pub const RULE_ENTRIES: usize = 131_072;
/// Entries of one bank: those of the rule set, each as often as the trees of [`crate::forest`] need it. 96 bytes
/// each, so a bank takes at most 48 MiB for them.
pub const BANK_ENTRIES: usize = 524_288;
/// Zones, the reserved ones included: one bit each in a [`crate::RuleEntry`].
pub const ZONES: usize = 64;
/// Attached interfaces.
pub const INTERFACES: usize = 1_024;
/// Flows; the least recently used one makes room.
pub const FLOWS: usize = 65_536;
/// Intercepted destinations.
pub const INTERCEPTS: usize = 65_536;

/// Idle time after which a TCP flow has to be accepted anew: 2 h 4 min (RFC 5382 REQ-5).
pub const TCP_IDLE_NS: u64 = 7_440_000_000_000;
/// Idle time after which a UDP flow has to be accepted anew: 5 min (RFC 4787 REQ-5).
pub const UDP_IDLE_NS: u64 = 300_000_000_000;
/// Idle time after which a flow of any other protocol has to be accepted anew: 60 s (RFC 5508 REQ-2 for
/// ICMP queries).
pub const OTHER_IDLE_NS: u64 = 60_000_000_000;
