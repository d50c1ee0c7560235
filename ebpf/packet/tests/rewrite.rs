//! Rewritten packets are what a sender with the other address would have sent: compared with checksums computed
//! anew over the whole packet.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
};

use nightgate_abi::{Address, Family, Reason};
use nightgate_packet::{
    Frame, PacketMeta,
    checksum::Difference,
    rewrite::{
        Change, Checksum, Covered, Layout, Message, Reporter, Rewritable, Side, Zero, rewrite,
        rewrite_error, rewrite_quoted,
    },
};
use proptest::prelude::*;

const ETHERNET: usize = 14;
const PROTOCOLS: [u8; 7] = [1, 6, 17, 33, 47, 58, 136];
const TCP_CHECKSUM: usize = 16;

proptest! {
    #[test]
    fn a_rewritten_packet_is_the_one_from_the_other_end(
        packet in packet(), new in any::<[u8; 16]>(), port: u16, is_source: bool,
    ) {
        let change = packet.change(is_source, new, port);
        let frame = Bytes::new(packet.build(Sums::Right));
        rewrite(&frame, &packet.layout(0), &change).unwrap();
        prop_assert_eq!(frame.bytes(), packet.changed(&change).build(Sums::Right));
        prop_assert!(frame.has_true_sum());
    }

    #[test]
    fn an_absent_udp_checksum_stays_absent(
        mut packet in packet(), new in any::<[u8; 16]>(), port: u16, is_source: bool,
    ) {
        packet.protocol = 17;
        let change = packet.change(is_source, new, port);
        let frame = Bytes::new(packet.build(Sums::Absent));
        rewrite(&frame, &packet.layout(0), &change).unwrap();
        prop_assert_eq!(frame.bytes(), packet.changed(&change).build(Sums::Absent));
    }

    #[test]
    fn later_fragments_change_their_addresses_only(
        packet in packet(), new in any::<[u8; 16]>(), port: u16,
    ) {
        let change = packet.change(true, new, port);
        let frame = Bytes::new(packet.build(Sums::Right));
        let before = frame.bytes();
        let layout = Layout { message: Message::Fragment, ..packet.layout(0) };
        rewrite(&frame, &layout, &change).unwrap();
        prop_assert!(frame.has_true_sum());
        let after = frame.bytes();
        prop_assert_eq!(&after[layout.transport..], &before[layout.transport..]);
        prop_assert_eq!(&after[..layout.transport], &packet.changed(&change).build(Sums::Right)[..layout.transport]);
    }

    #[test]
    fn an_error_quotes_what_the_other_end_would_have_sent(
        packet in packet(), new in any::<[u8; 16]>(), port: u16, is_source: bool, kept in 8_usize..64,
    ) {
        let kept = kept + usize::from(packet.splits_checksum(kept));
        let change = packet.change(is_source, new, port);
        let error = |quoted: &Generated| {
            let datagram = &quoted.build(Sums::Right)[ETHERNET..];
            let kept = (quoted.header() + kept).min(datagram.len());
            let payload = [&[0; 4][..], &datagram[..kept]].concat();
            Generated { protocol: packet.icmp(), payload, ..outer(packet.family) }
        };
        let before = error(&packet);
        let frame = Bytes::new(before.build(Sums::Right));
        let quoted_at = before.layout(0).transport + 8 - ETHERNET;
        rewrite_quoted(&frame, &before.layout(0), &packet.layout(quoted_at), &change).unwrap();
        prop_assert_eq!(frame.bytes(), error(&packet.changed(&change)).build(Sums::Right));
    }

    #[test]
    fn an_error_goes_to_who_it_quotes_and_comes_from_who_that_one_knows(
        packet in packet(), new in any::<[u8; 16]>(), port: u16, router: Option<[u8; 16]>,
        ends in any::<(bool, bool)>(), padding in 0_usize..24,
    ) {
        let (is_source, is_own) = ends;
        let change = packet.change(is_source, new, port);
        let reporter = if is_own { Reporter::Gateway } else { Reporter::Another };
        let error = |quoted: &Generated, source| {
            // Shorter than the header of TCP: behind it, there is padding only.
            let datagram = &quoted.build(Sums::Right)[ETHERNET..][..quoted.header() + 8];
            let payload = [&[0; 4][..], datagram].concat();
            Generated { protocol: packet.icmp(), payload, source, destination: quoted.source, ..outer(packet.family) }
        };
        let after = packet.changed(&change);
        let stays = is_source || (is_own && router.is_some());
        let before = error(&packet, router.unwrap_or(packet.destination));
        let source = if stays { before.source } else { after.destination };
        let padding = vec![0x5a; padding];
        let frame = Bytes::new([before.build(Sums::Right), padding.clone()].concat());
        let quoted = packet.meta(before.layout(0).transport + 8 - ETHERNET);
        rewrite_error(&frame, &before.meta(0), &quoted, &change, reporter).unwrap();
        let expected = [error(&after, source).build(Sums::Right), padding].concat();
        prop_assert_eq!(frame.bytes(), expected);
    }

    /// What half a checksum becomes depends on the other half, which is not there.
    #[test]
    fn half_a_quoted_checksum_stays(packet in packet(), new in any::<[u8; 16]>(), port: u16) {
        let packet = Generated { protocol: 6, ..packet };
        let change = packet.change(true, new, port);
        let header = packet.header() + TCP_CHECKSUM + 1;
        let error = |quoted: &[u8]| {
            let payload = [&[0; 4][..], quoted].concat();
            Generated { protocol: packet.icmp(), payload, ..outer(packet.family) }
        };
        let quoted = packet.build(Sums::Right)[ETHERNET..ETHERNET + header].to_vec();
        let before = error(&quoted);
        let frame = Bytes::new(before.build(Sums::Right));
        let quoted_at = before.layout(0).transport + 8 - ETHERNET;
        rewrite_quoted(&frame, &before.layout(0), &packet.layout(quoted_at), &change).unwrap();
        let mut expected = packet.changed(&change).build(Sums::Right)[ETHERNET..ETHERNET + header].to_vec();
        expected[header - 1] = quoted[header - 1];
        prop_assert_eq!(frame.bytes(), error(&expected).build(Sums::Right));
    }
}

