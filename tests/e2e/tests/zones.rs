//! Changes of a running gateway's zones, private DNS and mirror.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use nightgate_lab::{
    Namespace,
    overlay::{Deployment, after},
    until, veth,
};

const GATEWAY: &str = "gw-a";
const LONG: Duration = Duration::from_secs(30);
/// Scenes until the gateways run.
const START: usize = 3;
/// The gateway's address on the interface that changes zones.
const EXTRA: &str = "10.77.0.1";
const OPEN: u16 = 2222;

#[test]
fn interfaces_come_into_zones_and_leave_them() {
    let mut scene = Scene::new();
    assert!(scene.reaches(OPEN) && scene.reaches(OPEN + 1), "in no zone: left alone");
    let with_zone = scene.file("zone.yaml", &["zones:\n  dmz: { interfaces: [extra0] }"]);
    let without = scene.file("none.yaml", &[]);
    scene.assert_refused();

    let plan = scene.fw(&format!("plan {with_zone}")).expect("planned");
    assert!(plan.contains("interface  extra0") && plan.contains("zone"), "{plan}");
    assert!(scene.reaches(OPEN + 1), "a plan changes nothing");
    scene.fw(&format!("apply {with_zone}")).expect("applied");
    assert!(scene.reaches(OPEN) && !scene.reaches(OPEN + 1), "protected");
    scene.fw("rollback").expect("rolled back");
    scene.wait_until_open();

    scene.fw(&format!("apply {with_zone} --confirm 2s")).expect("applied");
    assert!(!scene.reaches(OPEN + 1), "protected for a time");
    scene.wait_until_open();

    scene.fw(&format!("apply {with_zone}")).expect("applied");
    scene.fw(&format!("apply {without} --confirm 1m")).expect("applied");
    assert!(!scene.reaches(OPEN), "what leaves carries nothing until that is confirmed");
    scene.fw("rollback").expect("rolled back");
    assert!(scene.reaches(OPEN) && !scene.reaches(OPEN + 1), "in its zone again");
    scene.fw(&format!("apply {without} --confirm 2s")).expect("applied");
    scene.deployment.kill(GATEWAY).expect("killed");
    until("its zone", LONG, || Ok(scene.reaches(OPEN).then_some(()))).expect("by the kernel");
    assert!(!scene.reaches(OPEN + 1));

    scene.deployment.start_router("gateway", GATEWAY).expect("started");
    assert!(scene.reaches(OPEN) && !scene.reaches(OPEN + 1), "a restart uses what was applied");
    scene.fw(&format!("apply {without}")).expect("applied");
    scene.wait_until_open();
}

#[test]
fn private_dns_and_mirror_follow_the_file() {
    let scene = Scene::new();
    let gateway = &scene.deployment.topology().gateway_a;
    let listens = |port: u16| {
        let question = format!("ss -Hlntu src 10.1.0.1:{port}");
        gateway.shell(&question).expect("an answer").lines().count() == 2
    };
    let has_pair = || gateway.ip("link show").expect("an answer").contains("ngmir0");
    assert!(listens(53) && !listens(5353) && has_pair());

    let other = scene.file("dns.yaml", &["'10.1.0.1:53'=>'10.1.0.1:5353'", "mirror"]);
    let plan = scene.fw(&format!("plan {other}")).expect("planned");
    for part in ["dns-address", "10.1.0.1:5353", "mirror-session", "sensor"] {
        assert!(plan.contains(part), "{plan}");
    }
    scene.fw(&format!("apply {other}")).expect("applied");
    assert!(!listens(53) && listens(5353) && !has_pair());
    scene.fw("rollback").expect("rolled back");
    assert!(listens(53) && !listens(5353) && has_pair());

    let taken = scene.file("taken.yaml", &["'10.1.0.1:53'=>'192.0.2.99:53'"]);
    let error = scene.fw(&format!("apply {taken}")).expect_err("no such address").to_string();
    assert!(error.contains("dns.listen") && error.contains("192.0.2.99"), "{error}");
    assert!(listens(53), "nothing has changed");
}

