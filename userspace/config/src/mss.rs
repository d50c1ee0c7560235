//! The largest segments that TCP connections may agree on.

use crate::{
    decode::{self, Malformed},
    node::{Node, Value},
    reader::Reader,
};

/// A bound of the maximum segment size (MSS, RFC 9293 section 3.7.1) that ends of connections announce.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ClampMss {
    /// What the routes of both directions carry in one packet.
    Auto,
    /// Bytes of data, 88 to 65,495.
    Bytes(u16),
}

/// Bounds of [`ClampMss::Bytes`]: what Linux takes at least (`TCP_MIN_MSS` of net/tcp.h), and what a packet of 65,535
/// bytes has room for behind the headers of IPv4 and TCP.
const BYTES: (i64, i64) = (88, 65_495);

impl ClampMss {
    pub(crate) fn decode(reader: &mut Reader<'_>, node: Node) -> Option<Self> {
        if let Value::Integer(_) = node.value {
            return decode::integer(reader, node, BYTES.0, BYTES.1).map(Self::Bytes);
        }
        decode::checked(reader, node, |text| match text {
            "auto" => Ok(Self::Auto),
            _ => Err(Malformed::new(
                "auto, or a number from 88 to 65495",
                "write auto to go by the routes' MTU, or bytes such as 1440",
            )),
        })
    }
}
