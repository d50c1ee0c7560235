//! The host's network configuration, changed and taken back in namespaces.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use nightgate_lab::{Namespace, veth};
use nightgate_netlink::{
    AdminState, Interception, Interface, MIRROR_DEVICE, MIRROR_PEER, Netlink, NetlinkError,
    NextHop, Passenger, Prefix, Route, Way,
};

const INTERCEPTION: Interception = Interception { mark: 0x4e47_0001, table: 20_039 };

/// Runs a future inside a namespace; the connection it is given lives there too.
fn inside(namespace: &Namespace, test: impl AsyncFnOnce(&Netlink) -> Result<()> + Send) {
    namespace
        .enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { test(&Netlink::connect()?).await })
        })
        .unwrap()
        .unwrap();
}

/// Everything that can be configured, as text to compare; how far the kernel's look for duplicates of
/// IPv6 addresses has come is left out.
fn configuration(namespace: &Namespace) -> String {
    ["-o link show", "-o address show", "rule show", "-6 rule show"]
        .into_iter()
        .chain(["route show table all", "-6 route show table all"])
        .map(|command| namespace.ip(command).unwrap().replace(" tentative", ""))
        .collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_interface_is_found_by_name_and_a_missing_one_is_named_in_the_error() {
    let (here, there) = (Namespace::new("here").unwrap(), Namespace::new("there").unwrap());
    veth((&here, "lan0"), (&there, "peer0")).unwrap();
    here.ip("link set lan0 address 02:00:00:00:00:07 mtu 1400").unwrap();
    inside(&here, async |netlink| {
        let interface = netlink.interface("lan0").await?;
        assert_eq!(interface.mac.map(|mac| mac.to_string()).as_deref(), Some("02:00:00:00:00:07"));
        assert_eq!((interface.mtu, interface.state), (1400, AdminState::Up));
        let error = netlink.interface("wan7").await.unwrap_err();
        assert!(matches!(&error, NetlinkError::NoInterface { name } if name == "wan7"), "{error}");
        Ok(())
    });
}

#[test]
fn interception_routes_marked_packets_to_this_host_and_is_taken_back() {
    let host = Namespace::new("host").unwrap();
    let before = configuration(&host);
    inside(&host, async |netlink| {
        let undo = netlink.intercept(INTERCEPTION).await?;
        for destination in ["100.64.1.1", "fd64::1"] {
            let marked = host.ip(&format!("route get {destination} mark 0x4e470001"))?;
            assert!(marked.starts_with("local ") && marked.contains("table 20039"), "{marked}");
            assert!(host.ip(&format!("route get {destination}")).is_err());
        }
        netlink.undo(undo).await?;
        Ok(())
    });
    assert_eq!(configuration(&host), before);
}

#[test]
fn interception_left_by_an_earlier_run_is_adopted() {
    let host = Namespace::new("host").unwrap();
    let before = configuration(&host);
    inside(&host, async |netlink| {
        drop(netlink.intercept(INTERCEPTION).await?);
        let left = configuration(&host);
        let undo = netlink.intercept(INTERCEPTION).await?;
        assert_eq!(configuration(&host), left, "nothing is there twice");
        netlink.undo(undo).await?;
        Ok(())
    });
    assert_eq!(configuration(&host), before);
}

#[test]
fn policy_routing_of_somebody_else_is_left_alone() {
    let host = Namespace::new("host").unwrap();
    for family in ["-4", "-6"] {
        host.ip(&format!("{family} rule add fwmark 0x4e470001 lookup 20039 pref 100")).unwrap();
        host.ip(&format!("{family} route add local default dev lo table 20039")).unwrap();
    }
    let before = configuration(&host);
    inside(&host, async |netlink| {
        let undo = netlink.intercept(INTERCEPTION).await?;
        assert_eq!(configuration(&host), before);
        netlink.undo(undo).await?;
        Ok(())
    });
    assert_eq!(configuration(&host), before);
}

#[test]
fn a_refused_half_leaves_nothing_of_the_other_half() {
    let host = Namespace::new("host").unwrap();
    host.set("net/ipv6/conf/lo/disable_ipv6", "1").unwrap();
    let before = configuration(&host);
    inside(&host, async |netlink| {
        let error = netlink.intercept(INTERCEPTION).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot add ipv6 local default route of table 20039"), "{error}");
        Ok(())
    });
    assert_eq!(configuration(&host), before);
}

#[test]
fn the_mirror_pair_is_an_offload_barrier_without_ipv6_and_is_taken_back() {
    let host = Namespace::new("host").unwrap();
    let before = configuration(&host);
    inside(&host, async |netlink| {
        let (pair, undo) = netlink.create_mirror_pair().await?;
        assert_eq!((pair.device.mtu, pair.device.state), (65_535, AdminState::Up));
        assert_eq!((pair.peer.mtu, pair.peer.state), (65_535, AdminState::Up));
        let links = host.ip("-6 address show")?;
        assert!(!links.contains(MIRROR_DEVICE) && !links.contains(MIRROR_PEER), "{links}");
        let (second, undo_second) = netlink.create_mirror_pair().await?;
        assert_ne!(second.device.index, pair.device.index, "the stale pair was replaced");
        netlink.undo(undo).await?;
        netlink.interface(MIRROR_PEER).await?;
        netlink.undo(undo_second).await?;
        Ok(())
    });
    assert_eq!(configuration(&host), before);
}

#[test]
fn a_name_the_mirror_needs_is_not_taken_from_an_interface_of_another_kind() {
    let host = Namespace::new("host").unwrap();
    host.ip("link add ngmir1 type bridge").unwrap();
    let before = configuration(&host);
    inside(&host, async |netlink| {
        let error = netlink.create_mirror_pair().await.unwrap_err();
        assert!(matches!(error, NetlinkError::NameTaken { name: MIRROR_PEER }), "{error}");
        Ok(())
    });
    assert_eq!(configuration(&host), before);
}

#[test]
fn addresses_and_routes_of_both_families_are_added_looked_up_and_taken_back() {
    let (here, there) = (Namespace::new("here").unwrap(), Namespace::new("there").unwrap());
    veth((&here, "mon0"), (&there, "peer0")).unwrap();
    let before = configuration(&here);
    for (own, gateway, beyond) in
        [("10.9.0.1/24", "10.9.0.2", "192.0.2.9"), ("fd09::1/64", "fd09::2", "2001:db8::9")]
    {
        inside(&here, async |netlink| {
            let interface = netlink.interface("mon0").await?;
            let (address, length) = own.split_once('/').unwrap();
            let prefix = Prefix::new(ip(address), length.parse()?)?;
            let mut undo = netlink.add_address(&interface, prefix).await?;
            undo.append(netlink.add_address(&interface, prefix).await?);
            let route = Route {
                destination: Prefix::host(ip(beyond)),
                gateway: Some(ip(gateway)),
                interface: interface.index,
            };
            undo.append(netlink.add_route(route).await?);
            undo.append(netlink.add_route(route).await?);
            // The kernel does not use a new IPv6 address before it has looked for a duplicate.
            let hop = settled(netlink, ip(beyond), &interface, ip(address)).await?;
            assert_eq!((hop.interface, hop.source), (interface.index, ip(address)));
            assert_eq!(hop.gateway, Some(ip(gateway)));
            let near = netlink.next_hop(ip(gateway), &interface).await?;
            assert_eq!((near.source, near.gateway), (ip(address), None));
            netlink.undo(undo).await?;
            Ok(())
        });
    }
    assert_eq!(configuration(&here), before);
}

#[test]
fn the_way_of_a_packet_is_local_by_an_interface_or_nowhere() {
    let (here, there) = (Namespace::new("here").unwrap(), Namespace::new("there").unwrap());
    veth((&here, "lan0"), (&there, "peer0")).unwrap();
    veth((&here, "wan0"), (&there, "peer1")).unwrap();
    for (interface, address) in
        [("lan0", "10.1.0.1/24"), ("lan0", "fd01::1/64"), ("wan0", "192.0.2.1/24")]
    {
        here.add_address(interface, address).unwrap();
    }
    here.add_address("wan0", "2001:db8::1/64").unwrap();
    here.set("net/ipv4/ip_forward", "1").unwrap();
    here.set("net/ipv6/conf/all/forwarding", "1").unwrap();
    inside(&here, async |netlink| {
        let [lan, wan] =
            [netlink.interface("lan0").await?.index, netlink.interface("wan0").await?.index];
        for (client, own, far, unknown) in [
            ("10.1.0.9", "10.1.0.1", "192.0.2.9", "203.0.113.9"),
            ("fd01::9", "fd01::1", "2001:db8::9", "2001:db8:ffff::9"),
        ] {
            let way = async |source: Option<&str>, destination: &str, input| {
                let packet =
                    Passenger { source: source.map(ip), destination: ip(destination), input };
                netlink.way(packet).await
            };
            assert_eq!(way(None, client, None).await?, Way::By(lan));
            assert_eq!(way(None, own, None).await?, Way::Local);
            assert_eq!(way(Some(client), far, Some(lan)).await?, Way::By(wan));
            assert_eq!(way(Some(client), own, Some(lan)).await?, Way::Local);
            assert!(matches!(way(Some(client), unknown, Some(lan)).await?, Way::Nowhere(_)));
        }
        Ok(())
    });
}

/// The next hop once its source is the expected one, or as it is after ten seconds.
async fn settled(
    netlink: &Netlink,
    to: IpAddr,
    interface: &Interface,
    source: IpAddr,
) -> Result<NextHop, NetlinkError> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let hop = netlink.next_hop(to, interface).await?;
        if hop.source == source || Instant::now() > deadline {
            return Ok(hop);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn an_undo_of_what_is_gone_already_succeeds() {
    let (here, there) = (Namespace::new("here").unwrap(), Namespace::new("there").unwrap());
    veth((&here, "mon0"), (&there, "peer0")).unwrap();
    inside(&here, async |netlink| {
        let interface = netlink.interface("mon0").await?;
        let mut undo = netlink.add_address(&interface, Prefix::new(ip("10.9.0.1"), 24)?).await?;
        undo.append(netlink.intercept(INTERCEPTION).await?);
        undo.append(netlink.create_mirror_pair().await?.1);
        here.ip("link delete mon0")?;
        here.ip("link delete ngmir0")?;
        here.ip("rule delete pref 100")?;
        here.ip("-6 route flush table 20039")?;
        netlink.undo(undo).await?;
        Ok(())
    });
}
