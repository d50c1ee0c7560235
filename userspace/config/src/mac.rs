//! MAC addresses.

use std::fmt;

use crate::{
    decode::{self, Malformed},
    node::Node,
    reader::Reader,
};

/// MAC address of one interface.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MacAddress([u8; 6]);

/// Bit of the first byte of an address that stands for a group (IEEE 802).
const GROUP: u8 = 1;

impl MacAddress {
    /// Its bytes as on the wire.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Self> {
        decode::checked(reader, node, |text| {
            Self::parse(text).ok_or_else(|| {
                Malformed::new(
                    "the MAC address of one interface",
                    "write six bytes as in 02:00:5e:10:00:01, neither zero nor a multicast address",
                )
            })
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut octets = [0; 6];
        let mut words = text.split(':');
        for octet in &mut octets {
            let word = words.next().filter(|word| word.len() == 2)?;
            *octet = u8::from_str_radix(word, 16).ok().filter(|_| !word.starts_with('+'))?;
        }
        let is_one = words.next().is_none() && octets != [0; 6] && octets[0] & GROUP == 0;
        is_one.then_some(Self(octets))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_interface_are_understood() {
        let address = MacAddress::parse("02:00:5E:10:00:01").unwrap();
        assert_eq!(address.octets(), [2, 0, 0x5e, 0x10, 0, 1]);
        assert_eq!(address.to_string(), "02:00:5e:10:00:01");
        for text in [
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "02:00:00:00:00",
            "02:00:00:00:00:00:01",
            "2:0:0:0:0:1",
            "02-00-00-00-00-01",
            "02:00:00:00:00:+1",
        ] {
            assert_eq!(MacAddress::parse(text), None, "{text}");
        }
    }
}
