//! Many services at once.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use nightgate_lab::until;

use super::{LONG, Scene};

const SERVICES: u16 = 2_000;
/// Ports from which each of them is intercepted, and how many from each.
const RANGES: std::ops::Range<u16> = 1..11;
const PORTS: u16 = 500;

#[test]
#[ignore = "measures: two minutes on a busy machine"]
fn two_thousand_services_of_ten_port_ranges_come_and_go_together() {
    let scene = Scene::new();
    let file = scene.deployment.write("network.yaml", &network()).expect("written");
    scene.operate(&format!("apply -f {}", file.display()));
    let first = SocketAddr::from((address(0), RANGES.start * 1_000));
    let last = SocketAddr::from((address(SERVICES - 1), (RANGES.end - 1) * 1_000 + PORTS - 1));
    assert!(!is_intercepted(&scene, first) && !is_intercepted(&scene, last));

    let started = Instant::now();
    scene.operate("policy create many-dial dial --identity @gw-a --service #many");
    until("all of them", LONG, || {
        Ok((is_intercepted(&scene, first) && is_intercepted(&scene, last)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.deployment.log_tails(20)));
    println!("{SERVICES} services are intercepted {:?} after the command began", started.elapsed());
    let beyond = SocketAddr::from((address(SERVICES - 1), last.port() + 1));
    assert!(!is_intercepted(&scene, beyond));

    let started = Instant::now();
    scene.operate("policy delete many-dial");
    until("none of them", LONG, || {
        Ok((!is_intercepted(&scene, first) && !is_intercepted(&scene, last)).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.deployment.log_tails(20)));
    println!("and no longer {:?} after the next one began", started.elapsed());
}

fn address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 200, high, low)
}

fn network() -> String {
    let mut text = "version: 1\nservices:\n".to_owned();
    let ranges: Vec<_> = RANGES
        .map(|start| format!("{{ low: {}, high: {} }}", start * 1_000, start * 1_000 + PORTS - 1))
        .collect();
    let ranges = ranges.join(", ");
    for number in 0..SERVICES {
        let address = address(number);
        writeln!(
            text,
            "  - {{ name: s{number}, roleAttributes: [many], config: {{ intercept.v1: {{ protocols: [tcp], \
             addresses: ['{address}'], portRanges: [{ranges}] }} }} }}"
        )
        .expect("written");
    }
    text
}

/// The gateway accepts what it intercepts before it dials; what it does not goes nowhere.
fn is_intercepted(scene: &Scene, to: SocketAddr) -> bool {
    let connect = || TcpStream::connect_timeout(&to, Duration::from_millis(100)).is_ok();
    scene.deployment.topology().client.enter(connect).expect("entered")
}
