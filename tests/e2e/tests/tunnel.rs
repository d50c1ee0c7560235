//! The tunneler as a process: programs of a cgroup reach a service that listens nowhere, and nobody else does.

#[path = "tunnel/capture_files.rs"]
mod capture_files;
#[path = "tunnel/early.rs"]
mod early;
#[path = "tunnel/hosted_mirror.rs"]
mod hosted_mirror;
#[path = "tunnel/interfaces.rs"]
mod interfaces;
#[path = "tunnel/mirror.rs"]
mod mirror;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use nightgate_lab::{
    Cgroup, Namespace, Process, overlay::Programs, run, temporary_folder, until, veth,
};
use nix::sys::signal::Signal;
use serde_json::Value;

const LONG: Duration = Duration::from_secs(60);

/// Addresses of the service that no host has, and its name.
const PLACES: [&str; 3] = ["10.9.0.9", "[fd09::9]", "web.corp"];

/// An overlay with one service, and a cgroup whose programs are to reach it.
struct Scene {
    nightgate: PathBuf,
    folder: tempfile::TempDir,
    cgroup: Cgroup,
    namespace: Namespace,
    _quickstart: Process,
}

impl Scene {
    fn start() -> Self {
        let nightgate = Programs::find().expect("built").nightgate;
        let folder = temporary_folder().expect("a folder");
        let namespace = Namespace::new("host").expect("a namespace");
        // A server that is not there: queries never leave the host.
        namespace.set_resolver("192.0.2.53").expect("set");
        let mut command = namespace.command(&nightgate);
        command.arg("quickstart").arg(folder.path().join("try"));
        let mut quickstart = Process::spawn("quickstart", command, folder.path()).expect("started");
        quickstart.wait_for_output("Ctrl-C", LONG).expect("an overlay");
        let scene = Self {
            nightgate,
            folder,
            cgroup: Cgroup::new(&namespace).expect("a cgroup"),
            namespace,
            _quickstart: quickstart,
        };
        scene.intercept("config create places intercept.v1", r#""dialOptions": {}"#);
        scene.operate("service update web --config places");
        scene
    }

    /// Says where the service is intercepted, and more of it.
    fn intercept(&self, command: &str, more: &str) {
        let data = self.file("intercept.json");
        let document = format!(
            r#"{{ "protocols": ["tcp", "udp"], "portRanges": [{{ "low": 80, "high": 80 }}],
            "addresses": ["10.9.0.9", "fd09::/16", "*.corp"], {more} }}"#
        );
        fs::write(&data, document).expect("written");
        self.operate(&format!("{command} --data {}", data.display()));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn operate(&self, line: &str) {
        let mut command = self.namespace.command(&self.nightgate);
        let admin = self.folder.path().join("try/controller/admin.json");
        command.args(line.split(' ')).env("NIGHTGATE_IDENTITY", admin);
        run(&mut command).expect("done");
    }

    fn tunnel(&self, name: &str, options: &[&str]) -> Process {
        self.tunnel_asked_at("tunnel.sock", (name, options))
    }

    /// A tunneler that operators ask at another socket than others.
    fn tunnel_asked_at(&self, socket: &str, (name, options): (&str, &[&str])) -> Process {
        // Not inside `ip netns exec`, which has another /sys.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace.name())).arg(&self.nightgate);
        command.args(["tunnel", "run", "--identity"]).arg(self.file("try/laptop.json"));
        command.arg("--cgroup").arg(self.cgroup.path());
        command.arg("--admin-socket").arg(self.file(socket)).args(options);
        self.started(name, command)
    }

    /// A tunneler that sees no cgroups: `ip netns exec` mounts another /sys.
    fn tunnel_at_interfaces(&self, name: &str, options: &[&str]) -> Process {
        let mut command = self.namespace.command(&self.nightgate);
        command.args(["tunnel", "run", "--identity"]).arg(self.file("try/laptop.json"));
        command.arg("--admin-socket").arg(self.file("tunnel.sock")).args(options);
        self.started(name, command)
    }

    fn started(&self, name: &str, command: Command) -> Process {
        let mut process = Process::spawn(name, command, self.folder.path()).expect("started");
        process.wait_for_output("interception changed", LONG).expect("it intercepts");
        process
    }

    /// What a program of the host says, in no cgroup of its own.
    fn host(&self, program: &[&str]) -> String {
        let mut command = self.namespace.command(program[0]);
        let output = command.args(&program[1..]).output().expect("started");
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    }

    /// Runs a program in the cgroup.
    fn program(&self, program: &[&str]) -> Output {
        self.cgroup.run(&self.namespace, program).expect("started")
    }

    fn curl(&self, place: &str) -> Output {
        self.program(&["curl", "-sS", "--max-time", "20", &format!("http://{place}/")])
    }

    fn flows(&self) -> String {
        self.show("flows")
    }

