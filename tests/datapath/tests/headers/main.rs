//! What headers look like: every well-formed one passes, every other has its reason.
//!
//! The rules accept everything, so that nothing but a header's form can refuse a packet.

mod cut;
mod ethernet;
mod ipv4;
mod ipv6;
mod transport;

use std::net::IpAddr;

use nightgate_datapath_tests::frame::{ip, tcp, tcp_flags::SYN};

/// Accept whatever can be accepted.
const OPEN: &str = "- { id: open, from: [lan, wan, local], to: [lan, wan, local], action: accept }";

/// Offset of the network header.
const L3: usize = 14;
/// Offset of the transport header behind IPv4 without options.
const L4: usize = 34;
/// Offset of the transport header behind IPv6 without extensions.
const L4_V6: usize = 54;

const CLIENT: [&str; 2] = ["10.1.0.2", "2001:db8:1::2"];
const SERVER: [&str; 2] = ["192.0.2.1", "2001:db8:9::1"];

/// The first packet of a connection through the gateway.
fn syn() -> Vec<u8> {
    tcp("10.1.0.2:40000", "192.0.2.1:80", SYN)
}

/// The same over IPv6.
fn syn6() -> Vec<u8> {
    tcp("[2001:db8:1::2]:40000", "[2001:db8:9::1]:80", SYN)
}

/// An IPv4 packet through the gateway.
fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [source, destination] = [CLIENT[0], SERVER[0]].map(address);
    ip(source, destination, protocol, payload)
}

/// An IPv6 packet through the gateway.
fn v6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [source, destination] = [CLIENT[1], SERVER[1]].map(address);
    ip(source, destination, protocol, payload)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
