//! The firewall before and after the gateway's process: restored at boot, taken down for good, and interfaces that
//! come late.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use nightgate_lab::{
    Namespace,
    overlay::{Deployment, address, after},
    run, until, veth,
};

const GATEWAY: &str = "gw-a";
const LONG: Duration = Duration::from_secs(30);
/// Scenes until the gateways run.
const START: usize = 3;
/// Address of the gateway on an interface that comes late.
const LATE: &str = "10.77.0.1";
/// The port that rules accept.
const OPEN: u16 = 2222;
/// File with a set that the rules name.
const STRANGERS: &str = "strangers.txt";

#[test]
fn down_leaves_nothing_and_restore_brings_the_last_good_rules_back() {
    let mut scene = Scene::new();
    let error = scene.gateway("down").expect_err("it runs").to_string();
    assert!(error.contains("stop it first"), "{error}");
    assert!(scene.gateway("restore").expect_err("it runs").to_string().contains("answers at"));
    assert!(scene.reaches(OPEN) && !scene.reaches(OPEN + 1), "the rules are in force");

    scene.deployment.kill(GATEWAY).expect("killed");
    let list = scene.gateway("down --dry-run").expect("listed");
    assert!(
        list.contains("-ingress") && list.contains("ACTIVE") && list.contains("ngmir0"),
        "{list}"
    );
    assert!(!scene.reaches(OPEN + 1), "still in force");
    scene.gateway("down").expect("down");
    scene.assert_nothing_is_left();
    until("an open interface", LONG, || Ok(scene.reaches(OPEN + 1).then_some(()))).expect("open");
    assert!(scene.gateway("down").expect("again").contains("there was no firewall"));

    // As after a boot: nothing is there, and neither controller nor identity.
    let path = scene.deployment.file("gw-a.json");
    fs::rename(&path, path.with_extension("away")).expect("renamed");
    let text = scene.gateway("restore").expect("restored");
    assert!(text.contains("in force on lan0, und0"), "{text}");
    scene.assert_rules();
    scene.gateway("restore").expect("again");
    fs::rename(path.with_extension("away"), &path).expect("renamed");
    scene.deployment.start_router("gateway", GATEWAY).expect("started");
    scene.assert_rules();
}

#[test]
fn a_damaged_configuration_is_replaced_by_the_last_good_one_at_boot() {
    let mut scene = Scene::new();
    scene.deployment.kill(GATEWAY).expect("killed");
    scene.gateway("down").expect("down");
    let yaml = scene.deployment.file("gw-a.yaml");
    let good = fs::read_to_string(&yaml).expect("a configuration");
    let strangers = scene.deployment.file(STRANGERS);
    fs::write(&strangers, "192.0.2.0/24\n\0\0\0").expect("damaged");
    let text = scene.gateway("restore").expect("restored");
    assert!(text.contains("gw-a.yaml are in force"), "{text}");
    scene.assert_rules();
    fs::remove_file(&strangers).expect("removed");
    scene.gateway("restore").expect("restored without the file of a set");
    scene.assert_rules();
    fs::write(&yaml, good.replace("zones:", "zoness:")).expect("damaged");

    let text = scene.gateway("restore").expect("restored");
    assert!(text.contains("gw-a.yaml are in force"), "{text}");
    scene.assert_rules();
    fs::remove_dir_all(scene.deployment.file("state")).expect("removed");
    let error = scene.gateway("restore").expect_err("nothing good is known").to_string();
    assert!(error.contains("zoness") && error.contains("no gateway has started"), "{error}");
    scene.assert_rules();
}

#[test]
fn an_interface_that_comes_late_is_protected_when_it_comes() {
    let scene = Scene::new();
    let stranger = Namespace::new("stranger").expect("a namespace");
    scene.plug(&stranger);
    let listen = || [OPEN, OPEN + 1].map(|port| TcpListener::bind((LATE, port)).expect("bound"));
    let _listeners = scene.deployment.topology().gateway_a.enter(listen).expect("entered");
    let reaches = |port| connects(&stranger, SocketAddr::new(LATE.parse().expect("one"), port));

    until("protection", LONG, || Ok((!reaches(OPEN + 1)).then_some(()))).expect("attached");
    assert!(reaches(OPEN), "its zone's rules count");
    assert!(scene.logged("not there yet"));

    // One that goes and comes again has another number.
    scene.deployment.topology().gateway_a.ip("link delete late0").expect("deleted");
    scene.plug(&stranger);
    until("protection", LONG, || Ok((!reaches(OPEN + 1)).then_some(()))).expect("attached");
    assert!(reaches(OPEN));
}

