//! Changes of a running gateway's rules, by the command line.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use nightgate_lab::{
    overlay::{Deployment, Programs, address, after},
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
    let show = scene.fw("show").expect("rules");
    let ssh = show.lines().find(|line| line.starts_with("ssh")).expect("the rule");
    assert!(show.starts_with("RULE") && show.contains("LAST HIT") && !ssh.ends_with('-'), "{show}");

    scene.assert_bad_files_change_nothing();

    scene.fw(&format!("apply {shut}")).expect("applied");
    assert!(!scene.reaches());
    let drops = scene.fw("drops").expect("reasons");
    let refused = |line: &str| line.starts_with("rule ") && line.contains("lan0");
    assert!(drops.lines().any(refused), "{drops}");
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
fn a_packet_is_explained_by_routes_rules_and_its_flow() {
    let scene = Scene::new();
    let open = scene.rules("open.yaml", "accept");
    let [client, server] = [address::CLIENT[0], address::GATEWAY_A[0]];
    let question = format!("explain tcp {client}:40000 > {server}:2222");

    let text = scene.fw(&question).expect("explained");
    assert!(text.contains("from lan to local") && text.contains("comes in by lan0"), "{text}");
    assert!(text.contains("drop: no rule matches") && text.contains("dns"), "{text}");

    scene.fw(&format!("apply {open}")).expect("applied");
    assert!(scene.fw(&question).expect("explained").contains("accept by rule ssh"));
    let session = scene.connect().expect("connected");
    let port = session.local_addr().expect("bound").port();
    let text =
        scene.fw(&format!("explain tcp {client}:{port} > {server}:2222")).expect("explained");
    assert!(text.contains("belongs to a flow"), "{text}");
    let json = scene.fw(&format!("explain tcp {server} > {}:443 --json", address::ROUTER[0]));
    let json = json.expect("explained");
    assert!(json.contains("\"rule\": \"uplink\"") && json.contains("leaves by und0"), "{json}");
    let error = scene.fw("explain tcp 10.1.0.5 > nowhere").expect_err("no packet").to_string();
    assert!(error.contains("expected an address and a port"), "{error}");
}

#[test]
fn what_no_rule_matches_is_learned_for_a_while_and_proposed() {
    let mut scene = Scene::new();
    let error = scene.fw("learn --for 1h --zone attic").expect_err("no zone").to_string();
    assert!(error.contains("attic"), "{error}");
    assert!(!scene.reaches());

    let warning = scene.fw("learn --for 1h").expect("learning");
    assert!(warning.contains("WARNING"), "{warning}");
    assert!(scene.reaches(), "accepted, and recorded");
    let error = scene.fw(&format!("apply {}", scene.rules("open.yaml", "accept")));
    assert!(error.expect_err("not now").to_string().contains("learn --stop"));
    assert!(scene.fw("learn --stop").expect("stopped").contains("does not learn"));
    assert!(!scene.reaches(), "refused again");

    let file = scene.fw("learn --propose").expect("proposed");
    assert!(file.contains("source: ['10.1.0.2/32']"), "{file}");
    assert!(file.contains("destination_ports: [2222]"), "{file}");
    let path = scene.deployment.write("learned.yaml", &file).expect("written");
    let rule: String = file
        .lines()
        .skip_while(|line| *line != "rules:")
        .skip(1)
        .map(|l| format!("{l}\n"))
        .collect();
    scene.fw_alone(&format!("check {}", path.display())).expect("checked");
    let own = std::fs::read_to_string(scene.deployment.file("gw-a.yaml")).expect("a configuration");
    let text = own.replace("rules:\n", &format!("rules:\n{rule}"));
    let path =
        scene.deployment.write("with-learned.yaml", &text).expect("written").display().to_string();
    scene.fw(&format!("apply {path}")).expect("applied");
    assert!(scene.reaches(), "the proposal accepts what was seen");
    scene.fw("rollback").expect("rolled back");

    scene.fw("learn --for 3s --zone lan --zone local").expect("learning");
    assert!(scene.reaches());
    scene.deployment.kill(GATEWAY).expect("killed");
    until("an end", LONG, || Ok((!scene.reaches()).then_some(()))).expect("by the kernel");
    scene.deployment.start_router("gateway", GATEWAY).expect("started");
    assert!(!scene.reaches());
    assert!(
        scene.fw("learn --propose").expect("kept").contains("2222"),
        "what was seen outlives the process"
    );
}

#[test]
fn packets_are_traced_as_they_come_until_the_operator_has_enough() {
    let scene = Scene::new();
    scene.fw(&format!("apply {}", scene.rules("open.yaml", "accept"))).expect("applied");
    let trace = |line: &str| {
        let mut command = scene.deployment.question(GATEWAY, &format!("fw trace {line}"));
        std::thread::spawn(move || run(&mut command))
    };
    let once = trace("--filter port=2222 --filter hook=ingress --count 2 --duration 30s");
    until("a packet", LONG, || Ok((scene.reaches() && once.is_finished()).then_some(())))
        .expect("told");
    let told = once.join().expect("no panic").expect("a trace");
    let line = told.lines().next().expect("a packet");
    assert!(line.contains("pass local rule ssh lan0 ingress (lan > local) tcp"), "{told}");

    let error = scene.fw("trace --filter age>1h").expect_err("no such condition").to_string();
    assert!(error.contains("age>1h") && error.contains("source-port"), "{error}");
    assert!(scene.fw("flows --filter port=2222").expect("flows").contains("ssh"));
    let killed = scene.fw("flows kill --filter port=2222 --dry-run").expect("flows");
    assert!(killed.contains("would be killed") && !killed.starts_with('0'), "{killed}");
    scene.fw("flows kill --filter port=2222").expect("killed");
    let left = scene.fw("flows --filter port=2222 --json").expect("flows");
    assert_eq!(left.trim(), "[]");
    let nothing = scene.fw("trace --filter port=9 --duration 1s --json").expect("a trace");
    assert_eq!(nothing.trim(), "");
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
fn rules_that_nobody_confirms_go_although_the_gateway_is_killed() {
    let mut scene = Scene::new();
    let open = scene.rules("open.yaml", "accept");

    scene.fw(&format!("apply {open} --confirm 3s")).expect("applied");
    let session = scene.connect().expect("connected");
    scene.deployment.kill(GATEWAY).expect("killed");
    let is_back = || Ok((!scene.reaches()).then_some(()));
    until("rules before", LONG, is_back).expect("the kernel goes back by itself");
    drop(session);

    scene.deployment.start_router("gateway", GATEWAY).expect("started");
    assert!(!scene.reaches(), "still the rules before");
    scene.fw(&format!("apply {open} --confirm 1m")).expect("applied");
    assert!(scene.reaches());
    scene.deployment.kill(GATEWAY).expect("killed");
    scene.deployment.start_router("gateway", GATEWAY).expect("started");
    assert!(!scene.reaches(), "a start goes back at once");
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
        let deployment = after(START).expect("a stage");
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

    /// A command that asks no gateway.
    fn fw_alone(&self, line: &str) -> anyhow::Result<String> {
        let programs = Programs::find()?;
        run(std::process::Command::new(programs.nightgate).arg("fw").args(line.split_whitespace()))
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
