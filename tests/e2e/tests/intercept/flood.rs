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
const FLOWS: u32 = 100_000;
/// Flows whose datagram has not arrived yet. What a busy machine carries is what sets the pace.
const OUTSTANDING: u32 = 256;
/// After so long without an arrival, those that are outstanding are lost.
const SILENCE: Duration = Duration::from_secs(10);
const PROCESSES: [&str; 3] = ["gw-a", "r1", "gw-b"];

#[test]
#[ignore = "measures: minutes for 100,000 flows, longer on a busy machine"]
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
        println!("before: KiB of {PROCESSES:?}: {:?}", scene.sizes());
        for part in 1..=4 {
            let started = Instant::now();
            scene.open_and_abandon(flows / 4, &arrived);
            let (arrived, took) = (arrived.load(Ordering::Relaxed), started.elapsed());
            println!(
                "{part} of 4 in {took:?}: {arrived} arrived, KiB of {PROCESSES:?}: {:?}",
                scene.sizes()
            );
        }
        let end = topology.server.enter(|| UdpSocket::bind("10.2.0.2:0")).expect("entered");
        end.and_then(|socket| socket.send_to(b"stop", server)).expect("stopped");
    });
    let arrived = arrived.load(Ordering::Relaxed);
    assert!(arrived >= flows / 100 * 99, "{arrived} of {flows} arrived");
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
    fn open_and_abandon(&self, flows: u32, arrived: &AtomicU32) {
        let open = || -> std::io::Result<()> {
            let mut window = Window::new(arrived);
            for flow in 0..flows {
                let socket = UdpSocket::bind((own(flow), 0))?;
                socket.send_to(b"once", "172.16.0.9:5001")?;
                window.pass();
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

/// Lets flows begin as fast as those before arrive.
struct Window<'a> {
    arrived: &'a AtomicU32,
    /// What has arrived before the first one, with what was sent since and has not been given up.
    due: u32,
}

impl<'a> Window<'a> {
    fn new(arrived: &'a AtomicU32) -> Self {
        Self { arrived, due: arrived.load(Ordering::Relaxed) }
    }

    /// Counts one more, and waits until there is room for the next.
    fn pass(&mut self) {
        self.due += 1;
        let (mut seen, mut since) = (self.arrived.load(Ordering::Relaxed), Instant::now());
        while self.due.saturating_sub(seen) >= OUTSTANDING {
            thread::sleep(Duration::from_millis(1));
            let now = self.arrived.load(Ordering::Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > SILENCE {
                self.due = seen;
            }
        }
    }
}
