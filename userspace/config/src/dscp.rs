//! Differentiated services code points.

use std::fmt;

use crate::{
    decode::{self, Malformed},
    node::{Node, Value},
    reader::Reader,
};

/// A differentiated services code point (RFC 2474), 0 to 63.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Dscp(u8);

/// RFC 2474, RFC 2597, RFC 3246, RFC 5865, RFC 8622.
const NAMES: [(&str, u8); 23] = [
    ("cs0", 0),
    ("le", 1),
    ("cs1", 8),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("cs2", 16),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("cs3", 24),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("cs4", 32),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("cs5", 40),
    ("va", 44),
    ("ef", 46),
    ("cs6", 48),
    ("cs7", 56),
];

impl Dscp {
    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }

    pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Self> {
        if let Value::Integer(_) = node.value {
            return decode::integer(reader, node, 0, 63).map(Self);
        }
        decode::checked(reader, node, |text| {
            NAMES
                .iter()
                .find(|(name, _)| *name == text)
                .map(|(_, number)| Self(*number))
                .ok_or_else(|| {
                    Malformed::new(
                        "a code point by name or as a number from 0 to 63",
                        "write ef, af11 to af43, cs0 to cs7, va, le or a number",
                    )
                })
        })
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_their_numbers() {
        for (name, number) in NAMES {
            assert_eq!(Dscp(number).to_string(), name);
            if let Some(class) = name.strip_prefix("cs") {
                assert_eq!(class.parse::<u8>().unwrap() * 8, number);
            }
            if let Some(class) = name.strip_prefix("af") {
                // RFC 2597 section 6: three bits of class, two of drop precedence, a zero.
                let class: u8 = class.parse().unwrap();
                assert_eq!((class / 10) * 8 + (class % 10) * 2, number);
            }
        }
        assert_eq!(Dscp(5).to_string(), "5");
    }
}
