//! ICMP and ICMPv6 errors: they pass with the flow of the packet that they quote, from any router on its path.

use nightgate_abi::Reason::{
    Forwarded, IcmpQuote, IcmpUnrelated, Local, NoRule, Sent, ZoneMismatch,
};
use nightgate_datapath_tests::{LAN, WAN, frame::*, with_world};
use tcp_flags::{ACK, SYN};

const RULES: &str = "\
- { id: all, from: lan, to: wan, action: accept }
- { id: own, from: local, to: wan, action: accept }
- { id: icmp, from: wan, to: [lan, local], protocol: icmp, action: accept }
- { id: icmp6, from: wan, to: [lan, local], protocol: icmpv6, action: accept }";

/// Ends of a flow, a router on its way, and the type of a destination's being unreachable.
const FAMILIES: [(&str, &str, &str, u8); 2] = [
    ("10.1.0.2:4000", "192.0.2.1:80", "203.0.113.1", 3),
    ("[2001:db8:1::2]:4000", "[2001:db8:9::1]:80", "2001:db8:77::1", 1),
];

/// An error from a router that quotes a frame's packet.
fn error(router: &str, to: &str, kind: u8, about: &[u8]) -> Vec<u8> {
    let [router, to] = [router, host(to)].map(|text| text.parse().expect("an address"));
    let quoted = &about[14..];
    let quoted = &quoted[..quoted.len().min(64)];
    let protocol = if matches!(router, std::net::IpAddr::V4(_)) { 1 } else { 58 };
    ip(router, to, protocol, &[&[kind, 0, 0, 0, 0, 0, 0, 0][..], quoted].concat())
}

fn host(end: &str) -> &str {
    let (host, _) = end.rsplit_once(':').expect("an address and port");
    host.trim_matches(['[', ']'])
}

#[test]
fn errors_about_a_flow_pass_and_count_on_it() {
    for (client, server, router, unreachable) in FAMILIES {
        with_world(RULES, |world| {
            for packet in [segment(client, server, SYN, [1_000, 0], 0), udp(client, server)] {
                world.receive(LAN, &packet);
                for kind in [unreachable, if unreachable == 3 { 11 } else { 2 }] {
                    let error = error(router, client, kind, &packet);
                    assert_eq!(world.receive(WAN, &error).reason, Forwarded);
                    assert_eq!(world.forward(WAN, LAN, &error).reason, Sent);
                }
            }
            let flows = world.datapath.flows().expect("flows");
            assert_eq!(flows.len(), 2, "an error begins none");
            for flow in flows {
                assert_eq!((flow.origin.sent.packets, flow.responder.sent.packets), (1, 2));
            }
        });
    }
}

#[test]
fn errors_about_answers_and_about_the_gateways_own_packets_pass() {
    for (client, server, router, unreachable) in FAMILIES {
        with_world(RULES, |world| {
            world.receive(LAN, &segment(client, server, SYN, [1_000, 0], 0));
            let answer = segment(server, client, SYN | ACK, [5_000, 1_001], 0);
            world.receive(WAN, &answer);
            let about = error(router, server, unreachable, &answer);
            assert_eq!(world.receive(LAN, &about).reason, Forwarded);

            let own = if unreachable == 3 { "10.2.0.1:9" } else { "[2001:db8:2::1]:9" };
            let packet = udp(own, server);
            world.send(WAN, &packet);
            let about = error(router, own, unreachable, &packet);
            assert_eq!(world.receive(WAN, &about).reason, Local);
            // The gateway itself says that it cannot forward what came.
            let gateway = if unreachable == 3 { "10.1.0.1" } else { "2001:db8:1::1" };
            let syn = segment(client, server, SYN, [1_000, 0], 0);
            let about = error(gateway, client, unreachable, &syn);
            assert_eq!(world.send(LAN, &about).reason, Sent);
        });
    }
}

#[test]
fn echoes_are_quoted_by_their_identifier() {
    for (host, far, router, kind, unreachable) in [
        ("10.1.0.2", "192.0.2.1", "203.0.113.1", 8, 3),
        ("2001:db8:1::2", "2001:db8:9::1", "2001:db8:77::1", 128, 1),
    ] {
        with_world(RULES, |world| {
            world.receive(LAN, &icmp(host, far, kind, 7));
            let end = format!("[{host}]:0");
            let about = error(router, &end, unreachable, &icmp(host, far, kind, 7));
            assert_eq!(world.receive(WAN, &about).reason, Forwarded);
            let other = error(router, &end, unreachable, &icmp(host, far, kind, 8));
            assert_eq!(world.receive(WAN, &other).reason, IcmpUnrelated);
        });
    }
}

#[test]
fn other_errors_are_refused_whatever_the_rules() {
    for (client, server, router, unreachable) in FAMILIES {
        with_world(RULES, |world| {
            let syn = segment(client, server, SYN, [1_000, 0], 0);
            let refused = |world: &mut nightgate_datapath_tests::World<'_>, frame: &[u8]| {
                world.receive(WAN, frame).reason
            };
            let about = error(router, client, unreachable, &syn);
            assert_eq!(refused(world, &about), IcmpUnrelated, "no flow");
            world.receive(LAN, &syn);
            assert_eq!(refused(world, &about), Forwarded);
            let guessed = segment(client, server, SYN, [900_000, 0], 0);
            let guessed = error(router, client, unreachable, &guessed);
            assert_eq!(refused(world, &guessed), IcmpUnrelated, "another number");
            let elsewhere = error(router, server, unreachable, &syn);
            assert_eq!(refused(world, &elsewhere), IcmpQuote, "to who has not sent it");
            let network = if unreachable == 3 { 20 } else { 40 };
            let short = error(router, client, unreachable, &syn[..14 + network + 7]);
            assert_eq!(refused(world, &short), IcmpQuote, "cut off");
            // A rule does not make it known, and the flow itself is judged as ever.
            world.commit(" []");
            assert_eq!(refused(world, &about), IcmpUnrelated, "of other rules");
            assert_eq!(world.receive(LAN, &syn).reason, NoRule);
        });
    }
}

#[test]
fn an_error_leaves_only_towards_who_sent_the_packet() {
    for (client, server, router, unreachable) in FAMILIES {
        with_world(RULES, |world| {
            let syn = segment(client, server, SYN, [1_000, 0], 0);
            world.receive(LAN, &syn);
            let about = error(router, client, unreachable, &syn);
            assert_eq!(world.forward(WAN, WAN, &about).reason, ZoneMismatch);
        });
    }
}
