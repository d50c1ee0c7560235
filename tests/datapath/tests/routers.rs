//! What routers and hosts say to groups and to everybody, as ordinary rules.

use nightgate_abi::Reason::{self, *};
use nightgate_datapath_tests::{
    LAN, WAN,
    fixture::{
        Way::{self, In, Out},
        check,
    },
    frame::*,
};

const RULES: &str = "\
- { id: ospf, from: [wan, local], to: [local, wan], protocol: ospf, action: accept }
- { id: vrrp, from: [lan, local], to: [local, lan], destination: [224.0.0.18, 'ff02::12'], protocol: vrrp, action: accept }
- { id: igmp, from: lan, to: local, protocol: igmp, action: accept }
- { id: bgp, from: wan, to: local, protocol: tcp, destination_ports: [179], action: accept }
- { id: tunnels, from: wan, to: local, protocol: esp, action: accept }
- { id: gre, from: lan, to: wan, protocol: gre, action: accept }
- { id: ah, from: lan, to: wan, protocol: ah, action: accept }
- { id: dhcp, from: lan, to: local, protocol: udp, destination_ports: [67, 547], action: accept }
- { id: leases, from: local, to: lan, protocol: udp, source_ports: [67], action: accept }
- { id: mdns, from: lan, to: local, destination: [224.0.0.251, 'ff02::fb'], protocol: udp, destination_ports: [5353], action: accept }
";

#[test]
fn groups_and_everybody_are_the_gateway_itself() {
    let cases: [(&str, Way, Vec<u8>, Reason); 25] = [
        ("OSPF to all routers", In(WAN), other("10.2.0.9", "224.0.0.5", 89), Local),
        ("OSPF to designated routers", In(WAN), other("10.2.0.9", "224.0.0.6", 89), Local),
        ("OSPF to the gateway", In(WAN), other("10.2.0.9", "10.2.0.1", 89), Local),
        ("OSPFv3", In(WAN), other("fe80::9", "ff02::5", 89), Local),
        ("OSPF of the gateway", Out(WAN), other("10.2.0.1", "224.0.0.5", 89), Sent),
        ("OSPFv3 of the gateway", Out(WAN), other("fe80::1", "ff02::5", 89), Sent),
        ("OSPF where no rule accepts it", In(LAN), other("10.1.0.9", "224.0.0.5", 89), NoRule),
        ("VRRP", In(LAN), other("10.1.0.9", "224.0.0.18", 112), Local),
        ("VRRP, v6", In(LAN), other("fe80::9", "ff02::12", 112), Local),
        ("VRRP of the gateway", Out(LAN), other("10.1.0.1", "224.0.0.18", 112), Sent),
        ("VRRP to another group", In(LAN), other("10.1.0.9", "224.0.0.5", 112), NoRule),
        ("IGMP", In(LAN), other("10.1.0.9", "224.0.0.22", 2), Local),
        ("BGP", In(WAN), tcp("10.2.0.9:4000", "10.2.0.1:179", tcp_flags::SYN), Local),
        ("ESP", In(WAN), other("192.0.2.9", "10.2.0.1", 50), Local),
        ("ESP, v6", In(WAN), other("2001:db8:9::9", "2001:db8:2::1", 50), Local),
        ("GRE", In(LAN), other("10.1.0.9", "192.0.2.9", 47), Forwarded),
        ("AH", In(LAN), other("10.1.0.9", "192.0.2.9", 51), Forwarded),
        ("DHCP discover", In(LAN), udp("0.0.0.0:68", "255.255.255.255:67"), Local),
        ("DHCP offer", Out(LAN), udp("10.1.0.1:67", "255.255.255.255:68"), Sent),
        ("DHCPv6 solicit", In(LAN), udp("[fe80::9]:546", "[ff02::1:2]:547"), Local),
        ("DHCP where no rule accepts it", In(WAN), udp("0.0.0.0:68", "255.255.255.255:69"), NoRule),
        (
            "DHCP of a flow of another zone",
            In(WAN),
            udp("0.0.0.0:68", "255.255.255.255:67"),
            ZoneMismatch,
        ),
        ("mDNS", In(LAN), udp("10.1.0.9:5353", "224.0.0.251:5353"), Local),
        ("mDNS, v6", In(LAN), udp("[fe80::9]:5353", "[ff02::fb]:5353"), Local),
        ("mDNS to another group", In(LAN), udp("10.1.0.9:5353", "224.0.0.252:5353"), NoRule),
    ];
    check(RULES, &cases);
}
