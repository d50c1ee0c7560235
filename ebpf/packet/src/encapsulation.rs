//! What is put in front of a mirrored frame: an Ethernet and an IP header ([`outer`]), then what the encapsulation says.

pub mod geneve;
pub mod gre;
pub mod outer;
pub mod vxlan;

use nightgate_abi::{Family, FlowKey, flow::Direction, mirror::Encapsulation};

/// Largest inner frame whose length every outer header can say, in bytes.
#[expect(clippy::cast_possible_truncation, reason = "headers have less than 2^8 bytes")]
pub const INNER_MAX: u16 = u16::MAX - outer::IPV4 as u16 - geneve::LENGTH as u16;

/// Lowest source port: the first of the dynamic ports (RFC 7348 section 5, RFC 8926 section 3.3).
pub const SOURCE_PORT_MIN: u16 = 49_152;

/// Ethernet header.
const ETHERNET: usize = 14;
/// UDP header (RFC 768).
const UDP: usize = 8;
/// EtherType of Ethernet in Ethernet: the protocol type of GENEVE and GRE (RFC 8926 section 3.4, RFC 1701).
const TRANSPARENT_ETHERNET: u16 = 0x6558;

/// What distinguishes the outer headers of one frame from those of another of its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// Link address of the sensor, or of the router before it.
    pub link_destination: [u8; 6],
    /// Link address of the interface it leaves by.
    pub link_source: [u8; 6],
    /// Length of the inner frame in bytes, at most [`INNER_MAX`].
    pub inner: u16,
    /// The flow's [`hash`].
    pub hash: u64,
}

/// What is known of a copy beyond its bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Metadata {
    /// Number of the session.
    pub session: u16,
    /// Direction of the packet in its flow.
    pub direction: Direction,
    /// Tag of the intercepted service; 0 for none.
    pub service: u32,
    /// Whether only the beginning of the frame is copied.
    pub is_cut: bool,
    /// How many copies of the session came before it.
    pub sequence: u64,
    /// Nanoseconds since 1970 in international atomic time (`CLOCK_TAI`).
    pub at: u64,
}

impl Envelope {
    /// The outer UDP source port: 49152 to 65535, the same for both directions of a flow, so that a sensor hands both
    /// to the same thread.
    #[inline(always)]
    pub const fn source_port(&self) -> u16 {
        SOURCE_PORT_MIN | (self.hash >> 50) as u16
    }

    /// Length of the outer IP packet in bytes: what the MTU of the path has to hold.
    #[expect(clippy::cast_possible_truncation, reason = "headers have less than 2^8 bytes")]
    #[inline(always)]
    pub const fn outer_length(&self, family: Family, encapsulation: Encapsulation) -> u16 {
        let headers = outer::length(family) + length(encapsulation);
        self.inner.saturating_add(headers as u16)
    }
}

/// Length of what an encapsulation puts between the outer IP header and the frame, in bytes.
#[inline(always)]
pub const fn length(encapsulation: Encapsulation) -> usize {
    match encapsulation {
        Encapsulation::Vxlan => vxlan::LENGTH,
        Encapsulation::Geneve => geneve::LENGTH,
        Encapsulation::Erspan => gre::ERSPAN_LENGTH,
        Encapsulation::Gre => gre::LENGTH,
        Encapsulation::Local => 0,
    }
}

/// By how much the MTU of the path to a sensor has to exceed that of the mirrored interface, in bytes: the outer headers
/// but Ethernet, and the inner Ethernet header. A tag that the copies get takes 4 more.
#[expect(clippy::cast_possible_truncation, reason = "headers have less than 2^8 bytes")]
pub const fn overhead(family: Family, encapsulation: Encapsulation) -> u32 {
    match encapsulation {
        Encapsulation::Local => 0,
        Encapsulation::Vxlan
        | Encapsulation::Geneve
        | Encapsulation::Erspan
        | Encapsulation::Gre => (outer::length(family) + length(encapsulation) + ETHERNET) as u32,
    }
}

