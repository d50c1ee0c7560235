//! Community ID, by which sensors and we call one flow the same (version 1 of github.com/corelight/community-id-spec).

use std::net::{IpAddr, SocketAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nightgate_packet::protocol;
use sha1::{Digest as _, Sha1};

/// SCTP (RFC 9260), whose ports are known to the standard.
const SCTP: u8 = 132;

/// What tells a flow from others, as its originator sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlowEnds {
    /// IP protocol number.
    pub protocol: u8,
    /// Who sent the first packet. The port counts for protocols that have ports.
    pub source: SocketAddr,
    /// The other end.
    pub destination: SocketAddr,
    /// Type and code of the first message of ICMP and ICMPv6.
    pub message: [u8; 2],
}

/// The Community ID of a flow, with seed 0.
pub fn community_id(ends: &FlowEnds) -> String {
    let (ports, is_one_way) = ports(ends);
    let [mut low, mut high] = [
        (ends.source.ip(), ports.map(|ports| ports[0])),
        (ends.destination.ip(), ports.map(|ports| ports[1])),
    ];
    if high < low && !is_one_way {
        (low, high) = (high, low);
    }
    let mut hash = Sha1::new();
    hash.update([0; 2]);
    for (address, _) in [low, high] {
        match address {
            IpAddr::V4(address) => hash.update(address.octets()),
            IpAddr::V6(address) => hash.update(address.octets()),
        }
    }
    hash.update([ends.protocol, 0]);
    for port in [low.1, high.1].into_iter().flatten() {
        hash.update(port.to_be_bytes());
    }
    format!("1:{}", STANDARD.encode(hash.finalize()))
}

/// What stands for the ports, and whether the flow has one direction only, so that its ends keep their order.
fn ports(ends: &FlowEnds) -> (Option<[u16; 2]>, bool) {
    let [kind, code] = ends.message.map(u16::from);
    let message = |counterpart: Option<u16>| match counterpart {
        Some(counterpart) => (Some([kind, counterpart]), false),
        None => (Some([kind, code]), true),
    };
    match ends.protocol {
        protocol::TCP | protocol::UDP | SCTP => {
            (Some([ends.source.port(), ends.destination.port()]), false)
        }
        protocol::ICMP => message(counterpart_v4(kind)),
        protocol::ICMPV6 => message(counterpart_v6(kind)),
        _ => (None, false),
    }
}

/// The type that answers a type of ICMP (RFC 792, RFC 950, RFC 1256), or is answered by it.
fn counterpart_v4(kind: u16) -> Option<u16> {
    const PAIRS: [[u16; 2]; 5] = [[8, 0], [13, 14], [15, 16], [10, 9], [17, 18]];
    counterpart(&PAIRS, kind)
}

/// Likewise of ICMPv6 (RFC 4443, RFC 2710, RFC 4861, RFC 4620, RFC 6275).
fn counterpart_v6(kind: u16) -> Option<u16> {
    const PAIRS: [[u16; 2]; 6] =
        [[128, 129], [130, 131], [133, 134], [135, 136], [139, 140], [144, 145]];
    counterpart(&PAIRS, kind)
}

fn counterpart(pairs: &[[u16; 2]], kind: u16) -> Option<u16> {
    pairs.iter().find_map(|[query, answer]| match kind {
        kind if kind == *query => Some(*answer),
        kind if kind == *answer => Some(*query),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(protocol: u8, source: (&str, u16), destination: (&str, u16), message: [u8; 2]) -> String {
        let end = |(address, port): (&str, u16)| SocketAddr::new(address.parse().unwrap(), port);
        let (source, destination) = (end(source), end(destination));
        community_id(&FlowEnds { protocol, source, destination, message })
    }

    /// From the standard's own table, `baseline/baseline_deflt.json`.
    #[test]
    fn ids_are_those_of_the_standard() {
        let tcp6 = ("2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a");
        for ((protocol, source, destination), expected) in [
            (
                (6, ("128.232.110.120", 34_855), ("66.35.250.204", 80)),
                "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
            ),
            ((6, (tcp6.0, 63_943), (tcp6.1, 25)), "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="),
            ((17, ("192.168.1.52", 54_585), ("8.8.8.8", 53)), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            ((132, ("192.168.170.8", 7), ("192.168.170.56", 7)), "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
            ((46, ("10.1.12.1", 0), ("10.1.12.2", 0)), "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
        ] {
            assert_eq!(id(protocol, source, destination, [0; 2]), expected);
            assert_eq!(id(protocol, destination, source, [0; 2]), expected, "the other way");
        }
    }

    /// Likewise. What a flow's ports hold is the identifier there, which does not count.
    #[test]
    fn messages_are_named_by_their_types() {
        let host = |address| (address, 4_711);
        let v6 = ("3ffe:507:0:1:200:86ff:fe05:80da", "3ffe:501:0:1001::2");
        let neighbours = ("fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea");
        for ((protocol, source, destination, message), expected) in [
            ((1, "192.168.0.89", "192.168.0.1", [8, 0]), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            ((1, "192.168.0.1", "192.168.0.89", [0, 0]), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            ((1, "10.0.0.1", "10.0.0.2", [11, 0]), "1:YHxtAirCG//0OzkcVAukqKQN9xM="),
            ((58, v6.0, v6.1, [128, 0]), "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="),
            ((58, v6.1, v6.0, [129, 0]), "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="),
            ((58, neighbours.0, neighbours.1, [135, 0]), "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
            ((58, neighbours.1, neighbours.0, [135, 0]), "1:zavyT/cezQr1fmImYCwYnMXbgck="),
            (
                (58, "3ffe:501:410:0:2c0:dfff:fe47:33e", v6.0, [1, 4]),
                "1:hLZd0XGWojozrvxqE0dWB1iM6R0=",
            ),
            ((58, "3ffe:501:1800:2345::2", v6.0, [3, 0]), "1:2ObVBgIn28oZvibYZhZMBgh7WdQ="),
        ] {
            assert_eq!(id(protocol, host(source), host(destination), message), expected);
        }
    }
}