    fn show(&self, what: &str) -> String {
        let mut command = Command::new(&self.nightgate);
        command.args(["tunnel", what, "--json", "--admin-socket"]).arg(self.file("tunnel.sock"));
        run(&mut command).expect("shown")
    }
}

#[test]
fn programs_reach_a_service_that_listens_nowhere_and_its_flows_name_them() {
    let scene = Scene::start();
    let outputs = scene.file("flow-records.yaml");
    let records = scene.file("flows.jsonl");
    let text = format!("file: {{ path: '{}' }}\n", records.display());
    fs::write(&outputs, text).expect("written");
    let outputs = outputs.display().to_string();
    let mut tunnel = scene.tunnel("tunnel", &["--flow-records", &outputs]);
    for place in PLACES {
        let page = scene.curl(place);
        let text = String::from_utf8_lossy(&page.stdout);
        assert!(text.contains("Hello laptop"), "{place}: {page:?}\n{}", tunnel.log());
    }
    let datagrams = "import socket\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)\n\
        s.sendto(b'GET / HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n', ('10.9.0.9', 80))\n\
        data, peer = s.recvfrom(9999)\n\
        print(peer, data[:12])";
    let said = scene.program(&["python3", "-c", datagrams]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(text.contains("('10.9.0.9', 80) b'HTTP/1.1 200"), "{said:?}\n{}", tunnel.log());

    let waiting = "import socket, time\n\
        s = socket.create_connection(('web.corp', 80)); print(s.getpeername(), flush=True); time.sleep(3)";
    std::thread::scope(|scope| {
        let program = scope.spawn(|| scene.program(&["python3", "-c", waiting]));
        let flows = until("a flow", LONG, || {
            let flows = scene.flows();
            Ok(flows.contains("\"web.corp\"").then_some(flows))
        });
        let flows = flows.expect("one");
        assert!(flows.contains("python3") && flows.contains("\"service\": \"web\""), "{flows}");
        program.join().expect("ended");
    });

    names_programs(&records);

    let reverse = "import socket; print(socket.gethostbyaddr(socket.gethostbyname('web.corp'))[0])";
    let said = scene.program(&["python3", "-c", reverse]);
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "web.corp", "{said:?}");

    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let sockets = scene.namespace.shell(&format!("cat /proc/net/{table}")).expect("read");
        let outside = sockets.lines().skip(1).find(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // TCP sockets that listen (0A), and all of UDP.
            let waits = !table.starts_with("tcp") || fields[3] == "0A";
            let loopback = ["0100007F", "00000000000000000000000001000000"];
            waits && !loopback.iter().any(|address| fields[1].starts_with(address))
        });
        assert_eq!(outside, None, "{table}");
    }

    // Nobody hosts under the name that is asked for from now on.
    let instance = r#""dialOptions": { "identity": "$dst_hostname-$dst_protocol" }"#;
    scene.intercept("config update places", instance);
    until("a dial of an instance", LONG, || {
        let page = scene.curl("web.corp");
        let asked = tunnel.log().contains("web.corp-tcp");
        Ok((!page.status.success() && asked).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", tunnel.log()));
    tunnel.stop(Signal::SIGTERM, LONG).expect("stopped");
}

/// Every connection that has ended is told of, with the program that made it.
fn names_programs(records: &Path) {
    let found = until("the records of three connections", LONG, || {
        let text = fs::read_to_string(records).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let parsed = whole.lines().map(|line| serde_json::from_str(line).expect("a record"));
        let is_curl = |record: &Value| record["process"]["command"] == "curl";
        let records: Vec<Value> = parsed.filter(is_curl).collect();
        Ok((records.len() >= PLACES.len()).then_some(records))
    });
    let found = found.expect("the records of three connections");
    assert_eq!(found.len(), PLACES.len(), "{found:#?}");
    assert_eq!(found[0]["dest_ip"], PLACES[0]);
    assert_eq!(found[1]["dest_ip"], "fd09::9");
    for record in &found {
        let process = &record["process"];
        let executable = process["executable"].as_str().unwrap_or_default();
        assert!(executable.ends_with("/curl") && process["uid"] == 0, "{record:#}");
        assert_eq!((&record["service"], &record["identity"]), (&"web".into(), &"laptop".into()));
        assert_eq!((&record["proto"], &record["dest_port"]), (&"TCP".into(), &80.into()));
        let flow = &record["flow"];
        assert_eq!(flow["reason"], "end-of-flow", "{record:#}");
        assert!(flow["bytes_toclient"].as_u64() > Some(100), "{record:#}");
    }
}

#[test]
fn a_killed_tunneler_leaves_nothing_or_what_refuses_as_was_asked_for() {
    let scene = Scene::start();
    let unreachable = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(7), "{text}");
        text
    };
    let mut tunnel = scene.tunnel("tunnel", &[]);
    assert!(scene.curl(PLACES[0]).status.success());
    tunnel.stop(Signal::SIGKILL, LONG).expect("killed");
    // The host knows no way there.
    unreachable(&scene.curl(PLACES[0]));

    let policy = scene.file("tunnel.yaml");
    fs::write(&policy, "only: [{ services: [web], executables: [/usr/bin/psql] }]")
        .expect("written");
    let mut tunnel = scene.tunnel("policy", &["--policy", policy.to_str().expect("text")]);
    let reset = scene.curl(PLACES[0]);
    assert!(
        !reset.status.success() && tunnel.log().contains("is not for /usr/bin/curl"),
        "{reset:?}"
    );
    tunnel.stop(Signal::SIGTERM, LONG).expect("stopped");

    let bpf = nightgate_lab::BpfFileSystem::mount(scene.folder.path()).expect("mounted");
    let closed = ["--fail-closed", "--bpf", bpf.path().to_str().expect("text")];
    let mut tunnel = scene.tunnel("closed", &closed);
    assert!(scene.curl(PLACES[1]).status.success());
    tunnel.stop(Signal::SIGKILL, LONG).expect("killed");
    until("the end of the promise", LONG, || {
        let refused = scene.curl(PLACES[1]);
        Ok((refused.status.code() == Some(7)).then_some(()))
    })
    .expect("refused");
    let mut tunnel = scene.tunnel("again", &closed);
    assert!(scene.curl(PLACES[1]).status.success());
    tunnel.stop(Signal::SIGTERM, LONG).expect("stopped");
    unreachable(&scene.curl(PLACES[1]));
}