/// The hash of a flow, the same for both directions.
#[inline(always)]
pub fn hash(flow: &FlowKey) -> u64 {
    let ([a, b], [c, d]) = (flow.low.halves(), flow.high.halves());
    let ports = u64::from(flow.low_port) << 16 | u64::from(flow.high_port);
    let ports = ports | u64::from(flow.protocol) << 32;
    let mut hash = 0;
    for word in [a, b, c, d, ports] {
        hash = mix(hash ^ word);
    }
    hash
}

/// A bijection in which each bit of the input changes half of the highest bits of the output.
/// A hash of 64 bits of one of 16, each of whose bits changes about half of its own.
#[inline(always)]
pub fn spread(hash: u16) -> u64 {
    mix(u64::from(hash) | 1 << 16)
}

#[inline(always)]
pub(crate) fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8], offset: usize, value: [u8; N]) {
    bytes[offset..offset + N].copy_from_slice(&value);
}

/// Writes a UDP header without a checksum, which RFC 6935 section 5 allows for tunnels over IPv6: the inner frame has
/// checksums of its own. `length` counts what follows it.
#[expect(clippy::cast_possible_truncation, reason = "headers have less than 2^8 bytes")]
#[inline(always)]
fn write_udp(bytes: &mut [u8], envelope: &Envelope, port: u16, length: u16) {
    put(bytes, 0, envelope.source_port().to_be_bytes());
    put(bytes, 2, port.to_be_bytes());
    put(bytes, 4, (UDP as u16 + length).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use nightgate_abi::Address;

    use super::*;

    pub(super) const ENVELOPE: Envelope = Envelope {
        link_destination: [2, 0, 0, 0, 0, 9],
        link_source: [2, 0, 0, 0, 0, 1],
        inner: 1_514,
        hash: 0x0123 << 50,
    };

    fn port(flow: &FlowKey) -> u16 {
        Envelope { hash: hash(flow), ..ENVELOPE }.source_port()
    }

    #[test]
    fn both_directions_of_a_flow_share_a_dynamic_port() {
        for host in 1..=255 {
            let (a, b) = (Address::from_v4([10, 0, 0, host]), Address::from_v4([10, 1, 0, 1]));
            let (there, _) = FlowKey::new(6, (a, 40_000), (b, 80));
            let (back, _) = FlowKey::new(6, (b, 80), (a, 40_000));
            assert_eq!(port(&there), port(&back));
            assert!(port(&there) >= SOURCE_PORT_MIN);
        }
    }

    #[test]
    fn flows_that_differ_in_one_port_spread_over_the_ports() {
        let (a, b) = (Address::from_v4([10, 0, 0, 1]), Address::from_v4([10, 1, 0, 1]));
        let mut buckets = [0; 16];
        for source_port in 0..16_000 {
            let (key, _) = FlowKey::new(6, (a, source_port), (b, 80));
            buckets[usize::from(port(&key) & 15)] += 1;
        }
        assert!(buckets.iter().all(|count| (800..=1_200).contains(count)), "{buckets:?}");
    }

    #[test]
    fn overheads_are_what_the_headers_take() {
        let found =
            Encapsulation::ALL.map(|kind| (overhead(Family::V4, kind), overhead(Family::V6, kind)));
        assert_eq!(found, [(50, 70), (78, 98), (50, 70), (42, 62), (0, 0)]);
    }

    #[test]
    fn the_longest_frame_has_a_length_in_every_header() {
        let envelope = Envelope { inner: INNER_MAX, ..ENVELOPE };
        for kind in Encapsulation::ALL {
            let expected = usize::from(INNER_MAX) + outer::IPV4 + length(kind);
            assert_eq!(usize::from(envelope.outer_length(Family::V4, kind)), expected, "{kind:?}");
        }
    }
}