#[test]
fn a_sensor_that_is_gone_gets_no_copies_until_it_is_back() {
    let scene = Scene::new();
    let topology = scene.deployment.topology();
    let sensor = || -> serde_json::Value {
        let answer = scene.deployment.ask(GATEWAY, "mirror --sensors --json").expect("an answer");
        serde_json::from_str::<serde_json::Value>(&answer).expect("JSON")[0].take()
    };
    let becomes = |state: &str, trouble: Option<&str>| {
        until(&format!("a sensor that is {state}"), LONG, || {
            let found = sensor();
            Ok((found["state"] == state && found["trouble"].as_str() == trouble).then_some(()))
        })
        .expect(state);
    };
    becomes("up", None);
    topology.sensor.ip("link set eth0 down").expect("unplugged");
    becomes("down", Some("link-down"));
    topology.sensor.ip("link set eth0 up").expect("plugged in");
    becomes("up", None);
    // Nobody answers for its address: it is there, and does not hear.
    topology.sensor.shell("nft add table netdev silent").expect("a table");
    let hook = "{ type filter hook ingress device eth0 priority 0 ; policy drop ; }";
    topology.sensor.shell(&format!("nft add chain netdev silent take {hook}")).expect("silent");
    becomes("down", Some("no-neighbour"));
    topology.sensor.shell("nft delete table netdev silent").expect("not silent");
    becomes("up", None);
    let found = sensor();
    assert_eq!((&found["sensor"], &found["changes"]), (&"ids".into(), &4.into()), "{found}");
}

/// A gateway with an interface in no zone, and a stranger behind it.
struct Scene {
    deployment: Deployment,
    stranger: Namespace,
    _listeners: [TcpListener; 2],
}

impl Scene {
    fn new() -> Self {
        let deployment = after(START).expect("a stage");
        let stranger = Namespace::new("stranger").expect("a namespace");
        let gateway = &deployment.topology().gateway_a;
        veth((gateway, "extra0"), (&stranger, "eth0")).expect("plugged");
        gateway.add_address("extra0", &format!("{EXTRA}/24")).expect("an address");
        stranger.add_address("eth0", "10.77.0.2/24").expect("an address");
        let listen =
            || [OPEN, OPEN + 1].map(|port| TcpListener::bind((EXTRA, port)).expect("bound"));
        let listeners = gateway.enter(listen).expect("entered");
        Self { deployment, stranger, _listeners: listeners }
    }

    /// Writes the gateway's configuration with changes: lines for the section of their first line, `old=>new`,
    /// or the name of a section that goes. Returns its path.
    fn file(&self, name: &str, changes: &[&str]) -> String {
        let path = self.deployment.file(&format!("{GATEWAY}.yaml"));
        let mut text = fs::read_to_string(path).expect("a configuration");
        for change in changes {
            if let Some((old, new)) = change.split_once("=>") {
                text = text.replace(old, new);
            } else if let Some((section, lines)) = change.split_once('\n') {
                text = text.replace(&format!("{section}\n"), &format!("{section}\n{lines}\n"));
                let rule = format!(
                    "rules:\n  - {{ id: open, from: dmz, to: local, protocol: tcp, destination_ports: [{OPEN}], \
                     action: accept }}\n"
                );
                text = text.replace("rules:\n", &rule);
            } else {
                let at = text.find(&format!("{change}:\n")).expect("a section");
                text.truncate(at);
            }
        }
        self.deployment.write(name, &text).expect("written").display().to_string()
    }

    fn fw(&self, line: &str) -> anyhow::Result<String> {
        self.deployment.ask(GATEWAY, &format!("fw {line}"))
    }

    fn reaches(&self, port: u16) -> bool {
        let server = SocketAddr::new(EXTRA.parse().expect("an address"), port);
        let connect = || TcpStream::connect_timeout(&server, Duration::from_millis(500)).is_ok();
        self.stranger.enter(connect).expect("entered")
    }

    /// Waits until the interface is left alone: the kernel takes its time to detach.
    fn wait_until_open(&self) {
        let is_open = || Ok(self.reaches(OPEN + 1).then_some(()));
        until("an open interface", LONG, is_open).expect("left alone");
    }

    /// What cannot be: an interface that is not there, and what only a restart changes.
    fn assert_refused(&self) {
        let missing = self.file("missing.yaml", &["zones:\n  dmz: { interfaces: [absent0] }"]);
        let router = self.file("router.yaml", &["gw-a.json=>other.json", "gw-a.sock=>other.sock"]);
        for (file, parts) in
            [(missing, ["zones.dmz", "absent0"]), (router, ["router:", "admin_socket:"])]
        {
            for verb in ["plan", "apply", "apply --confirm 5s"] {
                let error = self.fw(&format!("{verb} {file}")).expect_err("refused").to_string();
                assert!(parts.iter().all(|part| error.contains(part)), "{verb}: {error}");
            }
        }
        assert!(self.reaches(OPEN + 1), "nothing has changed");
    }
}
