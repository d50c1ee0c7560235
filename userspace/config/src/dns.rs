//! The private DNS.

use std::net::SocketAddr;

use crate::{decode, node::Node, prefix::Prefix, reader::Reader};

/// Private DNS answers for intercepted names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dns {
    /// Addresses it listens on, UDP and TCP; at least one.
    pub listen: Vec<SocketAddr>,
    /// IPv4 addresses for intercepted names. Default 100.64.0.0/10 (RFC 6598).
    pub range_v4: Prefix,
    /// IPv6 addresses for intercepted names. Default fd64:6e67::/64 (RFC 4193).
    pub range_v6: Prefix,
}

pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Dns> {
    let mut section = reader.section(node)?;
    let listen = reader.required(&mut section, "listen", |reader, node| {
        reader.one_or_more(node, decode::socket_address)
    });
    let v4 = Prefix::new([100, 64, 0, 0].into(), 10);
    let v6 = Prefix::new([0xfd64, 0x6e67, 0, 0, 0, 0, 0, 0].into(), 64);
    let range_v4 = reader.optional(&mut section, "range_v4", |r, node| range(r, node, Family::V4));
    let range_v6 = reader.optional(&mut section, "range_v6", |r, node| range(r, node, Family::V6));
    reader.close(section);
    Some(Dns { listen: listen?, range_v4: range_v4?.or(v4)?, range_v6: range_v6?.or(v6)? })
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Family {
    V4,
    V6,
}

/// Longest range: each name needs an address of its own.
const HOST_BITS_MIN: u8 = 4;

fn range(reader: &mut Reader<'_>, node: Node, family: Family) -> Option<Prefix> {
    let (line, found) = (node.line, node.value.describe());
    let prefix = Prefix::decode(reader, node)?;
    let (expected, width) = match family {
        Family::V4 => ("an IPv4 prefix of at most 28 bits", 32),
        Family::V6 => ("an IPv6 prefix of at most 124 bits", 128),
    };
    if prefix.is_ipv4() != (family == Family::V4) || prefix.length() > width - HOST_BITS_MIN {
        reader.report(line, found, expected, "choose a range that no real host uses");
        return None;
    }
    Some(prefix)
}
