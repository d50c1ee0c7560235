//! Limits on what a rule accepts.

use std::fmt;

use crate::{
    decode::{self, Malformed},
    node::Node,
    reader::Reader,
};

/// How fast flows that a rule accepts may begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RateLimit {
    /// How fast.
    pub rate: FlowRate,
    /// How many at once, at least 1.
    pub burst: u32,
    /// Whose are counted together.
    pub per: LimitScope,
}

/// How many flows that a rule accepts there may be at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectionLimit {
    /// How many, at least 1.
    pub max: u32,
    /// Whose are counted together.
    pub per: LimitScope,
}

/// So many in a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlowRate {
    /// How many, at least 1.
    pub count: u32,
    /// In how many seconds: 1, 60 or 3600.
    pub seconds: u32,
}

/// Whose flows a limit counts together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LimitScope {
    /// All that the rule accepts.
    #[default]
    Rule,
    /// Those of one source address; of IPv6, of one /64 prefix.
    Source,
}

/// Largest number in a limit.
const LARGEST: u32 = 1_000_000;

/// Decodes the value of `limit`.
pub(crate) fn rate(reader: &mut Reader<'_>, node: Node) -> Option<RateLimit> {
    let mut section = reader.section(node)?;
    let rate = reader.required(&mut section, "rate", FlowRate::decode);
    let burst = reader.optional(&mut section, "burst", number);
    let per = reader.optional(&mut section, "per", scope);
    reader.close(section);
    let rate = rate?;
    let burst = burst?.unwrap_or_else(|| (rate.count / rate.seconds).max(1));
    Some(RateLimit { rate, burst, per: per?.unwrap_or_default() })
}

/// Decodes the value of `connections`.
pub(crate) fn connections(reader: &mut Reader<'_>, node: Node) -> Option<ConnectionLimit> {
    let mut section = reader.section(node)?;
    let max = reader.required(&mut section, "max", number);
    let per = reader.optional(&mut section, "per", scope);
    reader.close(section);
    Some(ConnectionLimit { max: max?, per: per?.unwrap_or_default() })
}

impl FlowRate {
    /// Decodes a text such as `10/s`, `30/min` or `5/h`.
    pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Self> {
        decode::checked(reader, node, |text| {
            let malformed = || {
                Malformed::new(
                    "a number from 1 to 1000000 and /s, /min or /h",
                    "write 10/s or 30/min",
                )
            };
            Self::parse(text).ok_or_else(malformed)
        })
    }

    /// Reads a text such as `10/s`, `30/min` or `5/h`: a number from 1 to 1,000,000 and a unit.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let seconds = match unit {
            "s" => 1,
            "min" => 60,
            "h" => 3_600,
            _ => return None,
        };
        let count = count.parse().ok().filter(|count| (1..=LARGEST).contains(count))?;
        Some(Self { count, seconds })
    }
}

/// As it is written.
impl fmt::Display for FlowRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.seconds {
            1 => "s",
            60 => "min",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} new flows, {} at once, {}", self.rate, self.burst, self.per)
    }
}

impl fmt::Display for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} flows at a time, {}", self.max, self.per)
    }
}

impl fmt::Display for LimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rule => "all together",
            Self::Source => "for each source",
        })
    }
}

fn number(reader: &mut Reader<'_>, node: Node) -> Option<u32> {
    decode::integer(reader, node, 1, i64::from(LARGEST))
}

fn scope(reader: &mut Reader<'_>, node: Node) -> Option<LimitScope> {
    decode::checked(reader, node, |text| match text {
        "rule" => Ok(LimitScope::Rule),
        "source" => Ok(LimitScope::Source),
        _ => Err(Malformed::new("rule or source", "choose one")),
    })
}