/// A gateway whose rules accept one port of two that servers listen on.
struct Scene {
    deployment: Deployment,
    server: SocketAddr,
    _listeners: [TcpListener; 2],
}

impl Scene {
    fn new() -> Self {
        let mut deployment = after(START).expect("a stage");
        let server: IpAddr = address::GATEWAY_A[0].parse().expect("an address");
        let listen =
            || [OPEN, OPEN + 1].map(|port| TcpListener::bind((server, port)).expect("bound"));
        let listeners = deployment.topology().gateway_a.enter(listen).expect("entered");
        deployment.kill(GATEWAY).expect("killed");
        let yaml = deployment.file("gw-a.yaml");
        let text = fs::read_to_string(&yaml).expect("a configuration");
        fs::write(deployment.file(STRANGERS), "192.0.2.0/24 # a documentation network\n")
            .expect("written");
        let rule = format!(
            "sets: {{ strangers: {{ addresses: {{ file: {STRANGERS} }} }} }}\nrules:\n  - {{ id: strangers, from: lan, \
             to: local, source: $strangers, action: drop }}\n  - {{ id: open, from: lan, to: local, protocol: tcp, destination_ports: [{OPEN}], action: \
             accept }}\n"
        );
        let text = text.replace("rules:\n", &rule).replace("[lan0]", "[lan0, late0]");
        fs::write(&yaml, text).expect("written");
        deployment.start_router("gateway", GATEWAY).expect("started");
        Self { deployment, server: SocketAddr::new(server, OPEN), _listeners: listeners }
    }

    /// Runs a command of the gateway about itself.
    fn gateway(&self, words: &str) -> anyhow::Result<String> {
        let (verb, options) = words.split_once(' ').unwrap_or((words, ""));
        let mut command = self.deployment.role_command("gateway", verb, GATEWAY);
        run(command.args(options.split_whitespace()))
    }

    fn reaches(&self, port: u16) -> bool {
        let server = SocketAddr::new(self.server.ip(), port);
        connects(&self.deployment.topology().client, server)
    }

    fn assert_rules(&self) {
        assert!(self.reaches(OPEN), "accepted");
        assert!(!self.reaches(OPEN + 1), "refused");
    }

    /// Makes the interface `late0` of the gateway, to a stranger.
    fn plug(&self, stranger: &Namespace) {
        let gateway = &self.deployment.topology().gateway_a;
        veth((gateway, "late0"), (stranger, "eth0")).expect("plugged");
        gateway.add_address("late0", &format!("{LATE}/24")).expect("an address");
        stranger.add_address("eth0", "10.77.0.2/24").expect("an address");
    }

    fn logged(&self, text: &str) -> bool {
        self.deployment.log_tails(1_000).contains(text)
    }

    fn assert_nothing_is_left(&self) {
        let firewalls = fs::read_dir(self.deployment.firewalls().join("nightgate"));
        let own = |name: &str| name.contains("gw_2da_2esock") || name.contains("gw-a");
        for entry in firewalls.into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(!own(&name), "{name}");
        }
        let folder = self.deployment.file("");
        let notes = fs::read_dir(Path::new(&folder)).expect("listed").flatten();
        for file in notes.map(|entry| entry.file_name().to_string_lossy().into_owned()) {
            assert!(!file.starts_with("gw-a.sock.notes"), "{file}");
        }
        let gateway = &self.deployment.topology().gateway_a;
        for question in ["rule show", "-6 rule show", "link show", "route show table all proto 78"]
        {
            let answer = gateway.ip(question).expect("an answer");
            for word in ["0x4e47", "20039", "ngmir", "tcx", "xdp"] {
                assert!(!answer.contains(word), "{question}: {answer}");
            }
        }
    }
}

fn connects(from: &Namespace, to: SocketAddr) -> bool {
    let connect = || TcpStream::connect_timeout(&to, Duration::from_millis(500)).is_ok();
    from.enter(connect).expect("entered")
}
