//! Real sockets on both sides of the gateway.

use std::net::{IpAddr, SocketAddr};

use nightgate_abi::Reason::{TcpAcknowledgement, TcpReset, TcpState, TcpWindow};
use nightgate_datapath_tests::{
    hosts::{Hosts, SERVER},
    with_world,
};

/// The least MTU of IPv6 (RFC 8200 section 5).
const SMALL_MTU: usize = 1280;

#[test]
fn a_sender_learns_of_a_smaller_mtu_behind_the_gateway() {
    const RULES: &str = "\
- { id: bulk, from: lan, to: wan, protocol: tcp, destination_ports: [7100], action: accept }
";
    with_hosts(RULES, |hosts| {
        for (namespace, interface) in [(&hosts.router, "down0"), (&hosts.server, "up0")] {
            namespace.ip(&format!("link set {interface} mtu {SMALL_MTU}")).expect("set");
        }
        // The server says its own MTU in its first segment; without that, the client has to be told by the router.
        for (family, router) in [("-4", "10.3.0.1"), ("-6", "2001:db8:3::1")] {
            let line = format!("{family} route change default via {router} advmss 1400");
            hosts.server.ip(&line).expect("changed");
        }
        for server in SERVER {
            hosts.transfer(SocketAddr::new(ip(server), 7100));
        }
        let learnt =
            SERVER.map(|server| hosts.client.ip(&format!("route get {server}")).expect("a route"));
        for route in learnt {
            assert!(route.contains(&format!("mtu {SMALL_MTU}")), "{route}");
        }
    });
}

#[test]
fn nothing_of_a_transfer_over_a_lossy_link_is_refused() {
    const RULES: &str = "- { id: bulk, from: lan, to: wan, protocol: tcp, action: accept }";
    with_world(RULES, |world| {
        let hosts = Hosts::new(world);
        // One packet in fifty is lost behind the gateway, and one in fifty before it on the way back.
        for line in [
            "add table inet lossy",
            "add chain inet lossy forward { type filter hook forward priority 0; }",
            "add rule inet lossy forward numgen random mod 50 == 0 counter drop",
        ] {
            hosts.router.shell(&format!("nft {line}")).expect("a rule");
        }
        for server in SERVER {
            hosts.transfer(SocketAddr::new(ip(server), 7100));
        }
        let lost = hosts.router.shell("nft list table inet lossy").expect("listed");
        assert!(lost.contains("counter packets") && !lost.contains("packets 0 "), "{lost}");
        let statistics = world.datapath.statistics().expect("statistics");
        for reason in [TcpWindow, TcpAcknowledgement, TcpReset, TcpState] {
            assert_eq!(statistics.get(reason).packets, 0, "{reason}");
        }
    });
}

/// Calls a function with a gateway between hosts.
fn with_hosts(rules: &str, test: impl FnOnce(&Hosts) + Send) {
    with_world(rules, |world| {
        let hosts = Hosts::new(world);
        test(&hosts);
    });
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
