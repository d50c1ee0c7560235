//! Packets cut off at every byte.

use nightgate_abi::reason::Kind;
use nightgate_datapath_tests::{LAN, World, frame::*, with_world};
use nightgate_packet::parse;

use crate::{CLIENT, L3, OPEN, SERVER, syn, syn6, v4, v6};

/// The shortest frame that the kernel runs a program on.
const SHORTEST: usize = 14;

const OPTIONS: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let options = extended(extended(syn6(), 60, &OPTIONS), 0, &OPTIONS);
    let qinq = |frame: &[u8]| tagged(0x88a8, 1, &tagged(0x8100, 2, frame));
    vec![
        ("arp", tagged(0x8100, 1, &arp())),
        ("tcp", tagged(0x8100, 1, &syn())),
        ("tcp in QinQ", qinq(&syn())),
        ("tcp behind options", tagged(0x8100, 1, &with_options(syn(), &[1; 40]))),
        ("udp", tagged(0x8100, 1, &udp("10.1.0.2:9", "192.0.2.1:53"))),
        ("icmp", tagged(0x8100, 1, &icmp(CLIENT[0], SERVER[0], 8, 1))),
        ("tcp, v6", tagged(0x8100, 1, &syn6())),
        ("tcp in QinQ, v6", qinq(&syn6())),
        ("tcp behind extensions, v6", tagged(0x8100, 1, &options)),
        ("udp, v6", tagged(0x8100, 1, &udp("[2001:db8:1::2]:9", "[2001:db8:9::1]:53"))),
        ("icmpv6", tagged(0x8100, 1, &icmp(CLIENT[1], SERVER[1], 128, 1))),
    ]
}

/// The wire lost the end: what the header announces is not there.
#[test]
fn a_frame_that_ends_early_never_passes() {
    with_world(OPEN, |world| {
        for (name, frame) in frames() {
            assert_passes(world, name, &frame);
            for length in SHORTEST..frame.len() {
                assert_refused(world, name, &cut(frame.clone(), length));
            }
        }
    });
}

/// The sender lied: the network header announces exactly what is there, but the next header is not whole.
#[test]
fn a_packet_whose_transport_header_is_cut_off_never_passes() {
    let tcp = &syn()[L3 + 20..];
    let udp = &udp("10.1.0.2:9", "192.0.2.1:53")[L3 + 20..];
    let echo = [8, 0, 0, 0, 0, 1, 0, 1];
    let echo6 = [128, 0, 0, 0, 0, 1, 0, 1];
    with_world(OPEN, |world| {
        let headers =
            [("tcp", 6, 6, tcp, tcp), ("udp", 17, 17, udp, udp), ("echo", 1, 58, &echo, &echo6)];
        for (name, protocol, protocol6, header, header6) in headers {
            assert_passes(world, name, &v4(protocol, header));
            assert_passes(world, name, &v6(protocol6, header6));
            for length in 0..header.len() {
                assert_refused(world, name, &v4(protocol, &header[..length]));
                assert_refused(world, name, &v6(protocol6, &header6[..length]));
            }
        }
    });
}

/// The same inside a chain of extension headers.
#[test]
fn a_chain_of_extension_headers_that_ends_early_never_passes() {
    let whole = extended(extended(syn6(), 60, &OPTIONS), 0, &OPTIONS);
    let payload = whole[L3 + 40..].to_vec();
    with_world(OPEN, |world| {
        for length in 0..payload.len() {
            let length_field = u16::try_from(length).expect("short").to_be_bytes();
            let frame = cut(patched(whole.clone(), L3 + 4, &length_field), L3 + 40 + length);
            assert_refused(world, "chain", &frame);
        }
    });
}

fn assert_passes(world: &mut World<'_>, name: &str, frame: &[u8]) {
    let reason = world.receive(LAN, frame).reason;
    assert_eq!(reason.kind(), Kind::Pass, "{name}: {reason}");
}

/// Refused, for what the parser on the host says as well.
fn assert_refused(world: &mut World<'_>, name: &str, frame: &[u8]) {
    let reason = world.receive(LAN, frame).reason;
    let length = frame.len();
    assert_eq!(reason.kind(), Kind::Drop, "{name}, {length} bytes: {reason}");
    assert_eq!(parse(&frame).expect_err("malformed"), reason, "{name}, {length} bytes");
}
