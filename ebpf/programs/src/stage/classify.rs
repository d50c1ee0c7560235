//! The first matching rule.

use nightgate_abi::{
    Active, Reason,
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

/// Finds the first rule of the bank in force that matches.
///
/// # Errors
/// No rule matches, or there is no bank.
#[inline(always)]
pub(crate) fn classify(subject: &Subject, active: Active) -> Result<Verdict, Reason> {
    let table = maps::BANKS.get_value(active.bank(), &0).ok_or(Reason::BankMissing)?;
    let len = table.len as usize;
    let mut index = 0;
    while index < RULE_ENTRIES && index < len {
        let entry = &table.entries[index];
        if subject.matches(entry) {
            return Ok(match entry.action {
                action::ACCEPT => Verdict::Accept(entry.rule),
                _ => Verdict::Drop(entry.rule),
            });
        }
        index += 1;
    }
    Err(Reason::NoRule)
}
