//! At how many routers a tunneler hosts.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use nightgate_lab::{Mesh, Process, overlay::Programs, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{PATIENCE, neighbours};

/// Longer than a tunneler takes to bind once more than it may.
const CALM: Duration = Duration::from_secs(3);

#[test]
fn a_tunneler_hosts_at_as_many_routers_as_the_service_says() {
    let programs = Programs::find().unwrap();
    let mut mesh = Mesh::new(&programs, 3, &[(1, 2), (2, 3), (1, 3)]).unwrap();
    for router in 1..=3 {
        mesh.start(router).unwrap();
    }
    neighbours(&mesh, 1, &[2, 3]);
    let identity = mesh.join("hoster").unwrap();
    let config = |command: &str, most: u16| {
        let file = mesh.file("host.json");
        let document = json!({
            "protocol": "tcp", "address": "127.0.0.1", "port": 80,
            "listenOptions": { "maxConnections": most },
        });
        fs::write(&file, document.to_string()).unwrap();
        mesh.operator(&format!("{command} --data {}", file.display())).unwrap();
    };
    config("config create hosted host.v1", 2);
    mesh.operator("service create web --config hosted").unwrap();
    mesh.operator("policy create host bind --identity @hoster --service @web").unwrap();

    // Beside the first router, which reaches all.
    let mut command = mesh.topology().router(1).command(&programs.nightgate);
    command.args(["tunnel", "host", "--identity"]).arg(identity);
    let mut host = Process::spawn("hoster", command, &mesh.file("")).unwrap();
    for (most, change) in [(2, false), (3, true), (1, true)] {
        if change {
            config("config update hosted", most);
        }
        let wanted = usize::from(most);
        until(&format!("terminators at {most} routers"), PATIENCE, || {
            Ok((terminators(&mesh).len() == wanted).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", host.log(), mesh.log_tails(20)));
        thread::sleep(CALM);
        assert_eq!(terminators(&mesh).len(), wanted, "{}", host.log());
    }
    host.stop(Signal::SIGTERM, PATIENCE).unwrap();
}

/// The routers at which somebody hosts.
fn terminators(mesh: &Mesh) -> BTreeSet<String> {
    let listed = mesh.operator("terminator list --json").unwrap();
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    listed.iter().map(|it| it["router"]["name"].as_str().unwrap().to_owned()).collect()
}
