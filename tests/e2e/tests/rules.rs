//! Changes of a running gateway's rules, by the command line.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use nightgate_lab::{
    overlay::{Deployment, Family, Programs, SCENES, address, stage},
    run, until,
};

const GATEWAY: &str = "gw-a";
const LONG: Duration = Duration::from_secs(30);
/// Scenes until the gateways run.
const START: usize = 3;

#[test]
fn rules_change_under_connections_and_come_back() {
    let mut scene = Scene::new();
    let open = scene.rules("open.yaml", "accept");
    let shut = scene.rules("shut.yaml", "drop");
    assert!(!scene.reaches());

    let plan = scene.fw(&format!("plan {open}")).expect("a plan");
    assert!(plan.contains("added") && plan.contains("ssh"), "{plan}");
    assert!(!scene.reaches(), "a plan changes nothing");

    let applied = scene.fw(&format!("apply {open}")).expect("applied");
    assert!(applied.contains("a restart uses these rules"), "{applied}");
    assert!(scene.reaches());
    assert!(scene.fw("show").expect("rules").contains("ssh"));

    scene.assert_bad_files_change_nothing();

    scene.fw(&format!("apply {shut}")).expect("applied");
    assert!(!scene.reaches());
    assert!(scene.fw("drops").expect("reasons").contains("rule"));
    scene.fw("rollback").expect("rolled back");
    assert!(scene.reaches());
    let error = scene.fw("rollback").expect_err("nothing before").to_string();
    assert!(error.contains("no rules to go back to"), "{error}");

    scene.deployment.kill(GATEWAY).expect("killed");
    assert!(scene.reaches(), "the kernel goes on");
    scene.deployment.start_router("gateway", GATEWAY).expect("started");
    assert!(scene.reaches(), "the last good rules are used");
}

#[test]
fn rules_that_nobody_confirms_go_by_themselves() {
    let scene = Scene::new();
    let open = scene.rules("open.yaml", "accept");

    scene.fw(&format!("apply {open} --confirm 2s")).expect("applied");
    assert!(scene.reaches());
    let error = scene.fw(&format!("apply {open}")).expect_err("one at a time").to_string();
    assert!(error.contains("fw confirm"), "{error}");
    until("rules before", LONG, || Ok((!scene.reaches()).then_some(()))).expect("rolled back");
    assert!(scene.fw("confirm").is_err(), "too late");

    scene.fw(&format!("apply {open} --confirm 1m")).expect("applied");
    scene.fw("confirm").expect("confirmed");
    assert!(scene.reaches());
}

#[test]
fn the_operators_own_session_is_not_cut_unless_forced() {
    let scene = Scene::new();
    scene.fw(&format!("apply {}", scene.rules("open.yaml", "accept"))).expect("applied");
    let session = scene.connect().expect("connected");
    let (client, server) = (session.local_addr().expect("bound"), scene.server);
    let shut = scene.rules("shut.yaml", "drop");
    let apply = |options: &str| {
        let ends = [client, server].map(|end| format!("{} {}", end.ip(), end.port())).join(" ");
        let mut command = scene.deployment.question(GATEWAY, &format!("fw apply {shut} {options}"));
        run(command.env("SSH_CONNECTION", ends))
    };

    let error = apply("").expect_err("refused").to_string();
    assert!(error.contains("cut your own session") && error.contains("--force"), "{error}");
    assert!(scene.reaches(), "nothing has changed");
    apply("--force").expect("applied");
    assert!(!scene.reaches());
}

/// A gateway with a server that the rules of its configuration do not accept anything for.
struct Scene {
    deployment: Deployment,
    listener: TcpListener,
    server: SocketAddr,
}

impl Scene {
    fn new() -> Self {
        let mut deployment =
            Programs::find().and_then(|programs| stage(programs, Family::V4)).expect("a stage");
        for scene in &SCENES[..START] {
            (scene.play)(&mut deployment).expect(scene.name);
        }
        let server = SocketAddr::new(address::GATEWAY_A[0].parse().expect("an address"), 2222);
        let listen = || TcpListener::bind(server).expect("bound");
        let listener = deployment.topology().gateway_a.enter(listen).expect("entered");
        Self { deployment, listener, server }
    }

    /// Writes the gateway's configuration with one more rule, for the server; returns its path.
    fn rules(&self, name: &str, action: &str) -> String {
        let path = self.deployment.file(&format!("{GATEWAY}.yaml"));
        let text = std::fs::read_to_string(path).expect("a configuration");
        let rule = format!(
            "rules:\n  - {{ id: ssh, from: lan, to: local, protocol: tcp, destination_ports: [2222], action: \
             {action} }}\n"
        );
        let text = text.replace("rules:\n", &rule);
        self.deployment.write(name, &text).expect("written").display().to_string()
    }

    fn fw(&self, line: &str) -> anyhow::Result<String> {
        self.deployment.ask(GATEWAY, &format!("fw {line}"))
    }

    fn connect(&self) -> Option<TcpStream> {
        let connect = || TcpStream::connect_timeout(&self.server, Duration::from_millis(500)).ok();
        self.deployment.topology().client.enter(connect).expect("entered")
    }

    /// Whether the client reaches the server.
    fn reaches(&self) -> bool {
        let is_open = self.connect().is_some();
        if is_open {
            self.listener.accept().expect("accepted");
        }
        is_open
    }

    fn assert_bad_files_change_nothing(&self) {
        let bad = self.rules("bad.yaml", "maybe");
        let text = std::fs::read_to_string(&bad).expect("a file").replace("[53]", "[70000]");
        self.deployment.write("bad.yaml", &text).expect("written");
        let before = self.fw("show --json").expect("rules");
        for command in ["plan", "apply", "apply --confirm 5s"] {
            let error = self.fw(&format!("{command} {bad}")).expect_err("refused").to_string();
            assert!(error.contains("maybe") && error.contains("70000"), "every error: {error}");
        }
        let ids = |text: &str| text.matches("\"rule\":").count();
        assert_eq!(ids(&self.fw("show --json").expect("rules")), ids(&before));
        assert!(self.reaches(), "still accepted");
    }
}
