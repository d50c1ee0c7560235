//! TCP flags that rules ask for.

use std::fmt;

use crate::{
    decode::{self, Malformed},
    node::Node,
    reader::Reader,
};

/// TCP flags that have to be set, and others that must not be; by default none either way.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct TcpFlags {
    mask: u8,
    value: u8,
}

/// Flags by name (RFC 9293 section 3.1).
const NAMES: [(&str, u8); 8] = [
    ("fin", 0x01),
    ("syn", 0x02),
    ("rst", 0x04),
    ("psh", 0x08),
    ("ack", 0x10),
    ("urg", 0x20),
    ("ece", 0x40),
    ("cwr", 0x80),
];

impl TcpFlags {
    /// Exactly these flags set.
    pub fn of(flags: u8) -> Self {
        Self { mask: u8::MAX, value: flags }
    }

    /// The flags that count.
    pub fn mask(self) -> u8 {
        self.mask
    }

    /// Of the flags that count, those that have to be set.
    pub fn value(self) -> u8 {
        self.value
    }

    /// Whether no flag counts.
    pub fn is_any(self) -> bool {
        self.mask == 0
    }

    /// Whether a segment's flags are as asked.
    pub fn matches(self, flags: u8) -> bool {
        flags & self.mask == self.value
    }

    /// Decodes a list of flags, or a text with commas between them.
    pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Self> {
        let line = node.line;
        let parts =
            reader.one_or_more(node, |reader, node| decode::checked(reader, node, Self::parse))?;
        let (mut set, mut unset) = (0, 0);
        for part in parts {
            set |= part.value;
            unset |= part.mask & !part.value;
        }
        if set & unset != 0 {
            let flags = Self { mask: set & unset, value: set & unset };
            let found = format!("{flags} both set and not set");
            reader.report(line, found, "each flag once", "remove one of the two");
            return None;
        }
        Some(Self { mask: set | unset, value: set })
    }

    fn parse(text: &str) -> Result<Self, Malformed> {
        let mut flags = Self::default();
        for word in text.split(',').map(str::trim) {
            let (name, is_set) = word.strip_prefix('!').map_or((word, true), |name| (name, false));
            let bit = NAMES.iter().find(|(known, _)| *known == name).map(|(_, bit)| *bit);
            let bit = bit.filter(|bit| flags.mask & bit == 0).ok_or_else(|| {
                let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
                Malformed::new(
                    "TCP flags, each once, with ! before those that must not be set",
                    format!("write \"syn,!ack\" with flags of {}", known.join(", ")),
                )
            })?;
            flags.mask |= bit;
            flags.value |= if is_set { bit } else { 0 };
        }
        Ok(flags)
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (name, bit) in NAMES.into_iter().filter(|(_, bit)| self.mask & bit != 0) {
            let not = if self.value & bit == 0 { "!" } else { "" };
            write!(f, "{comma}{not}{name}")?;
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_asked_for_set_and_not_set() {
        let opening = TcpFlags::parse("syn, !ack").unwrap();
        assert!(opening.matches(0x02) && opening.matches(0xc2));
        assert!(!opening.matches(0x12) && !opening.matches(0));
        assert_eq!(opening.to_string(), "syn,!ack");
        assert!(TcpFlags::default().is_any() && TcpFlags::default().matches(0xff));
    }

    #[test]
    fn unknown_and_repeated_flags_are_refused() {
        for text in ["sin", "", "syn,,ack", "syn,!syn", "!", "syn,syn", "SYN"] {
            assert!(TcpFlags::parse(text).is_err(), "{text}");
        }
    }
}
