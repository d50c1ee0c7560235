//! Port ranges.

use std::fmt;

use crate::{
    decode,
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
        if let Value::Text(text) = &node.value
            && let Some((low, high)) = text.split_once('-')
            && let (Ok(low), Ok(high)) = (low.trim().parse::<u16>(), high.trim().parse::<u16>())
            && low > 0
            && let Some(range) = Self::new(low, high)
        {
            return Some(range);
        }
        if let Value::Text(_) = &node.value {
            reader.report(
                node.line,
                node.value.describe(),
                "a port from 1 to 65535 or a range \"low-high\" of them",
                "write 443 or \"8000-8099\"",
            );
            return None;
        }
        let port = decode::integer(reader, node, 1, i64::from(u16::MAX))?;
        Self::new(port, port)
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
