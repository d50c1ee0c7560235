//! Rules as the kernel reads them.

use crate::{Address, Facts, ZoneId};

/// One alternative of a rule. A rule with two source prefixes and three port ranges has six.
///
/// Every field restricts; a zero mask and a full range or set restrict nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RuleEntry {
    /// Set of zones the packet may come from, by [`ZoneId::bit`].
    pub from: u64,
    /// Set of zones it may go to.
    pub to: u64,
    /// Source prefix, network order; bits outside the mask are zero.
    pub source: [u64; 2],
    /// Mask of the source prefix, network order.
    pub source_mask: [u64; 2],
    /// Destination prefix, network order; bits outside the mask are zero.
    pub destination: [u64; 2],
    /// Mask of the destination prefix, network order.
    pub destination_mask: [u64; 2],
    /// Lowest source port.
    pub source_port: u16,
    /// Highest source port less the lowest.
    pub source_port_span: u16,
    /// Lowest destination port, or ICMP message: see [`Subject::destination_port`].
    pub destination_port: u16,
    /// Highest destination port less the lowest.
    pub destination_port_span: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 0xff if the protocol counts, else 0.
    pub protocol_mask: u8,
    /// Set of families, by [`crate::Family::bit`].
    pub families: u8,
    /// [`action`]; in a leaf of a [`crate::forest`], with marks: [`LAST`] in its last entry, [`PARAMETERS`],
    /// [`EXTENDED`].
    pub action: u8,
    /// Index of the rule in its group, below [`crate::limits::RULES`].
    pub rule: u32,
}

const _: () = assert!(size_of::<RuleEntry>() == 96);

/// Values of [`RuleEntry::action`].
pub mod action {
    /// Refuse the packet.
    pub const DROP: u8 = 0;
    /// Let it pass, and its flow after it.
    pub const ACCEPT: u8 = 1;
    /// Count it, and look for another rule.
    pub const COUNT: u8 = 2;
}

/// Bit of [`RuleEntry::action`]: no entry follows in this leaf.
pub const LAST: u8 = 1 << 7;
/// Bit of [`RuleEntry::action`]: the rule has parameters, see [`crate::group::Group::parameters`].
pub const PARAMETERS: u8 = 1 << 6;
/// Bit of [`RuleEntry::action`]: an [`crate::Extension`] follows, and has to match as well.
pub const EXTENDED: u8 = 1 << 5;
/// Bit of [`RuleEntry::action`]: the first packets of its flows, and its refusals, are logged.
pub const LOG: u8 = 1 << 4;
/// All bits of [`RuleEntry::action`] that are not part of the [`action`].
pub const MARKS: u8 = LAST | PARAMETERS | EXTENDED | LOG;

impl RuleEntry {
    /// The entry as words, as a slot of a bank holds it.
    pub const fn to_words(self) -> [u64; 12] {
        let ports = self.source_port as u64
            | (self.source_port_span as u64) << 16
            | (self.destination_port as u64) << 32
            | (self.destination_port_span as u64) << 48;
        let rest = self.protocol as u64
            | (self.protocol_mask as u64) << 8
            | (self.families as u64) << 16
            | (self.action as u64) << 24
            | (self.rule as u64) << 32;
        let [source, source_mask] = [self.source, self.source_mask];
        let [destination, destination_mask] = [self.destination, self.destination_mask];
        [
            self.from,
            self.to,
            source[0],
            source[1],
            source_mask[0],
            source_mask[1],
            destination[0],
            destination[1],
            destination_mask[0],
            destination_mask[1],
            ports,
            rest,
        ]
    }

    /// The entry that [`RuleEntry::to_words`] gave these words for.
    #[expect(clippy::cast_possible_truncation, reason = "takes words apart")]
    #[inline(always)]
    pub const fn from_words(words: &[u64; 12]) -> Self {
        let (ports, rest) = (words[10], words[11]);
        Self {
            from: words[0],
            to: words[1],
            source: [words[2], words[3]],
            source_mask: [words[4], words[5]],
            destination: [words[6], words[7]],
            destination_mask: [words[8], words[9]],
            source_port: ports as u16,
            source_port_span: (ports >> 16) as u16,
            destination_port: (ports >> 32) as u16,
            destination_port_span: (ports >> 48) as u16,
            protocol: rest as u8,
            protocol_mask: (rest >> 8) as u8,
            families: (rest >> 16) as u8,
            action: (rest >> 24) as u8,
            rule: (rest >> 32) as u32,
        }
    }
}

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Zone the packet comes from.
    pub from: ZoneId,
    /// Zone it goes to.
    pub to: ZoneId,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port, 0 if the protocol has none.
    pub source_port: u16,
    /// Destination port, 0 if the protocol has none. Of an ICMP or ICMPv6 message, which has no ports, the type in
    /// the upper byte and the code in the lower.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// What only an [`crate::Extension`] asks for.
    pub facts: Facts,
}