/// A packet without a TCP header of its own: a message's first four bytes, its checksum where the protocol has
/// it, and bytes.
#[derive(Clone, Debug)]
struct Generated {
    family: Family,
    protocol: u8,
    source: [u8; 16],
    destination: [u8; 16],
    /// Both ports; the identifier of an echo is the first.
    ports: [u16; 2],
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Sums {
    Right,
    Absent,
}

fn packet() -> impl Strategy<Value = Generated> {
    let bytes = proptest::collection::vec(any::<u8>(), 16..80);
    let addresses = (any::<[u8; 16]>(), any::<[u8; 16]>());
    (any::<bool>(), 0..PROTOCOLS.len(), addresses, any::<[u16; 2]>(), bytes).prop_map(
        |(is_v4, protocol, (source, destination), ports, payload)| {
            let family = if is_v4 { Family::V4 } else { Family::V6 };
            let protocol = match (family, PROTOCOLS[protocol]) {
                (Family::V4, 58) => 1,
                (Family::V6, 1) => 58,
                (_, protocol) => protocol,
            };
            Generated { family, protocol, source, destination, ports, payload }
        },
    )
}

fn outer(family: Family) -> Generated {
    let (source, destination) = ([0x21; 16], [0x43; 16]);
    Generated { family, protocol: 0, source, destination, ports: [0; 2], payload: Vec::new() }
}

impl Generated {
    fn icmp(&self) -> u8 {
        if self.family == Family::V4 { 1 } else { 58 }
    }

    fn header(&self) -> usize {
        if self.family == Family::V4 { 20 } else { 40 }
    }

