//! ICMP and ICMPv6 messages that rules name.

use std::fmt;

use crate::{
    decode::{self, Malformed},
    node::{Node, Value},
    reader::Reader,
    rule::Protocol,
};

/// An ICMP or ICMPv6 message: a type, with any code or one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IcmpType {
    /// Type.
    pub kind: u8,
    /// Code; `None` for every one.
    pub code: Option<u8>,
}

/// Names of messages.
struct Names(&'static [(&'static str, u8, Option<u8>)]);

/// RFC 792, RFC 1191, RFC 1812, RFC 1256.
const ICMP: Names = Names(&[
    ("echo-reply", 0, None),
    ("destination-unreachable", 3, None),
    ("network-unreachable", 3, Some(0)),
    ("host-unreachable", 3, Some(1)),
    ("protocol-unreachable", 3, Some(2)),
    ("port-unreachable", 3, Some(3)),
    ("fragmentation-needed", 3, Some(4)),
    ("prohibited", 3, Some(13)),
    ("redirect", 5, None),
    ("echo-request", 8, None),
    ("router-advertisement", 9, None),
    ("router-solicitation", 10, None),
    ("time-exceeded", 11, None),
    ("parameter-problem", 12, None),
    ("timestamp-request", 13, None),
    ("timestamp-reply", 14, None),
]);

/// RFC 4443, RFC 4861, RFC 2710, RFC 3810.
const ICMPV6: Names = Names(&[
    ("destination-unreachable", 1, None),
    ("no-route", 1, Some(0)),
    ("prohibited", 1, Some(1)),
    ("address-unreachable", 1, Some(3)),
    ("port-unreachable", 1, Some(4)),
    ("packet-too-big", 2, None),
    ("time-exceeded", 3, None),
    ("parameter-problem", 4, None),
    ("echo-request", 128, None),
    ("echo-reply", 129, None),
    ("multicast-listener-query", 130, None),
    ("multicast-listener-report", 131, None),
    ("multicast-listener-done", 132, None),
    ("router-solicitation", 133, None),
    ("router-advertisement", 134, None),
    ("neighbour-solicitation", 135, None),
    ("neighbour-advertisement", 136, None),
    ("redirect", 137, None),
    ("multicast-listener-report-v2", 143, None),
]);

impl IcmpType {
    /// Decodes a message of a protocol; without a protocol that has messages, only numbers are understood.
    pub(crate) fn decode(
        reader: &mut Reader<'_>,
        node: Node,
        protocol: Option<Protocol>,
    ) -> Option<Self> {
        if let Value::Integer(_) = node.value {
            let kind = decode::integer(reader, node, 0, 255)?;
            return Some(Self { kind, code: None });
        }
        let names = match protocol {
            Some(Protocol::ICMP) => &ICMP,
            Some(Protocol::ICMPV6) => &ICMPV6,
            Some(Protocol::Any | Protocol::Number(_)) | None => &Names(&[]),
        };
        decode::checked(reader, node, |text| {
            names.find(text).or_else(|| Self::numbers(text)).ok_or_else(|| {
                let known: Vec<&str> = names.0.iter().map(|(name, _, _)| *name).collect();
                Malformed::new(
                    "an ICMP type, by name or as TYPE or TYPE/CODE of 0 to 255",
                    format!("write 8, 3/4 or one of {}", known.join(", ")),
                )
            })
        })
    }

    /// The message that `TYPE/CODE` names.
    fn numbers(text: &str) -> Option<Self> {
        let (kind, code) = text.split_once('/').filter(|_| !text.contains('+'))?;
        Some(Self { kind: kind.parse().ok()?, code: Some(code.parse().ok()?) })
    }

    /// Whether it is a message of this type and code.
    pub fn contains(&self, kind: u8, code: u8) -> bool {
        self.kind == kind && self.code.is_none_or(|own| own == code)
    }
}

impl Names {
    fn find(&self, text: &str) -> Option<IcmpType> {
        let found = self.0.iter().find(|(name, _, _)| *name == text);
        found.map(|(_, kind, code)| IcmpType { kind: *kind, code: *code })
    }
}

impl fmt::Display for IcmpType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{}/{code}", self.kind),
            None => write!(f, "{}", self.kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_none_is_a_number() {
        for names in [&ICMP, &ICMPV6] {
            for (name, kind, code) in names.0 {
                assert_eq!(names.find(name), Some(IcmpType { kind: *kind, code: *code }));
                assert_eq!(IcmpType::numbers(name), None);
            }
        }
    }

    #[test]
    fn a_type_without_a_code_has_every_code() {
        let unreachable = IcmpType { kind: 3, code: None };
        let too_big = IcmpType { kind: 3, code: Some(4) };
        assert!(unreachable.contains(3, 4) && too_big.contains(3, 4));
        assert!(unreachable.contains(3, 0) && !too_big.contains(3, 0) && !too_big.contains(4, 4));
        assert_eq!((unreachable.to_string(), too_big.to_string()), ("3".into(), "3/4".into()));
    }
}
