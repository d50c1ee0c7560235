//! How much the maps hold, and how long flows last.

/// Rules of one rule set.
pub const RULES: u32 = 100_000;
/// Entries of one rule set: a rule has one for each combination of its prefixes and port ranges.
pub const RULE_ENTRIES: usize = 131_072;
/// Entries of one bank: those of the rule set, each as often as the trees of [`crate::forest`] need it. 96 bytes
/// each, so a bank takes at most 48 MiB for them.
pub const BANK_ENTRIES: usize = 524_288;
/// Entries of one set.
pub const SET_ENTRIES: usize = 100_000;
/// Entries of all sets that the rules of one rule set name, each set once: two bounds each, five of them in a slot, so
/// a bank takes at most 16 MiB for them.
pub const SETS_ENTRIES: usize = 400_000;
/// Zones, the reserved ones included: one bit each in a [`crate::RuleEntry`].
pub const ZONES: usize = 64;
/// VLAN devices among the attached interfaces.
pub const VLANS: usize = 4_096;
/// Attached interfaces.
pub const INTERFACES: usize = 1_024;
/// Bytes of the ring of log records.
pub const LOG_BYTES: usize = 1 << 17;
/// Bytes of the ring of traced packets.
pub const TRACE_BYTES: usize = 1 << 18;
/// Rules whose log is limited one by one at a time.
pub const LOG_STATES: usize = 1_024;
/// Pairs of interface and reason that refused packets are counted under.
pub const DROPS: usize = 4_096;
/// Flows of [`crate::maps::FLOWS`]; the least recently used one makes room.
pub const FLOWS: usize = 100_000;
/// Flows of [`crate::maps::OPENING`]; the least recently used one makes room.
pub const OPENING: usize = 8_192;
/// Packets of which the first fragment was accepted, so that the later ones follow it; the least recently used one makes
/// room.
pub const FRAGMENTED: usize = 8_192;
/// Likewise refused, so that the later ones have its reason.
pub const FRAGMENTED_REFUSED: usize = 1_024;
/// Answers to rejected packets that each CPU sends in a second.
pub const ANSWERS: u32 = 1_000;
/// Answers to rejected packets that each CPU sends at once.
pub const ANSWERS_BURST: u32 = 250;
/// Prefixes that the guards of all zones block or allow.
pub const GUARD_PREFIXES: usize = 100_000;
/// Sources that guards count packets of.
pub const SOURCES: usize = 32_768;
/// Buckets of rate limits, and counts of connection limits: of rules, and of sources of rules.
pub const LIMITED: usize = 32_768;
/// Addresses that are in quarantine at one time.
pub const QUARANTINED: usize = 4_096;
/// Flows and addresses that alerts have limited at one time.
pub const THROTTLED: usize = 16_384;
/// Stretches of intercepted addresses: see [`crate::InterceptRange`]. 40 bytes each, so a bank takes at most 10 MiB.
pub const INTERCEPT_RANGES: usize = 262_144;
/// Stretches of intercepted ports: see [`crate::InterceptPorts`]. 16 bytes each, so a bank takes at most 16 MiB.
pub const INTERCEPT_PORTS: usize = 1_048_576;

/// Numbers of connections to servers of hosted services: 1 to this, since they are 16 bits of a packet mark.
pub const HOSTED: usize = 65_535;

/// Seconds without a packet after which flows are over.
pub mod idle {
    /// TCP until the connection is established: 4 min (RFC 5382 REQ-5, transitory connections).
    pub const TCP_OPENING: u32 = 240;
    /// TCP connections: 2 h 4 min (RFC 5382 REQ-5).
    pub const TCP_ESTABLISHED: u32 = 7_440;
    /// TCP connections that an end has closed or reset: 4 min (RFC 5382 REQ-5, transitory connections).
    pub const TCP_CLOSING: u32 = 240;
    /// UDP until the originator has sent again after an answer: 2 min (RFC 4787 REQ-5, the least).
    pub const UDP_OPENING: u32 = 120;
    /// UDP: 5 min (RFC 4787 REQ-5, recommended).
    pub const UDP: u32 = 300;
    /// ICMP and ICMPv6: 60 s (RFC 5508 REQ-2).
    pub const ICMP: u32 = 60;
    /// Any other protocol: 10 min, above the usual intervals of tunnels' keep-alives.
    pub const OTHER: u32 = 600;
}
