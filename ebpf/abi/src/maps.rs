//! Names of the maps in the kernel object.

/// One [`crate::Active`] word.
pub const ACTIVE: &str = "ACTIVE";
/// One [`crate::Fallback`].
pub const FALLBACK: &str = "FALLBACK";
/// Two banks, each an array of [`crate::Slot`]s: see [`crate::forest`].
pub const BANKS: &str = "BANKS";
/// [`crate::Interface`] by interface index.
pub const INTERFACES: &str = "INTERFACES";
/// [`crate::Flow`] by [`crate::FlowKey`], least recently used out first: those that are not in [`OPENING`].
pub const FLOWS: &str = "FLOWS";
/// [`crate::Flow`] by [`crate::FlowKey`], least recently used out first: those whose originator has not yet sent
/// again after having been answered. They have a table of their own, so that floods of packets that nobody
/// answers, or whose answers nobody hears, push out no flow in use.
pub const OPENING: &str = "OPENING";
/// [`crate::Settings`] by bank.
pub const SETTINGS: &str = "SETTINGS";
/// One [`crate::InterceptTable`].
pub const INTERCEPT_TABLE: &str = "INTERCEPT_TABLE";
/// Two banks, each an array of [`crate::InterceptRange`]s.
pub const INTERCEPT_RANGES: &str = "INTERCEPT_RANGES";
/// Two banks, each an array of [`crate::InterceptPorts`].
pub const INTERCEPT_PORTS: &str = "INTERCEPT_PORTS";
/// [`crate::Intercept`] by [`crate::intercept::hosted_number`], a 32-bit number: what connections to servers of hosted
/// services are.
pub const HOSTED: &str = "HOSTED";
/// [`crate::Listener`] by [`crate::listener::index`].
pub const LISTENERS: &str = "LISTENERS";
/// Sockets by [`crate::listener::index`]: those of [`LISTENERS`], for packets whose socket is looked up.
pub const LISTENING_SOCKETS: &str = "LISTENING_SOCKETS";
/// Interface index of the device that copies of mirrored packets go to; 0 for none.
pub const MIRROR_DEVICE: &str = "MIRROR_DEVICE";
/// Interface index of the device of a VLAN, by [`crate::vlan::VlanKey`], if the programs are attached to it.
pub const VLANS: &str = "VLANS";
/// [`crate::ether::EtherTypes`] by bank and zone: see [`crate::guard::index`].
pub const ETHER_TYPES: &str = "ETHER_TYPES";
/// [`crate::guard::Guard`] by bank and zone: see [`crate::guard::index`].
pub const GUARDS: &str = "GUARDS";
/// [`crate::guard::list`] by prefixes of [`crate::guard::GuardPrefix`].
pub const GUARD_PREFIXES: &str = "GUARD_PREFIXES";
/// [`crate::Bucket`] by [`crate::guard::SourceKey`], least recently used out first.
pub const SOURCES: &str = "SOURCES";
/// Until when an [`crate::Address`] is in quarantine: nanoseconds since boot by `CLOCK_MONOTONIC`.
pub const QUARANTINE: &str = "QUARANTINE";
/// [`crate::Throttle`] by [`crate::FlowKey`]: limits on flows and addresses.
pub const THROTTLED: &str = "THROTTLED";
/// [`crate::Bucket`] by [`crate::limit::LimitKey`], least recently used out first.
pub const RATES: &str = "RATES";
/// Flows by [`crate::limit::LimitKey`], a 64-bit number, least recently used out first.
pub const CONNECTIONS: &str = "CONNECTIONS";
/// [`crate::Counter`] per CPU by [`crate::Reason`].
pub const REASON_COUNTERS: &str = "REASON_COUNTERS";
/// [`crate::Counter`] per CPU by [`crate::counter::DropKey`]: what was refused, by interface.
pub const DROPS: &str = "DROPS";
/// Two banks, each an array of [`crate::Hits`] by CPU and rule: see [`rule_counter`].
pub const RULE_COUNTERS: &str = "RULE_COUNTERS";

/// Ring of [`crate::event::Event`]s: the log of rules.
pub const LOG: &str = "LOG";
/// [`crate::event::LogState`] by [`crate::event::LogKey`], least recently used out first.
pub const LOG_STATES: &str = "LOG_STATES";
/// One [`crate::event::Trace`].
pub const TRACE: &str = "TRACE";
/// Ring of [`crate::event::Event`]s: traced packets.
pub const TRACES: &str = "TRACES";

/// Index of a CPU's counter of a rule, in the bank that `shift` ([`crate::Active::counters_shift`]) is of. Each CPU's
/// counters are next to one another, so that CPUs do not share cache lines.
#[inline(always)]
pub const fn rule_counter(shift: u32, cpu: u32, rule: u32) -> u32 {
    cpu << (shift & 31) | rule
}

/// The smallest [`crate::Active::counters_shift`] for a number of rules.
pub const fn counters_shift(rules: u32) -> u32 {
    rules.next_power_of_two().ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_every_cpu_has_a_counter_of_its_own() {
        for (rules, shift) in [(0, 0), (1, 0), (2, 1), (3, 2), (1_024, 10), (100_000, 17)] {
            assert_eq!(counters_shift(rules), shift, "{rules}");
            if rules > 0 {
                assert!(rule_counter(shift, 0, rules - 1) < rule_counter(shift, 1, 0), "{rules}");
            }
        }
    }
}
