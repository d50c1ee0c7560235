//! Flows of datagrams that are opened and abandoned, each with a circuit of its own.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{LONG, Scene};

/// Addresses of the client: each may have 4,096 flows at a time.
const CLIENTS: u32 = 64;
/// Flows in all; `NIGHTGATE_FLOWS` for another number.
const FLOWS: u32 = 1_000_000;
/// Flows that begin in a second.
const RATE: u32 = 500;
const PROCESSES: [&str; 3] = ["gw-a", "r1", "gw-b"];

#[test]
#[ignore = "measures: half an hour for a million flows"]
fn abandoned_flows_of_datagrams_leave_no_circuits_behind() {
    let mut scene = Scene::new();
    scene.with_short_flows();
    scene.service(
        "sink",
        r#"{"protocols":["udp"],"addresses":["172.16.0.0/12"],"portRanges":[{"low":5000,"high":5999}]}"#,
        r#"{"protocol":"udp","address":"10.2.0.2","port":5353}"#,
    );
    scene.rules("- { id: sink, from: local, to: lan, protocol: udp, action: accept }");
    let topology = scene.deployment.topology();
    for client in 0..CLIENTS {
        topology.client.add_address("eth0", &format!("{}/24", own(client))).expect("added");
    }
    let server: SocketAddr = "10.2.0.2:5353".parse().expect("an address");
    let sink = topology.server.enter(|| UdpSocket::bind(server)).expect("entered").expect("bound");
    // What waits elsewhere gives up before.
    sink.set_read_timeout(Some(20 * LONG)).expect("set");
    let arrived = AtomicU32::new(0);
    let wanted = std::env::var("NIGHTGATE_FLOWS").ok().and_then(|text| text.parse().ok());
    let flows = wanted.unwrap_or(FLOWS);
    scene.is_carried("udp 10.1.0.2 > 172.16.0.9:5001");

    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 64];
            while sink.recv(&mut buffer).is_ok_and(|length| &buffer[..length] != b"stop") {
                arrived.fetch_add(1, Ordering::Relaxed);
            }
        });
        for part in 1..=4 {
            scene.open_and_abandon(flows / 4);
            let arrived = arrived.load(Ordering::Relaxed);
            println!("{part} of 4: {arrived} arrived, KiB of {PROCESSES:?}: {:?}", scene.sizes());
        }
        let arrived = arrived.load(Ordering::Relaxed);
        let end = topology.server.enter(|| UdpSocket::bind("10.2.0.2:0")).expect("entered");
        end.and_then(|socket| socket.send_to(b"stop", server)).expect("stopped");
        assert!(arrived >= flows / 10 * 9, "{arrived} of {flows} arrived");
    });
}

fn own(client: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 100)) + client % CLIENTS)
}

impl Scene {
    /// Starts gateway A again with flows that end two seconds after their last datagram.
    fn with_short_flows(&mut self) {
        let own = std::fs::read_to_string(self.deployment.file("gw-a.yaml")).expect("rules");
        let text = format!("{own}\ntimeouts: {{ udp_opening: 2s, udp: 2s }}\n");
        self.deployment.write("gw-a.yaml", &text).expect("written");
        self.deployment.kill("gw-a").expect("killed");
        self.deployment.start_router("gateway", "gw-a").expect("started");
    }

    /// Sends one datagram of each of so many flows, and waits until nothing is left of them.
    fn open_and_abandon(&self, flows: u32) {
        let open = || -> std::io::Result<()> {
            let started = Instant::now();
            for flow in 0..flows {
                let socket = UdpSocket::bind((own(flow), 0))?;
                socket.send_to(b"once", "172.16.0.9:5001")?;
                let due = started + Duration::from_secs(1) * flow / RATE;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(())
        };
        self.deployment.topology().client.enter(open).expect("entered").expect("sent");
        for name in PROCESSES {
            self.wait(&format!("{name} without circuits"), || {
                let circuits = self.deployment.ask(name, "circuits --json")?;
                Ok((circuits.trim() == "[]").then_some(()))
            });
        }
    }

    fn sizes(&self) -> [u64; 3] {
        PROCESSES.map(|name| self.deployment.resident(name).expect("a size"))
    }
}
