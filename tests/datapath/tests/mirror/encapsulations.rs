//! What each encapsulation says, read by a decoder that is not ours.

use std::time::Duration;

use nightgate_abi::{
    flow::Direction,
    mirror::{CopyMark, Outcome},
};
use nightgate_lab::{Capture, until};

use crate::support::{Gateway, Topology};

const SENSOR_V4: &str = "10.9.0.2";
const SENSOR_V6: &str = "fd09::2";
/// Payload of the copies, bytes: with 28 of IPv4 and UDP, a packet of 1500.
const LONGEST: usize = 1_472;
/// How long the sensor may take to write what it has seen.
const PATIENCE: Duration = Duration::from_secs(20);
/// Tag of the service that the copies are of.
const SERVICE: u32 = 4_097;

/// A case: keys of sensor and session, and what has to be seen of each copy, by the name of the field; the length is
/// that over IPv4.
struct Case {
    sensor: &'static str,
    session: &'static str,
    seen: &'static [(&'static str, &'static str)],
    length: u32,
}

const TUNNELS: &[Case] = &[
    Case {
        sensor: "encapsulation: vxlan",
        session: "vni: 42",
        seen: &[("vxlan.vni", "42"), ("vlan.id", ""), ("udp.dstport", "4789,53")],
        length: 1_564,
    },
    Case {
        sensor: "encapsulation: geneve",
        session: "vni: 42, vlan: service",
        seen: &[
            ("geneve.vni", "0x00002a"),
            ("vlan.id", "3"),
            ("geneve.option.class", "0xfff6"),
            ("udp.dstport", "6081,53"),
        ],
        length: 1_596,
    },
    Case {
        sensor: "encapsulation: erspan",
        session: "vni: 1023, vlan: 77",
        seen: &[("erspan.spanid", "1023"), ("vlan.id", "77"), ("gre.proto", "0x88be")],
        length: 1_568,
    },
    Case {
        sensor: "encapsulation: gre",
        session: "vni: 16777215",
        seen: &[("gre.key", "0x00ffffff"), ("vlan.id", ""), ("gre.proto", "0x6558")],
        length: 1_556,
    },
];

const WIRE: Case = Case {
    sensor: "encapsulation: local",
    session: "vlan: 9",
    seen: &[("vlan.id", "9"), ("udp.dstport", "53")],
    length: 1_518,
};

/// Copies of each case.
const COPIES: usize = 3;

#[test]
fn every_encapsulation_says_what_it_can() {
    let topology = Topology::new().unwrap();
    let folder = topology.folder.path();
    let mut capture = Capture::start("sensor", &topology.sensor, "eth0", folder).unwrap();
    let cases = cases();
    topology.gateway.enter(|| send(&cases)).unwrap();
    let sight = Sight { capture: &capture };
    let wanted = cases.len() * COPIES;
    until("copies at the sensor", PATIENCE, || {
        Ok((sight.fields(&["frame.number"]).len() >= wanted).then_some(()))
    })
    .unwrap();
    for (index, Sent { case, length, .. }) in cases.into_iter().enumerate() {
        let range = index * COPIES..(index + 1) * COPIES;
        for (field, value) in case.seen {
            for found in &sight.fields(&[field])[range.clone()] {
                assert_eq!(found[0], *value, "{} {field}", case.sensor);
            }
        }
        for found in &sight.fields(&["frame.len"])[range] {
            assert_eq!(found[0], length.to_string(), "{}", case.sensor);
        }
    }
    check_options(&sight);
    let sequences = sight.fields(&["gre.sequence_number"]);
    let sequences: Vec<&str> =
        sequences.iter().map(|f| f[0].as_str()).filter(|f| !f.is_empty()).collect();
    // The session is the same as with the copies in GENEVE.
    assert_eq!(sequences, ["6", "7", "8", "9", "10", "11"]);
    capture.stop().unwrap();
}

/// Checks what the option of GENEVE says.
fn check_options(sight: &Sight<'_>) {
    let found = sight.fields(&["geneve.option.unknown.data", "frame.time_epoch"]);
    let found: Vec<_> = found.into_iter().filter(|fields| !fields[0].is_empty()).collect();
    assert_eq!(found.len(), 2 * COPIES);
    for (expected, fields) in (0..).zip(found) {
        let (data, captured) = (&fields[0], &fields[1]);
        // Session 1, to the originator, service 4097.
        assert_eq!(data[..16], *"0001010000001001", "{data}");
        assert_eq!(u64::from_str_radix(&data[16..32], 16).unwrap(), expected, "sequence");
        let nanoseconds = u64::from_str_radix(&data[32..], 16).unwrap();
        // TAI is some tens of seconds ahead of UTC where the kernel has been told, else equal to it.
        let captured: u64 = captured.split('.').next().unwrap().parse().unwrap();
        let ahead = i128::from(nanoseconds / 1_000_000_000) - i128::from(captured);
        assert!((-10..60).contains(&ahead), "{ahead} s ahead");
    }
}

/// The keys of a sensor and a session, their case, and the length of its frames.
struct Sent {
    sensor: String,
    case: &'static Case,
    length: u32,
}

/// All cases, tunnels to sensors of both families.
fn cases() -> Vec<Sent> {
    let tunnels = TUNNELS.iter().flat_map(|case| {
        [(SENSOR_V4, 0), (SENSOR_V6, 20)].map(|(address, more)| {
            let sensor = format!("address: '{address}', {}", case.sensor);
            Sent { sensor, case, length: case.length + more }
        })
    });
    let wire = Sent { sensor: WIRE.sensor.to_owned(), case: &WIRE, length: WIRE.length };
    tunnels.chain([wire]).collect()
}

/// Sends the copies of all cases by one gateway, and what the wire does not carry.
fn send(cases: &[Sent]) {
    let mut gateway = Gateway::vxlan(SENSOR_V4).unwrap();
    let mark = CopyMark::new(1, Direction::Reply, SERVICE);
    for (index, Sent { sensor, case, .. }) in (1_u64..).zip(cases) {
        gateway.mirror(sensor, case.session).unwrap();
        gateway.inject(mark.0, LONGEST, COPIES).unwrap();
        assert_eq!(gateway.sent().unwrap(), index * COPIES as u64, "{sensor}");
    }
    // A wire of 1602 bytes, with 28 bytes of the inner headers.
    gateway.inject(mark.0, 1_575, 2).unwrap();
    assert_eq!(gateway.copies(Outcome::TooLong).unwrap(), 2);
    gateway.stop().unwrap();
}

/// What the sensor has seen of the copies, in their order.
struct Sight<'a> {
    capture: &'a Capture,
}

impl Sight<'_> {
    fn fields(&self, fields: &[&str]) -> Vec<Vec<String>> {
        let lines = self
            .capture
            .fields("udp.dstport == 53 && ip.src == 10.1.0.1 && !icmp && !icmpv6", fields)
            .unwrap();
        lines.iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }
}
