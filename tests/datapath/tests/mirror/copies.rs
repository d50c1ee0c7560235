//! Copies of a service's packets in VXLAN, whatever their segments were, and what becomes of each.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use nightgate_abi::{
    Counter, Reason,
    mirror::{MirrorSessionId, Outcome},
};
use nightgate_lab::{Capture, until};

use crate::support::{BODY, Gateway, LAN_MTU, Segment, Sensor, Topology, ip};

const SERVICE_V4: &str = "10.77.0.1";
const SERVICE_V6: &str = "fd77::1";
const SENSOR_V4: &str = "10.9.0.2";
const SENSOR_V6: &str = "fd09::2";

/// How long the kernel may take to ask for a neighbour again.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn an_exchange_over_ipv4_reaches_a_sensor_over_ipv4_whole() {
    check_exchange(SERVICE_V4, SENSOR_V4, 50);
}

#[test]
fn an_exchange_over_ipv6_reaches_a_sensor_over_ipv6_whole() {
    check_exchange(SERVICE_V6, SENSOR_V6, 70);
}

#[test]
fn an_exchange_over_ipv6_reaches_a_sensor_over_ipv4_whole() {
    check_exchange(SERVICE_V6, SENSOR_V4, 50);
}

#[test]
fn an_exchange_over_ipv4_reaches_a_sensor_over_ipv6_whole() {
    check_exchange(SERVICE_V4, SENSOR_V6, 70);
}

#[test]
fn segments_are_cut_behind_the_encapsulation_where_the_interface_does_it() {
    let cases = [("address: 10.9.0.2", "vni: 42"), ("address: 'fd09::2'", "vni: 42, vlan: 7")];
    for (sensor, keys) in cases {
        for service in [SERVICE_V4, SERVICE_V6] {
            check_direct(service, sensor, keys);
        }
    }
}

/// Copies that pass the barrier until the sensor's link address is known.
const FIRST: u64 = 10;

/// As [`check_exchange`], almost without a frame through the barrier.
fn check_direct(service: &str, sensor: &str, keys: &str) {
    let topology = Topology::new().unwrap();
    topology.gateway.shell("ethtool -K mon0 tx off tso off gso off").unwrap();
    let capture = Sensor::start(&topology.sensor).unwrap();
    let service = SocketAddr::new(ip(service), 80);
    let sent = topology
        .gateway
        .enter(|| {
            let mut gateway = Gateway::start(sensor, keys).unwrap();
            let server = gateway.serve(service, 1).unwrap();
            topology.exchange(service).unwrap();
            server.join().unwrap().unwrap();
            let (matched, sent) =
                (gateway.copies(Outcome::Matched).unwrap(), gateway.sent().unwrap());
            assert_eq!(matched, sent, "each frame is counted once");
            let through = received("ngmir1");
            assert!(through < FIRST, "{through} of {sent} went through the barrier");
            gateway.stop().unwrap();
            usize::try_from(sent).unwrap()
        })
        .unwrap();
    let segments = capture.decode(sent).unwrap();
    assert_eq!(segments.len(), sent, "what was counted is what arrived");
    assert!(segments.iter().all(|segment| segment.is_checksum_right), "{sensor} {service}");
    let longest = segments.iter().map(|segment| segment.length).max().unwrap();
    assert!(longest <= 1_500 + 14 + 70 + 4, "{sensor} {service}: {longest}");
    check_streams(&segments, 1);
}

