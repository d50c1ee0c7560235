//! ICMP (RFC 792) and ICMPv6 (RFC 4443) messages.

use nightgate_abi::{Family, Reason};

use crate::{Frame, transport::Network};

/// The shortest message.
const HEADER: usize = 8;

/// A message's header.
#[derive(Clone, Copy)]
pub(crate) struct Message {
    pub(crate) icmp_type: u8,
    pub(crate) code: u8,
    /// Identifier of a query or its answer; else 0.
    pub(crate) identifier: u16,
}

#[inline(always)]
pub(crate) fn parse(
    frame: &impl Frame,
    offset: usize,
    network: &Network,
) -> Result<Message, Reason> {
    if network.length < HEADER {
        return Err(Reason::IcmpTruncated);
    }
    let [icmp_type, code, _, _, id_0, id_1]: [u8; 6] =
        frame.read(offset).ok_or(Reason::IcmpTruncated)?;
    let is_query = query(network.family, icmp_type).is_some();
    let identifier = if is_query { u16::from_be_bytes([id_0, id_1]) } else { 0 };
    Ok(Message { icmp_type, code, identifier })
}

/// The type of the query, if a message of this type is a query or the answer to one. They have an identifier
/// in common, and nothing else is sent back and forth.
#[inline(always)]
pub(crate) fn query(family: Family, icmp_type: u8) -> Option<u8> {
    match (family, icmp_type) {
        // Echo: RFC 792.
        (Family::V4, 8 | 0) => Some(8),
        // Timestamp: RFC 792.
        (Family::V4, 13 | 14) => Some(13),
        // Information: RFC 792.
        (Family::V4, 15 | 16) => Some(15),
        // Address mask: RFC 950.
        (Family::V4, 17 | 18) => Some(17),
        // Extended echo: RFC 8335.
        (Family::V4, 42 | 43) => Some(42),
        // Echo: RFC 4443 section 4.
        (Family::V6, 128 | 129) => Some(128),
        // Extended echo: RFC 8335.
        (Family::V6, 160 | 161) => Some(160),
        (Family::V4 | Family::V6, _) => None,
    }
}

/// Whether a message of this type is an error.
#[inline(always)]
pub(crate) fn is_error(family: Family, icmp_type: u8) -> bool {
    match family {
        // Destination unreachable, source quench, time exceeded, parameter problem (RFC 792).
        Family::V4 => matches!(icmp_type, 3 | 4 | 11 | 12),
        // RFC 4443 section 2.1: the high bit tells errors from other messages, which begin at 128.
        Family::V6 => icmp_type < 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_and_its_answer_are_of_one_type() {
        for answer in [0, 8] {
            assert_eq!(query(Family::V4, answer), Some(8));
        }
        assert_eq!(query(Family::V6, 129), Some(128));
        assert_eq!(query(Family::V6, 8), None);
        assert_eq!(query(Family::V4, 3), None);
    }
}
