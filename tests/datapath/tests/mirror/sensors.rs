//! Several sensors of one session: both directions of a flow at one of them, and as few as can be moved.

use std::{collections::BTreeMap, net::UdpSocket, time::Duration};

use nightgate_lab::{Capture, until};

use crate::support::{Gateway, Topology};

/// How long the sensors may take to write what they have seen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Flows: one from each of so many ports.
const FLOWS: u16 = 10_000;
const FIRST_PORT: u16 = 20_000;
const SENSORS: [&str; 3] = ["10.9.0.2", "10.9.0.3", "10.9.0.4"];

#[test]
fn both_directions_of_every_flow_reach_one_sensor_and_only_those_of_a_lost_one_move() {
    let topology = Topology::new().unwrap();
    for address in &SENSORS[1..] {
        topology.sensor.add_address("eth0", &format!("{address}/24")).unwrap();
    }
    let [before, after] = topology
        .gateway
        .enter(|| {
            let sensors = "address: 10.9.0.2 }\n    two: { interface: mon0, address: 10.9.0.3 }\n    \
                           three: { interface: mon0, address: 10.9.0.4";
            let mut gateway =
                Gateway::start(sensors, "sensor: [ids, two, three], vni: 42").unwrap();
            let before = sensor_of_flows(&topology, "before");
            gateway.lose_sensor(1).unwrap();
            let after = sensor_of_flows(&topology, "after");
            gateway.stop().unwrap();
            [before, after]
        })
        .unwrap();
    for sensor in SENSORS {
        let count = before.values().filter(|found| *found == sensor).count();
        assert!((3_000..=3_700).contains(&count), "{sensor}: {count} of {FLOWS}");
    }
    for (port, sensor) in &before {
        let now = &after[port];
        assert_ne!(now, SENSORS[1]);
        assert!(now == sensor || sensor == SENSORS[1], "port {port}: {sensor}, then {now}");
    }
}

/// A datagram and its answer on every flow: the sensor that each flow's two copies reached, by the client's port.
fn sensor_of_flows(topology: &Topology, name: &str) -> BTreeMap<u16, String> {
    let folder = topology.folder.path();
    let mut capture = Capture::start(name, &topology.sensor, "eth0", folder).unwrap();
    let server = topology.server.enter(|| UdpSocket::bind("10.2.0.2:53")).unwrap().unwrap();
    topology
        .client
        .enter(|| {
            for port in FIRST_PORT..FIRST_PORT + FLOWS {
                let client = UdpSocket::bind(("10.1.0.2", port)).unwrap();
                client.send_to(b"question", "10.2.0.2:53").unwrap();
                let mut buffer = [0; 64];
                let (_, from) = server.recv_from(&mut buffer).unwrap();
                server.send_to(b"answer", from).unwrap();
                client.recv(&mut buffer).unwrap();
            }
        })
        .unwrap();
    let copies = || {
        // Of nested headers, the outer address comes first, and the inner port last.
        capture
            .fields("vxlan && udp.port == 53 && !icmp", &["ip.dst", "udp.srcport", "udp.dstport"])
            .unwrap()
    };
    until("copies at the sensors", PATIENCE, || {
        Ok((copies().len() >= 2 * usize::from(FLOWS)).then_some(()))
    })
    .unwrap();
    let mut found: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for line in copies() {
        let fields: Vec<&str> = line.split('\t').collect();
        let sensor = fields[0].split(',').next().unwrap().to_owned();
        let ports = [fields[1], fields[2]].map(|ports| ports.split(',').next_back().unwrap());
        let client = if ports[1] == "53" { ports[0] } else { ports[1] };
        found.entry(client.parse().unwrap()).or_default().push(sensor);
    }
    capture.stop().unwrap();
    assert_eq!(found.len(), usize::from(FLOWS));
    let one = |(port, sensors): (u16, Vec<String>)| {
        assert_eq!(sensors.len(), 2, "port {port}");
        assert_eq!(sensors[0], sensors[1], "port {port}");
        (port, sensors[0].clone())
    };
    found.into_iter().map(one).collect()
}