#[test]
fn only_the_sources_that_a_service_allows_reach_it_and_know_its_names() {
    let scene = Scene::start();
    for line in [
        "ip link add out0 type veth peer name in0",
        "ip addr add 10.5.0.1/24 dev out0",
        "ip addr add fd05::1/64 dev out0 nodad",
        "ip link set in0 up",
        "ip link set out0 up",
        "ip route add default dev out0",
        "ip -6 route add default dev out0",
    ] {
        scene.namespace.shell(line).expect("a way out");
    }
    let mut tunnel = scene.tunnel("tunnel", &[]);
    // The server is not there, so whoever answers is the tunneler.
    let ask = |how: &str| {
        let said =
            scene.program(&["dig", how, "+tries=1", "+timeout=5", "@192.0.2.53", "web.corp"]);
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    for how in ["+tcp", "+notcp"] {
        let said = ask(how);
        assert!(said.contains("web.corp.\t\t5\tIN\tA\t100."), "{how}: {said}\n{}", tunnel.log());
    }

    let allow = |sources: &str| {
        let sources = format!(r#""allowedSourceAddresses": [{sources}]"#);
        scene.intercept("config update places", &sources);
    };
    allow(r#""10.6.0.0/16", "fd06::/16""#);
    until("refusals", LONG, || {
        let (page, named) = (scene.curl(PLACES[0]), ask("+tcp"));
        Ok((!page.status.success() && named.contains("NXDOMAIN")).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", tunnel.log()));
    assert!(tunnel.log().contains("do not include 10.5.0.1"), "{}", tunnel.log());
    assert!(ask("+notcp").contains("NXDOMAIN"));

    allow(r#""10.5.0.0/16", "fd05::/16""#);
    until("answers", LONG, || {
        let pages = PLACES.iter().all(|place| scene.curl(place).status.success());
        Ok(pages.then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", tunnel.log()));
    tunnel.stop(Signal::SIGTERM, LONG).expect("stopped");
}

/// A host beyond the scene's own, which has the addresses that are intercepted, and its web server there.
struct Beyond {
    namespace: Namespace,
    _server: Process,
}

impl Beyond {
    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn start(scene: &Scene) -> Self {
        let namespace = Namespace::new("beyond").expect("a namespace");
        veth((&scene.namespace, "out0"), (&namespace, "in0")).expect("a cable");
        for (namespace, interface, addresses) in [
            (&scene.namespace, "out0", ["10.5.0.1/24", "fd05::1/64"]),
            (&namespace, "in0", ["10.5.0.2/24", "fd05::2/64"]),
            (&namespace, "lo", ["10.9.0.9/32", "fd09::9/128"]),
        ] {
            for address in addresses {
                namespace.add_address(interface, address).expect("added");
            }
        }
        scene.namespace.add_route("default", "10.5.0.2").expect("a route");
        scene.namespace.add_route("default", "fd05::2").expect("a route");
        let mut command = namespace.command("python3");
        command.args(["-u", "-m", "http.server", "80", "--bind", "::"]);
        let folder = scene.file("beyond");
        fs::create_dir_all(&folder).expect("a folder");
        command.current_dir(&folder);
        let mut server = Process::spawn("beyond", command, scene.folder.path()).expect("started");
        server.wait_for_output("Serving HTTP", LONG).expect("it serves");
        Self { namespace, _server: server }
    }
}
