//! Ethernet, tags, ARP.

use nightgate_abi::Reason::*;
use nightgate_datapath_tests::{
    LAN, WAN,
    fixture::{
        Way::{In, Out, Through},
        check,
    },
    frame::*,
};

use crate::{L3, OPEN, syn, syn6};

/// Tag protocol identifiers: IEEE 802.1Q, 802.1ad.
const Q: u16 = 0x8100;
const AD: u16 = 0x88a8;

#[test]
fn one_or_two_tags_are_looked_behind() {
    check(
        OPEN,
        &[
            ("no tag", In(LAN), syn(), Forwarded),
            ("no tag, v6", In(LAN), syn6(), Forwarded),
            ("802.1Q", In(LAN), tagged(Q, 1, &syn()), Forwarded),
            ("802.1Q, v6", In(LAN), tagged(Q, 1, &syn6()), Forwarded),
            ("priority tag: VLAN 0", In(LAN), tagged(Q, 0, &syn()), Forwarded),
            ("the last VLAN", In(LAN), tagged(Q, 4094, &syn6()), Forwarded),
            ("priority and drop bits", In(LAN), tagged(Q, 0xf001, &syn()), Forwarded),
            ("802.1ad alone", In(LAN), tagged(AD, 7, &syn6()), Forwarded),
            ("QinQ", In(LAN), tagged(AD, 7, &tagged(Q, 8, &syn())), Forwarded),
            ("QinQ, v6", In(LAN), tagged(AD, 7, &tagged(Q, 8, &syn6())), Forwarded),
            ("two 802.1Q", In(LAN), tagged(Q, 7, &tagged(Q, 8, &syn())), Forwarded),
            ("two 802.1ad", In(LAN), tagged(AD, 7, &tagged(AD, 8, &syn6())), Forwarded),
            ("QinQ out", Out(WAN), tagged(AD, 7, &tagged(Q, 8, &own())), Sent),
            ("QinQ through", Through(LAN, WAN), tagged(AD, 7, &tagged(Q, 8, &syn())), Sent),
            ("tagged arp", In(LAN), tagged(Q, 9, &arp()), Arp),
            ("QinQ arp", In(LAN), tagged(AD, 9, &tagged(Q, 9, &arp())), Arp),
        ],
    );
}

#[test]
fn deeper_tags_and_halves_of_tags_are_refused() {
    let three = |outer| tagged(outer, 1, &tagged(Q, 2, &tagged(Q, 3, &syn())));
    check(
        OPEN,
        &[
            ("three 802.1Q", In(LAN), three(Q), VlanDepth),
            ("802.1ad around two", In(LAN), three(AD), VlanDepth),
            ("three tags out", Out(WAN), three(AD), VlanDepth),
            ("four tags", In(LAN), tagged(AD, 4, &three(AD)), VlanDepth),
            (
                "802.1ad inside",
                In(LAN),
                tagged(Q, 1, &tagged(Q, 2, &tagged(AD, 3, &syn6()))),
                VlanDepth,
            ),
            (
                "nothing behind the tag's EtherType",
                In(LAN),
                cut(tagged(Q, 5, &syn()), 14),
                VlanTruncated,
            ),
            ("one byte of a tag", In(LAN), cut(tagged(Q, 5, &syn()), 15), VlanTruncated),
            ("three bytes of a tag", In(LAN), cut(tagged(Q, 5, &syn()), 17), VlanTruncated),
            (
                "the second tag cut off",
                In(LAN),
                cut(tagged(AD, 5, &tagged(Q, 6, &syn())), 20),
                VlanTruncated,
            ),
            ("a tag around nothing", In(LAN), cut(tagged(Q, 5, &syn()), 18), Ipv4Truncated),
            ("a tag around nothing, v6", In(LAN), cut(tagged(Q, 5, &syn6()), 18), Ipv6Truncated),
        ],
    );
}

#[test]
fn arp_of_ipv4_over_ethernet_passes_whatever_it_says() {
    let reply = patched(arp(), L3 + 7, &[2]);
    check(
        OPEN,
        &[
            ("request", In(LAN), arp(), Arp),
            ("reply", In(WAN), reply.clone(), Arp),
            ("reply out", Out(LAN), reply, Arp),
            ("reverse request", In(LAN), patched(arp(), L3 + 7, &[3]), Arp),
            ("padded", In(LAN), padded(arp()), Arp),
            ("through", Through(LAN, WAN), arp(), Arp),
        ],
    );
}

#[test]
fn other_arp_is_refused() {
    check(
        OPEN,
        &[
            ("token ring", In(LAN), patched(arp(), L3, &[0, 6]), ArpMalformed),
            ("for IPv6", In(LAN), patched(arp(), L3 + 2, &[0x86, 0xdd]), ArpMalformed),
            ("long hardware addresses", In(LAN), patched(arp(), L3 + 4, &[8]), ArpMalformed),
            ("no hardware addresses", In(LAN), patched(arp(), L3 + 4, &[0]), ArpMalformed),
            ("long protocol addresses", In(LAN), patched(arp(), L3 + 5, &[16]), ArpMalformed),
            ("empty", In(LAN), cut(arp(), L3), ArpMalformed),
            ("fixed part cut off", In(LAN), cut(arp(), L3 + 5), ArpMalformed),
            ("last byte cut off", In(LAN), cut(arp(), L3 + 27), ArpMalformed),
            ("tagged and cut off", In(LAN), cut(tagged(Q, 1, &arp()), L3 + 31), ArpMalformed),
            ("cut off, out", Out(WAN), cut(arp(), L3 + 27), ArpMalformed),
        ],
    );
}

#[test]
fn what_is_neither_ip_nor_arp_is_refused() {
    let frame = |ether_type| ethernet(ether_type, &[0; 46]);
    check(
        OPEN,
        &[
            ("802.3 length 0", In(LAN), frame(0), EtherType),
            ("802.3 length 1500 (spanning tree, SNAP)", In(LAN), frame(1500), EtherType),
            ("between lengths and types", In(LAN), frame(1535), EtherType),
            ("wake-on-LAN", In(LAN), frame(0x0842), EtherType),
            ("RARP", In(LAN), frame(0x8035), EtherType),
            ("AppleTalk", In(LAN), frame(0x809b), EtherType),
            ("IPX", In(LAN), frame(0x8137), EtherType),
            ("MPLS", In(LAN), frame(0x8847), EtherType),
            ("PPPoE discovery", In(LAN), frame(0x8863), EtherType),
            ("PPPoE session", In(LAN), frame(0x8864), EtherType),
            ("profinet", In(LAN), frame(0x8892), EtherType),
            ("MACsec", In(LAN), frame(0x88e5), EtherType),
            ("precision time", In(LAN), frame(0x88f7), EtherType),
            ("old QinQ tag", In(LAN), frame(0x9100), EtherType),
            ("all ones", In(LAN), frame(0xffff), EtherType),
            ("MPLS in a tag", In(LAN), tagged(Q, 3, &frame(0x8847)), EtherType),
            ("MPLS in QinQ", In(LAN), tagged(AD, 3, &tagged(Q, 3, &frame(0x8847))), EtherType),
            ("MPLS out", Out(WAN), frame(0x8847), EtherType),
        ],
    );
}

/// The gateway's own first packet of a connection.
fn own() -> Vec<u8> {
    tcp("10.2.0.1:999", "192.0.2.1:443", tcp_flags::SYN)
}