impl Subject {
    /// Whether an entry matches. One branch: the differences of all fields are gathered into one word.
    #[inline(always)]
    pub fn matches(&self, entry: &RuleEntry) -> bool {
        let (source, destination) = (self.source.halves(), self.destination.halves());
        let differences = ((source[0] ^ entry.source[0]) & entry.source_mask[0])
            | ((source[1] ^ entry.source[1]) & entry.source_mask[1])
            | ((destination[0] ^ entry.destination[0]) & entry.destination_mask[0])
            | ((destination[1] ^ entry.destination[1]) & entry.destination_mask[1])
            | u64::from((self.protocol ^ entry.protocol) & entry.protocol_mask)
            | beyond(self.source_port, entry.source_port, entry.source_port_span)
            | beyond(self.destination_port, entry.destination_port, entry.destination_port_span);
        let allowed = [
            entry.from & self.from.bit(),
            entry.to & self.to.bit(),
            u64::from(entry.families & self.source.family().bit()),
        ];
        differences == 0 && allowed[0] != 0 && allowed[1] != 0 && allowed[2] != 0
    }
}

/// Non-zero if a port is not in `low..=low + span`, without a branch.
#[inline(always)]
fn beyond(port: u16, low: u16, span: u16) -> u64 {
    let distance = port.wrapping_sub(low);
    u64::from(span).wrapping_sub(u64::from(distance)) >> 63
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;

    fn any() -> RuleEntry {
        RuleEntry {
            from: !1,
            to: !1,
            source_port_span: u16::MAX,
            destination_port_span: u16::MAX,
            families: Family::V4.bit() | Family::V6.bit(),
            action: action::ACCEPT,
            ..RuleEntry::default()
        }
    }

    fn subject() -> Subject {
        Subject {
            from: ZoneId::FIRST,
            to: ZoneId::LOCAL,
            source: Address::from_v4([10, 0, 0, 1]),
            destination: Address::from_v4([10, 0, 1, 1]),
            source_port: 40_000,
            destination_port: 53,
            protocol: 17,
            facts: Facts::default(),
        }
    }

    #[test]
    fn an_entry_without_restrictions_matches_and_an_empty_one_does_not() {
        assert!(subject().matches(&any()));
        assert!(!subject().matches(&RuleEntry::default()));
    }

    #[test]
    fn an_entry_survives_as_words() {
        let entry = RuleEntry {
            source: [1, 2],
            source_mask: [3, 4],
            destination: [5, 6],
            destination_mask: [7, 8],
            source_port: 9,
            destination_port_span: 10,
            protocol: 11,
            protocol_mask: 0xff,
            action: action::ACCEPT | LAST,
            rule: 99_999,
            ..any()
        };
        assert_eq!(RuleEntry::from_words(&entry.to_words()), entry);
    }

    #[test]
    fn each_field_restricts() {
        let prefix = Address::from_v4([10, 0, 0, 0]).halves();
        let mask = Address::from_v6([0xff; 16]).halves();
        let restricted = [
            RuleEntry { from: ZoneId::LOCAL.bit(), ..any() },
            RuleEntry { to: ZoneId::FIRST.bit(), ..any() },
            RuleEntry { source: prefix, source_mask: mask, ..any() },
            RuleEntry { destination: prefix, destination_mask: mask, ..any() },
            RuleEntry { protocol: 6, protocol_mask: 0xff, ..any() },
            RuleEntry { families: Family::V6.bit(), ..any() },
            RuleEntry { source_port: 40_001, source_port_span: 10, ..any() },
            RuleEntry { destination_port: 54, destination_port_span: 10, ..any() },
        ];
        for entry in restricted {
            assert!(!subject().matches(&entry), "{entry:?}");
        }
    }

    #[test]
    fn port_ranges_hold_their_ends_and_nothing_else() {
        for (low, high) in [(0, 0), (0, 65_535), (53, 53), (1_024, 65_535), (65_535, 65_535)] {
            for port in [0, 1, 52, 53, 54, 1_023, 1_024, 65_534, 65_535] {
                let inside = beyond(port, low, high - low) == 0;
                assert_eq!(inside, (low..=high).contains(&port), "{port} in {low}-{high}");
            }
        }
    }
}