/// Packets that an interface of this thread's network namespace has received.
fn received(interface: &str) -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let row = table.lines().find_map(|line| line.trim().strip_prefix(interface)).unwrap();
    row.trim_start_matches(':').split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn every_copy_has_one_outcome() {
    let topology = Topology::new().unwrap();
    let capture = Sensor::start(&topology.sensor).unwrap();
    let total = topology
        .gateway
        .enter(|| {
            let gateway = Gateway::vxlan(SENSOR_V4).unwrap();
            gateway.inject(1, 100, 5).unwrap();
            assert_eq!(gateway.sent().unwrap(), 5);
            // With the 20 + 8 bytes of the inner headers and the 50 of the encapsulation: 1602 and 1603.
            gateway.inject(1, 1_524, 1).unwrap();
            gateway.inject(1, 1_525, 2).unwrap();
            assert_eq!(gateway.copies(Outcome::TooLong).unwrap(), 2);
            gateway.inject(9, 100, 3).unwrap();
            gateway.inject(256, 100, 4).unwrap();
            let statistics = gateway.datapath.mirror_statistics().unwrap();
            let nine = &statistics.sessions[&MirrorSessionId::new(9).unwrap()];
            assert_eq!(nine[&Outcome::NoSession], Counter { packets: 3, bytes: 3 * 142 });
            assert_eq!(statistics.unknown[&Outcome::NoSession].packets, 4);
            let rows = statistics.sessions.values().chain([&statistics.unknown]);
            let total: u64 = rows.flat_map(|row| row.values()).map(|counter| counter.packets).sum();
            gateway.stop().unwrap();
            total
        })
        .unwrap();
    assert_eq!(total, 5 + 1 + 2 + 3 + 4);
    let frames = capture.decode(6).unwrap();
    assert_eq!(frames.len(), 6, "no other copy left");
}

#[test]
fn copies_pass_a_firewall_that_lets_nothing_else_reach_the_sensor() {
    let topology = Topology::new().unwrap();
    let capture = Sensor::start(&topology.sensor).unwrap();
    // With a listener the sensor answers nothing, so that only the gateway's own packet is refused.
    let listener = || UdpSocket::bind("10.9.0.2:4789");
    let listener = topology.sensor.enter(listener).unwrap().unwrap();
    topology
        .gateway
        .enter(|| {
            let mut gateway = Gateway::vxlan(SENSOR_V4).unwrap();
            gateway.guard_sensor_interface().unwrap();
            gateway.inject(1, 100, 5).unwrap();
            // The kernel drops it silently or says so; either way it is counted.
            let other = UdpSocket::bind("10.9.0.1:0").unwrap();
            other.send_to(b"x", "10.9.0.2:4789").ok();
            let statistics = gateway.datapath.statistics().unwrap();
            assert_eq!(statistics.get(Reason::MirrorCopy).packets, 5);
            // The kernel's own announcements by IPv6 may be refused beside it.
            assert!(statistics.get(Reason::NoRule).packets >= 1);
            gateway.stop().unwrap();
        })
        .unwrap();
    assert_eq!(capture.decode(5).unwrap().len(), 5);
    drop(listener);
}

#[test]
fn a_sensor_that_does_not_answer_is_counted_and_found_again() {
    let topology = Topology::new().unwrap();
    topology.sensor.ip("address delete 10.9.0.2/24 dev eth0").unwrap();
    let capture = Sensor::start(&topology.sensor).unwrap();
    topology
        .gateway
        .enter(|| {
            let gateway = Gateway::vxlan(SENSOR_V4).unwrap();
            gateway.inject(1, 100, 20).unwrap();
            assert_eq!(gateway.copies(Outcome::NoNeighbour).unwrap(), 20);
            assert_eq!(gateway.copies(Outcome::Mirrored).unwrap(), 0);
            topology.sensor.add_address("eth0", "10.9.0.2/24").unwrap();
            until("known neighbour", PATIENCE, || {
                gateway.inject(1, 100, 1)?;
                Ok((gateway.copies(Outcome::Mirrored)? > 0).then_some(()))
            })
            .unwrap();
            gateway.stop().unwrap();
        })
        .unwrap();
    assert!(!capture.decode(1).unwrap().is_empty());
}

#[test]
fn a_copy_leaves_by_no_interface_but_its_sessions() {
    let topology = Topology::new().unwrap();
    let mut elsewhere =
        Capture::start("client", &topology.client, "eth0", topology.folder.path()).unwrap();
    topology
        .gateway
        .enter(|| {
            let gateway = Gateway::vxlan(SENSOR_V4).unwrap();
            topology.gateway.add_route("10.9.0.2/32", "10.1.0.2").unwrap();
            gateway.inject(1, 100, 3).unwrap();
            assert_eq!(gateway.copies(Outcome::NoRoute).unwrap(), 3);
            gateway.stop().unwrap();
        })
        .unwrap();
    elsewhere.stop().unwrap();
    assert_eq!(elsewhere.count("vxlan").unwrap(), 0);
}