    /// Whether so many bytes of the message end in the middle of its checksum.
    fn splits_checksum(&self, kept: usize) -> bool {
        self.protocol == 6 && kept == TCP_CHECKSUM + 1
    }

    fn has_ports(&self) -> bool {
        [6, 17].contains(&self.protocol)
    }

    fn address(&self, bytes: [u8; 16]) -> Address {
        match self.family {
            Family::V4 => Address::from_v4(*bytes.first_chunk().unwrap()),
            // An address that means IPv4 is on no wire.
            Family::V6 => Address::from_v6([&[0x20][..], &bytes[1..]].concat().try_into().unwrap()),
        }
    }

    fn layout(&self, shift: usize) -> Layout {
        let network = ETHERNET + shift;
        let (transport, message) = (network + self.header(), Message::Headed);
        Layout { family: self.family, network, transport, protocol: self.protocol, message }
    }

    fn meta(&self, shift: usize) -> PacketMeta {
        let [source, destination] = [self.source, self.destination].map(|a| self.address(a));
        let Layout { network, transport, .. } = self.layout(shift);
        let [network, transport] = [network, transport].map(|offset| offset.try_into().unwrap());
        let meta = PacketMeta::between(self.protocol, (source, 0), (destination, 0));
        PacketMeta { network, transport, ..meta }
    }

    fn change(&self, is_source: bool, new: [u8; 16], port: u16) -> Change {
        let has_identifier = [1, 58].contains(&self.protocol);
        let port = if self.has_ports() || has_identifier { port } else { 0 };
        let (side, address, old_port) = if is_source {
            (Side::Source, self.source, self.ports[0])
        } else {
            (Side::Destination, self.destination, self.ports[usize::from(!has_identifier)])
        };
        let old_port = if self.has_ports() || has_identifier { old_port } else { 0 };
        Change { side, old: (self.address(address), old_port), new: (self.address(new), port) }
    }

