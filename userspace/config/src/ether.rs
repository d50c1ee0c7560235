//! EtherTypes of protocols that are neither IP nor ARP.

use crate::{
    decode::{self, Malformed},
    node::{Node, Value},
    reader::Reader,
};

/// An EtherType that a zone lets pass.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct EtherType(u16);

/// Names of some (IEEE 802.1X, 802.1AB, 802.1ag, 802.1AE).
const NAMED: [(&str, u16); 4] =
    [("eapol", 0x888e), ("lldp", 0x88cc), ("cfm", 0x8902), ("macsec", 0x88e5)];
/// What the programs judge by other means: IPv4, ARP, VLAN tags, IPv6.
const JUDGED: [u16; 5] = [0x0800, 0x0806, 0x8100, 0x86dd, 0x88a8];
/// The least; below are lengths (IEEE 802.3).
const LEAST: i64 = 0x0600;

impl EtherType {
    /// Its number.
    pub fn number(self) -> u16 {
        self.0
    }

    pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Self> {
        let line = node.line;
        let number = if let Value::Integer(_) = node.value {
            decode::integer(reader, node, LEAST, i64::from(u16::MAX))?
        } else {
            decode::checked(reader, node, |text| {
                NAMED.iter().find(|(name, _)| *name == text).map(|(_, number)| *number).ok_or_else(
                    || {
                        Malformed::new(
                            "eapol, lldp, cfm, macsec or a number such as 0x88cc",
                            "choose one",
                        )
                    },
                )
            })?
        };
        if JUDGED.contains(&number) {
            let expected = "a protocol other than IP, ARP and VLAN tags";
            reader.report(line, format!("0x{number:04x}"), expected, "write rules for IP");
        }
        Some(Self(number))
    }
}
