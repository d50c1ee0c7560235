//! Port ranges.

use std::fmt;

use crate::{
    decode::{self, Malformed},
    node::{Node, Value},
    reader::Reader,
};

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PortRange {
    low: u16,
    high: u16,
}

impl PortRange {
    /// A range, if `low` is not above `high`.
    pub fn new(low: u16, high: u16) -> Option<Self> {
        (low <= high).then_some(Self { low, high })
    }

    /// First port.
    pub fn low(&self) -> u16 {
        self.low
    }

    /// Last port.
    pub fn high(&self) -> u16 {
        self.high
    }

    /// Whether a port is in it.
    pub fn contains(&self, port: u16) -> bool {
        (self.low..=self.high).contains(&port)
    }

    pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Self> {
        if let Value::Text(_) = &node.value {
            return decode::checked(reader, node, Self::check_range);
        }
        let port = decode::integer(reader, node, 1, i64::from(u16::MAX))?;
        Self::new(port, port)
    }

    /// The ports that a text names, one or a range.
    pub(crate) fn check(text: &str) -> Result<Self, Malformed> {
        if text.contains('-') { Self::check_range(text) } else { Self::range(text, text) }
    }

    fn check_range(text: &str) -> Result<Self, Malformed> {
        let (low, high) = text.split_once('-').unwrap_or_default();
        Self::range(low.trim(), high.trim())
    }

    fn range(low: &str, high: &str) -> Result<Self, Malformed> {
        let port =
            |text: &str| text.parse().ok().filter(|port| *port > 0 && !text.starts_with('+'));
        let range = port(low).zip(port(high)).and_then(|(low, high)| Self::new(low, high));
        range.ok_or_else(|| {
            Malformed::new(
                "a port from 1 to 65535 or a range \"low-high\" of them",
                "write 443 or \"8000-8099\"",
            )
        })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}-{}", self.low, self.high)
        }
    }
}
