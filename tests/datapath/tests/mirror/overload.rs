//! Sensors that are gone, unreachable or too slow: traffic goes on, and every copy that was due is accounted for.

use std::{net::UdpSocket, time::Duration};

use nightgate_abi::mirror::Outcome;
use nightgate_datapath::MirrorStatistics;

use crate::support::{Gateway, Topology, ask};

/// How long an answer may take; far more than it does.
const PATIENCE: Duration = Duration::from_secs(10);
/// Questions and answers in each state of the sensor.
const EXCHANGES: usize = 2_000;

/// What happens to the sensor, and the outcomes that its copies have from then on.
type Case = (&'static str, fn(&Topology), &'static [Outcome]);
const CASES: &[Case] = &[
    ("in order", |_| {}, &[Outcome::Mirrored, Outcome::NoNeighbour]),
    (
        "a hundred times too slow",
        |topology| {
            let slow = "tc qdisc add dev mon0 root tbf rate 1mbit burst 4kb limit 8kb";
            topology.gateway.shell(slow).unwrap();
        },
        &[Outcome::Mirrored],
    ),
    (
        "unreachable",
        |topology| {
            topology.sensor.ip("address delete 10.9.0.2/24 dev eth0").unwrap();
            topology.gateway.ip("neigh flush dev mon0").unwrap();
        },
        &[Outcome::NoNeighbour],
    ),
    (
        "without a way",
        |topology| drop(topology.gateway.ip("address delete 10.9.0.1/24 dev mon0").unwrap()),
        &[Outcome::NoRoute],
    ),
    (
        "unplugged",
        |topology| drop(topology.sensor.ip("link set eth0 down").unwrap()),
        &[Outcome::NoRoute],
    ),
];

#[test]
fn traffic_goes_on_and_every_copy_is_accounted_for_whatever_happens_to_the_sensor() {
    let topology = Topology::new().unwrap();
    let server = topology.server.enter(|| UdpSocket::bind("10.2.0.2:53")).unwrap().unwrap();
    let client = topology.client.enter(|| UdpSocket::bind("10.1.0.2:4000")).unwrap().unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    client.connect("10.2.0.2:53").unwrap();
    topology
        .gateway
        .enter(|| {
            let gateway = Gateway::vxlan("10.9.0.2").unwrap();
            for (state, change, outcomes) in CASES {
                change(&topology);
                let before = Outcome::ALL.iter().map(|outcome| gateway.copies(*outcome).unwrap());
                let before: Vec<u64> = before.collect();
                for number in 0..EXCHANGES {
                    ask(&client, &server, &number.to_be_bytes());
                }
                for (outcome, before) in Outcome::ALL.iter().zip(before) {
                    let found = gateway.copies(*outcome).unwrap() - before;
                    let may_be = *outcome == Outcome::Matched || outcomes.contains(outcome);
                    assert!(found == 0 || may_be, "{state}: {found} {outcome}");
                }
                let statistics = gateway.datapath.mirror_statistics().unwrap();
                let row = statistics.sessions.values().next().unwrap();
                assert_eq!(MirrorStatistics::queue_dropped(row), 0, "{state}: {row:?}");
            }
            let due = gateway.copies(Outcome::Matched).unwrap();
            assert_eq!(due, (2 * EXCHANGES * CASES.len()) as u64, "each packet once");
            gateway.stop().unwrap();
        })
        .unwrap();
}
