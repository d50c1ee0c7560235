//! A sensor that is stopped, and one that is sent far more than it can take: no packet of the traffic is lost, and every copy
//! has left or is counted.
//!
//! With `NIGHTGATE_STOPPED_SECONDS` the sensor is stopped for so long: `cargo xtask test nightly-bpf` takes 60 s.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use nightgate_abi::mirror::Outcome;
use nightgate_datapath::MirrorStatistics;
use nightgate_lab::{Recorder, until};

use crate::support::{Gateway, Topology, ask};

/// How long an answer may take; far more than it does.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a question and of an answer: those of one round of exchanges fill the sensor's queue of 1 MiB.
const LENGTH: usize = 1_000;
/// Questions and answers in a round.
const EXCHANGES: usize = 1_000;
/// Copies of each: of the question where it comes in, and of the answer where it leaves.
const COPIES: usize = 2;

#[test]
fn a_sensor_that_is_stopped_costs_no_packet_and_is_sent_every_copy() {
    let seconds = std::env::var("NIGHTGATE_STOPPED_SECONDS").ok();
    let stopped = Duration::from_secs(seconds.map_or(0, |text| text.parse().unwrap()));
    let topology = Topology::new().unwrap();
    let (client, server) = sockets(&topology);
    count_arrivals(&topology);
    let folder = topology.folder.path();
    let mut sensor = Recorder::start(&topology.sensor, "eth0", folder).unwrap();
    topology
        .gateway
        .enter(|| {
            let gateway = Gateway::vxlan("10.9.0.2").unwrap();
            round(&client, &server);
            sensor.freeze().unwrap();
            let (started, mut rounds) = (Instant::now(), 1);
            while rounds < 3 || started.elapsed() < stopped {
                round(&client, &server);
                rounds += 1;
            }
            sensor.thaw().unwrap();
            round(&client, &server);
            let due = account(&gateway, rounds + 1);
            assert_eq!(arrivals(&topology, due), due, "copies at the sensor's interface");
            gateway.stop().unwrap();
        })
        .unwrap();
    let dropped = sensor.stop().unwrap();
    assert!(dropped > 0, "its queue was never full");
}

#[test]
fn what_a_slow_way_to_a_sensor_takes_and_drops_is_what_was_sent() {
    let topology = Topology::new().unwrap();
    let (client, server) = sockets(&topology);
    count_arrivals(&topology);
    let slow = "tc qdisc add dev mon0 root tbf rate 2mbit burst 8kb limit 16kb";
    topology.gateway.shell(slow).unwrap();
    topology
        .gateway
        .enter(|| {
            let gateway = Gateway::vxlan("10.9.0.2").unwrap();
            round(&client, &server);
            round(&client, &server);
            let due = account(&gateway, 2);
            until("end of what waits", PATIENCE, || Ok((queue(&topology).1 == 0).then_some(())))
                .unwrap();
            let (dropped, _) = queue(&topology);
            assert!(dropped > due / 2, "{dropped} of {due} dropped: it is not slow");
            assert_eq!(arrivals(&topology, due - dropped) + dropped, due);
            gateway.stop().unwrap();
        })
        .unwrap();
}

/// What was due for so many rounds: all of it, and all has left for the sensor.
fn account(gateway: &Gateway, rounds: usize) -> u64 {
    let due = gateway.copies(Outcome::Matched).unwrap();
    assert_eq!(due, (rounds * EXCHANGES * COPIES) as u64, "each packet once");
    assert_eq!(gateway.copies(Outcome::Mirrored).unwrap(), due);
    let statistics = gateway.datapath.mirror_statistics().unwrap();
    let row = statistics.sessions.values().next().unwrap();
    assert_eq!(MirrorStatistics::queue_dropped(row), 0, "{row:?}");
    due
}

/// A client's and a server's socket, on the two sides of the gateway.
fn sockets(topology: &Topology) -> (UdpSocket, UdpSocket) {
    let server = topology.server.enter(|| UdpSocket::bind("10.2.0.2:53")).unwrap().unwrap();
    let client = topology.client.enter(|| UdpSocket::bind("10.1.0.2:4000")).unwrap().unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    client.connect("10.2.0.2:53").unwrap();
    (client, server)
}

/// Has the sensor's host count copies, and lets nothing else leave for it.
fn count_arrivals(topology: &Topology) {
    let Topology { gateway, sensor, .. } = topology;
    for line in [
        "ip link set eth0 address 02:00:00:00:09:02",
        "nft add table netdev sensor",
        "nft add chain netdev sensor take { type filter hook ingress device eth0 priority 0 ; policy drop ; }",
        "nft add rule netdev sensor take udp dport 4789 counter",
    ] {
        sensor.shell(line).unwrap();
    }
    gateway.set("net/ipv6/conf/mon0/disable_ipv6", "1").unwrap();
    let neighbour = "neigh replace 10.9.0.2 dev mon0 lladdr 02:00:00:00:09:02 nud permanent";
    gateway.ip(neighbour).unwrap();
}

/// Copies that have come to the sensor's interface, as soon as they are so many.
fn arrivals(topology: &Topology, expected: u64) -> u64 {
    let found = || {
        let text = topology.sensor.shell("nft list chain netdev sensor take").unwrap();
        let (_, rest) = text.split_once("counter packets ").unwrap();
        rest.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    until("copies at the sensor", PATIENCE, || Ok((found() >= expected).then_some(()))).unwrap();
    found()
}

/// Packets that the queue towards the sensor has dropped, and that wait there.
fn queue(topology: &Topology) -> (u64, u64) {
    let text = topology.gateway.shell("tc -s -j qdisc show dev mon0 root").unwrap();
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let number = |name: &str| found[0][name].as_u64().unwrap();
    (number("drops"), number("qlen"))
}

/// Questions and their answers, none of which gets lost.
fn round(client: &UdpSocket, server: &UdpSocket) {
    for number in 0..EXCHANGES {
        ask(client, server, &[number.to_be_bytes().as_slice(), &[7; LENGTH - 8]].concat());
    }
}