/// Three connections with large bodies; the gateway's own segments are GSO packets without checksums.
fn check_exchange(service: &str, sensor: &str, overhead: usize) {
    const CONNECTIONS: usize = 3;
    let topology = Topology::new().unwrap();
    let capture = Sensor::start(&topology.sensor).unwrap();
    let service = SocketAddr::new(ip(service), 80);
    let sent = topology
        .gateway
        .enter(|| {
            let mut gateway = Gateway::vxlan(sensor).unwrap();
            let server = gateway.serve(service, CONNECTIONS).unwrap();
            for _ in 0..CONNECTIONS {
                topology.exchange(service).unwrap();
            }
            server.join().unwrap().unwrap();
            let sent = gateway.sent().unwrap();
            assert_eq!(gateway.copies(Outcome::NotSegmented).unwrap(), 0);
            gateway.stop().unwrap();
            usize::try_from(sent).unwrap()
        })
        .unwrap();
    let segments = capture.decode(sent).unwrap();
    assert_eq!(segments.len(), sent, "what was counted is what arrived");
    check_frames(&segments, LAN_MTU + 14 + overhead);
    check_ports(&segments, CONNECTIONS);
    check_streams(&segments, CONNECTIONS);
}

fn check_frames(segments: &[Segment], longest: usize) {
    let longest = u32::try_from(longest).unwrap();
    for segment in segments {
        assert!(segment.is_checksum_right, "{segment:?}");
        assert_eq!((segment.flags, segment.vni), (0x0800, 42), "{segment:?}");
        assert_eq!(segment.outer_destination_port, 4_789, "{segment:?}");
        assert!((49_152..=65_535).contains(&segment.outer_source_port), "{segment:?}");
        assert!(segment.length <= longest, "{segment:?}");
    }
    assert!(segments.iter().any(|segment| segment.length == longest), "full frames are among them");
}

/// All frames of a connection have one outer source port.
fn check_ports(segments: &[Segment], connections: usize) {
    let mut outer = BTreeMap::new();
    for (client, segment) in connection_of(segments) {
        let port = *outer.entry(client).or_insert(segment.outer_source_port);
        assert_eq!(segment.outer_source_port, port, "{segment:?}");
    }
    assert_eq!(outer.len(), connections);
}

/// Every byte of both directions of every connection is there.
fn check_streams(segments: &[Segment], connections: usize) {
    let mut streams: BTreeMap<(u32, bool), Vec<Segment>> = BTreeMap::new();
    for (client, segment) in connection_of(segments) {
        let is_request = segment.source_port == Some(client);
        streams.entry((client, is_request)).or_default().push(segment);
    }
    assert_eq!(streams.len(), 2 * connections, "both directions of each connection");
    for (stream, segments) in streams {
        assert_eq!(contiguous(&segments), BODY, "bytes without a gap in {stream:?}");
    }
}

/// Each segment with the client's port: the one that is not the service's.
fn connection_of(segments: &[Segment]) -> impl Iterator<Item = (u32, Segment)> {
    segments.iter().map(|segment| {
        let (source, destination) =
            (segment.source_port.unwrap(), segment.destination_port.unwrap());
        (if source == 80 { destination } else { source }, *segment)
    })
}

/// How many bytes from the first on are covered by a stream's segments.
fn contiguous(segments: &[Segment]) -> usize {
    let syn = segments.iter().find(|segment| segment.syn == Some(1)).unwrap();
    let first = syn.sequence.unwrap().wrapping_add(1);
    let mut ranges: Vec<(u32, u32)> = segments
        .iter()
        .filter(|segment| segment.payload > Some(0))
        .map(|segment| (segment.sequence.unwrap().wrapping_sub(first), segment.payload.unwrap()))
        .collect();
    ranges.sort_unstable();
    let mut end = 0;
    for (start, length) in ranges {
        if start > end {
            break;
        }
        end = end.max(start + length);
    }
    usize::try_from(end).unwrap()
}
