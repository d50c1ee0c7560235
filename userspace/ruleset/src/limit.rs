//! Limits of rules as the kernel reads them.

use nightgate_abi::{
    Rate, Slot,
    limit::{LIMIT_WORDS, Limits, Per},
};
use nightgate_config::{LimitScope, RuleId};

use crate::compile::CompiledRule;

/// A rule's limits, if it has any.
pub(crate) fn lower(rule: &CompiledRule) -> Option<Limits> {
    if rule.limit.is_none() && rule.connections.is_none() {
        return None;
    }
    /// Nanoseconds of a second.
    const SECOND: u64 = 1_000_000_000;
    Some(Limits {
        tag: tag(&rule.id),
        rate: rule.limit.map(|limit| {
            let period = u64::from(limit.rate.seconds) * SECOND;
            (Rate::new(limit.rate.count, period, limit.burst), per(limit.per))
        }),
        connections: rule.connections.map(|limit| (limit.max, per(limit.per))),
    })
}

/// The parameters of a rule with limits.
pub(crate) fn slot(limits: &Limits) -> Slot {
    let mut slot = Slot::default();
    slot.0[..LIMIT_WORDS].copy_from_slice(&limits.to_words());
    slot
}

fn per(scope: LimitScope) -> Per {
    match scope {
        LimitScope::Rule => Per::Rule,
        LimitScope::Source => Per::Source,
    }
}

/// The same number for the same name at any time: FNV-1a. Of 100,000 rules, two share one with a probability of
/// less than one in a billion.
fn tag(id: &RuleId) -> u64 {
    id.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
