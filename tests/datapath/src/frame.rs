//! Frames for tests. Checksums are zero: the programs do not look at them.

use std::net::{IpAddr, SocketAddr};

/// Source and destination of every frame's Ethernet header.
const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// TCP flags for [`tcp`].
pub use nightgate_packet::tcp_flags;

/// An Ethernet frame.
pub fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&MACS[..], &ether_type.to_be_bytes(), payload].concat()
}

/// A frame with an 802.1Q tag pushed in front of its EtherType.
pub fn tagged(tpid: u16, vlan: u16, frame: &[u8]) -> Vec<u8> {
    let (macs, rest) = frame.split_at(12);
    [macs, &tpid.to_be_bytes(), &vlan.to_be_bytes(), rest].concat()
}

/// An ARP request for IPv4 over Ethernet.
pub fn arp() -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, 1];
    ethernet(0x0806, &[&fixed[..], &[0; 20]].concat())
}

/// An IPv4 or IPv6 packet; the version follows from the addresses, which are of one family.
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = length(20 + payload.len()).to_be_bytes();
            let header = [0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
            let addresses = [source.octets(), destination.octets()].concat();
            ethernet(0x0800, &[&header[..], &addresses, payload].concat())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = length(payload.len()).to_be_bytes();
            let header = [0x60, 0, 0, 0, length[0], length[1], protocol, 64];
            let addresses = [source.octets(), destination.octets()].concat();
            ethernet(0x86dd, &[&header[..], &addresses, payload].concat())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("{source} and {destination} are of one family")
        }
    }
}

/// A TCP segment without data, such as `tcp("10.1.0.2:1000", "[2001:db8::1]:80", SYN)`. Its sequence number is 1 and
/// its acknowledgement 0.
pub fn tcp(source: &str, destination: &str, flags: u8) -> Vec<u8> {
    segment(source, destination, flags, [1, 0], 0)
}

/// A TCP segment with a sequence number and an acknowledgement, a window of 65,535 and as many bytes of data.
pub fn segment(
    source: &str,
    destination: &str,
    flags: u8,
    [sequence, acknowledgement]: [u32; 2],
    data: usize,
) -> Vec<u8> {
    let (source, destination) = (socket(source), socket(destination));
    let ports = ports(source, destination);
    let numbers = [sequence.to_be_bytes(), acknowledgement.to_be_bytes()].concat();
    let rest = [0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
    let payload = [&ports[..], &numbers, &rest, &vec![0; data]].concat();
    ip(source.ip(), destination.ip(), 6, &payload)
}

/// A UDP datagram with four bytes of data.
pub fn udp(source: &str, destination: &str) -> Vec<u8> {
    datagram(source, destination, b"data")
}

/// A UDP datagram.
pub fn datagram(source: &str, destination: &str, data: &[u8]) -> Vec<u8> {
    let (source, destination) = (socket(source), socket(destination));
    let [high, low] = length(8 + data.len()).to_be_bytes();
    let payload = [&ports(source, destination)[..], &[high, low, 0, 0], data].concat();
    ip(source.ip(), destination.ip(), 17, &payload)
}

/// An ICMP or ICMPv6 message of a type, with an identifier; the protocol follows from the addresses.
pub fn icmp(source: &str, destination: &str, kind: u8, identifier: u16) -> Vec<u8> {
    icmp_data(source, destination, kind, identifier, &[])
}

/// Likewise, with data.
pub fn icmp_data(
    source: &str,
    destination: &str,
    kind: u8,
    identifier: u16,
    data: &[u8],
) -> Vec<u8> {
    let (source, destination) = (address(source), address(destination));
    let [high, low] = identifier.to_be_bytes();
    let protocol = if source.is_ipv4() { 1 } else { 58 };
    let payload = [&[kind, 0, 0, 0, high, low, 0, 1], data].concat();
    ip(source, destination, protocol, &payload)
}

/// An ICMP or ICMPv6 message of a type and code, with an identifier.
pub fn message(source: &str, destination: &str, [kind, code]: [u8; 2], identifier: u16) -> Vec<u8> {
    let frame = icmp(source, destination, kind, identifier);
    let offset = frame.len() - 8;
    patched(frame, offset + 1, &[code])
}

/// A frame whose IP header carries a code point of differentiated services (RFC 2474), 0 to 63.
pub fn marked(frame: Vec<u8>, dscp: u8) -> Vec<u8> {
    let first = frame[14];
    let class = if first >> 4 == 4 { [first, dscp << 2] } else { [0x60 | dscp >> 2, dscp << 6] };
    patched(frame, 14, &class)
}

/// A frame from the host whose MAC address ends in this byte, 02:00:00:00:00:xx.
pub fn from_host(frame: Vec<u8>, last: u8) -> Vec<u8> {
    patched(frame, 6, &[2, 0, 0, 0, 0, last])
}

/// A packet of any protocol with eight bytes of payload.
pub fn other(source: &str, destination: &str, protocol: u8) -> Vec<u8> {
    ip(address(source), address(destination), protocol, &[0; 8])
}

/// A frame with bytes replaced from an offset on.
pub fn patched(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

/// The first bytes of a frame.
pub fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

/// An IPv4 frame with options behind its fixed header: a multiple of four bytes, at most 40.
pub fn with_options(frame: Vec<u8>, options: &[u8]) -> Vec<u8> {
    const FIXED: usize = 14 + 20;
    let words = u8::try_from(options.len() / 4).expect("few options");
    let length = length(frame.len() - 14 + options.len()).to_be_bytes();
    let whole = [&frame[..FIXED], options, &frame[FIXED..]].concat();
    patched(patched(whole, 14, &[0x45 + words]), 14 + 2, &length)
}

/// A frame with bytes behind the packet, as Ethernet pads short ones.
pub fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len() + 6, 0xff);
    frame
}

/// An IPv6 frame with bytes put between its fixed header and what followed, whose protocol becomes
/// `next_header`; the first byte put in becomes the old one.
pub fn extended(frame: Vec<u8>, next_header: u8, extension: &[u8]) -> Vec<u8> {
    const FIXED: usize = 14 + 40;
    const NEXT_HEADER: usize = 14 + 6;
    let mut extension = extension.to_vec();
    extension[0] = frame[NEXT_HEADER];
    let length = length(frame.len() - FIXED + extension.len()).to_be_bytes();
    let whole = [&frame[..FIXED], &extension, &frame[FIXED..]].concat();
    patched(patched(whole, 14 + 4, &length), NEXT_HEADER, &[next_header])
}

fn ports(source: SocketAddr, destination: SocketAddr) -> [u8; 4] {
    let ([a, b], [c, d]) = (source.port().to_be_bytes(), destination.port().to_be_bytes());
    [a, b, c, d]
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("a short packet")
}