    fn changed(&self, change: &Change) -> Self {
        let mut packet = self.clone();
        let octets = match change.new.0.to_ip() {
            IpAddr::V4(v4) => [&v4.octets()[..], &[0; 12]].concat().try_into().unwrap(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let is_source = change.side == Side::Source;
        *(if is_source { &mut packet.source } else { &mut packet.destination }) = octets;
        if self.has_ports() {
            packet.ports[usize::from(!is_source)] = change.new.1;
        } else if [1, 58].contains(&self.protocol) {
            packet.ports[0] = change.new.1;
        }
        packet
    }

    fn build(&self, sums: Sums) -> Vec<u8> {
        let [source, destination] = [self.source, self.destination].map(|a| self.address(a));
        let message = self.message(sums, source, destination);
        let length = u16::try_from(message.len()).unwrap();
        let header = match self.family {
            Family::V4 => {
                let [high, low] = (length + 20).to_be_bytes();
                let fixed = [0x45, 0, high, low, 1, 2, 0x40, 0, 64, self.protocol, 0, 0];
                let addresses = [source.v4_octets(), destination.v4_octets()].concat();
                let mut header = [&fixed[..], &addresses].concat();
                let sum = sum(&header);
                header[10..12].copy_from_slice(&sum);
                header
            }
            Family::V6 => {
                let [high, low] = length.to_be_bytes();
                let fixed = [0x60, 0, 0, 0, high, low, self.protocol, 64];
                [&fixed[..], &source.octets(), &destination.octets()].concat()
            }
        };
        [&[0; ETHERNET][..], &header, &message].concat()
    }

    /// The message with its checksum computed over all of it.
    fn message(&self, sums: Sums, source: Address, destination: Address) -> Vec<u8> {
        let [a, b] = self.ports.map(u16::to_be_bytes);
        let mut message = match self.protocol {
            1 | 58 => [&[3, 0, 0, 0][..], &a, &self.payload[4.min(self.payload.len())..]].concat(),
            6 | 17 => [&a[..], &b, &self.payload].concat(),
            _ => self.payload.clone(),
        };
        if [1, 58].contains(&self.protocol) && self.ports == [0; 2] {
            message = [&[3, 0, 0, 0][..], &self.payload].concat();
        }
        let at = match self.protocol {
            6 => 16,
            17 | 33 | 136 => 6,
            1 | 58 => 2,
            _ => return message,
        };
        message[at..at + 2].fill(0);
        if sums == Sums::Right {
            let (length, protocol) = (u32::try_from(message.len()).unwrap(), self.protocol);
            let pseudo = match self.family {
                _ if protocol == 1 => Vec::new(),
                Family::V4 => [source.v4_octets(), destination.v4_octets()].concat(),
                Family::V6 => [source.octets(), destination.octets()].concat(),
            };
            let rest = if protocol == 1 {
                Vec::new()
            } else {
                [length, u32::from(protocol)].map(u32::to_be_bytes).concat()
            };
            let value = match sum(&[&pseudo[..], &rest, &message].concat()) {
                [0, 0] if protocol == 17 => [0xff, 0xff],
                value => value,
            };
            message[at..at + 2].copy_from_slice(&value);
        }
        message
    }
}

/// The Internet checksum, byte by byte (RFC 1071).
fn sum(bytes: &[u8]) -> [u8; 2] {
    let mut total: u64 = 0;
    for (index, byte) in bytes.iter().enumerate() {
        total += u64::from(*byte) << if index % 2 == 0 { 8 } else { 0 };
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    (!u16::try_from(total).unwrap()).to_be_bytes()
}

/// A frame in memory.
struct Bytes {
    bytes: RefCell<Vec<u8>>,
    /// Ones' complement sum of what is behind the Ethernet header, as a network card has computed it.
    sum: Cell<u64>,
}

impl Bytes {
    fn new(bytes: Vec<u8>) -> Self {
        let sum = Cell::new(whole_sum(&bytes));
        Self { bytes: RefCell::new(bytes), sum }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.borrow().clone()
    }

    /// Whether the card's sum is still that of the bytes.
    fn has_true_sum(&self) -> bool {
        self.sum.get() == whole_sum(&self.bytes())
    }
}

fn whole_sum(frame: &[u8]) -> u64 {
    let words = frame[ETHERNET..].chunks(2);
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    words.map(word).sum::<u64>() % 0xffff
}

impl Frame for Bytes {
    fn length(&self) -> usize {
        self.bytes.borrow().len()
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.borrow().as_slice().read(offset)
    }
}

impl Rewritable for Bytes {
    fn replace<const N: usize>(&self, offset: usize, bytes: [u8; N]) -> Result<(), Reason> {
        self.bytes.borrow_mut()[offset..offset + N].copy_from_slice(&bytes);
        Ok(())
    }

    fn replace_unsummed<const N: usize>(
        &self,
        offset: usize,
        bytes: [u8; N],
    ) -> Result<(), Reason> {
        self.replace(offset, bytes)?;
        self.sum.set(whole_sum(&self.bytes()));
        Ok(())
    }

    fn adjust_header(&self, offset: usize, change: Difference) -> Result<(), Reason> {
        let old = self.read(offset).unwrap();
        self.replace(offset, change.apply(old))
    }

    fn adjust(&self, checksum: Checksum, change: Difference, of: Covered) -> Result<(), Reason> {
        match (self.read(checksum.offset).unwrap(), checksum.zero) {
            ([0, 0], Zero::Absent) => Ok(()),
            (old, zero) => {
                let new = match (change.apply(old), zero) {
                    ([0, 0], Zero::Absent) => [0xff, 0xff],
                    (new, _) => new,
                };
                self.replace(checksum.offset, new)?;
                if of == Covered::PseudoHeader(Family::V4) {
                    // The kernel sees to it.
                    self.sum.set(whole_sum(&self.bytes()));
                }
                Ok(())
            }
        }
    }
}
