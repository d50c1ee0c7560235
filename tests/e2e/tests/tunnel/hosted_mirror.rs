//! What a tunneler copies of the services that it hosts.

use super::{mirror::Sensor, *};

/// Services of datagrams: name, address where they are intercepted, server.
const ECHOES: [(&str, &str, &str); 2] =
    [("echo", "10.9.1.1", "fd05::2"), ("echo4", "10.9.1.4", "10.5.0.2")];

/// Who hosts.
#[derive(Clone, Copy)]
enum By {
    /// `tunnel host`.
    Host,
    /// `tunnel run`, which dials as well.
    Run,
}

impl Scene {
    /// Services whose servers are on another host and on this one, and an identity that hosts them.
    fn host_services(&self, host: &str) {
        for (name, server) in
            [("quiet", "10.5.0.2:80"), ("far", "10.5.0.2:80"), ("near", "127.0.0.1:8080")]
        {
            self.operate(&format!(
                "service create {name} --intercept {name}.corp:80 --host {server}"
            ));
        }
        for (name, address, server) in ECHOES {
            let intercept = format!(
                r#"{{ "protocols": ["udp"], "addresses": ["{address}"], "portRanges": [{{ "low": 5353, "high": 5353 }}] }}"#
            );
            let server = format!(r#"{{ "protocol": "udp", "address": "{server}", "port": 5353 }}"#);
            for (kind, document) in [("intercept.v1", intercept), ("host.v1", server)] {
                let file = self.file(kind);
                fs::write(&file, document).expect("written");
                let file = file.display();
                self.operate(&format!("config create {name}-{kind} {kind} --data {file}"));
            }
            let configs = format!("--config {name}-intercept.v1 --config {name}-host.v1");
            self.operate(&format!("service create {name} {configs}"));
        }
        for name in ["quiet", "far", "near", "echo", "echo4"] {
            for (kind, identity) in [("dial", "laptop"), ("bind", host)] {
                self.operate(&format!(
                    "policy create {name}-{kind} {kind} --identity @{identity} --service @{name}"
                ));
            }
        }
    }

    /// A tunneler that hosts alone.
    fn hosting(&self, mirror: &str) -> Process {
        let mut command = self.namespace.command(&self.nightgate);
        command.args(["tunnel", "host", "--identity"]).arg(self.file("server.json"));
        command.arg("--admin-socket").arg(self.file("tunnel.sock")).args(["--mirror", mirror]);
        let mut process = Process::spawn("host", command, self.folder.path()).expect("started");
        process.wait_for_output("hosting begins", LONG).expect("it hosts");
        process
    }

    fn python(&self, name: &str, namespace: &Namespace, arguments: &[&str]) -> Process {
        let mut command = namespace.command("python3");
        command.arg("-u").args(arguments).current_dir(self.file("beyond"));
        Process::spawn(name, command, self.folder.path()).expect("started")
    }

    fn metrics(&self) -> String {
        let mut command = Command::new(&self.nightgate);
        command.args(["metrics", "--socket"]).arg(self.file("tunnel.sock"));
        run(&mut command).expect("metrics")
    }
}

/// Programs talk to the services, and a sensor sees it where it is between the tunneler and the servers.
fn is_copied(by: By) {
    let scene = Scene::start();
    let beyond = Beyond::start(&scene);
    fs::write(scene.file("beyond/large"), vec![b'x'; 300_000]).expect("written");
    let arguments = ["-m", "http.server", "8080", "--bind", "127.0.0.1"];
    let mut near = scene.python("near", &scene.namespace, &arguments);
    near.wait_for_output("Serving HTTP", LONG).expect("it serves");
    let echo = "import socket\n\
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', 5353)); print('ready')\n\
        while True: s.sendto(*s.recvfrom(9999))";
    let mut echo = scene.python("echo", beyond.namespace(), &["-c", echo]);
    echo.wait_for_output("ready", LONG).expect("it answers");
    let sensor = Sensor::start(&scene, "hosted");
    let mirror = scene.file("mirror.yaml");
    let text = "sensors: { ids: { interface: mon0, address: 10.7.0.2 } }\n\
                never: { services: [quiet] }\n\
                sessions:\n\
                - { id: others, identities: [somebody], sensor: ids, vni: 41 }\n\
                - { id: watch, services: [quiet, far, near, echo, echo4], sensor: ids, vni: 42 }\n";
    fs::write(&mirror, text).expect("written");
    let mirror = mirror.display().to_string();
    let mut processes = match by {
        By::Host => {
            let (jwt, file) = (scene.file("server.jwt"), scene.file("server.json"));
            let (jwt, file) = (jwt.display(), file.display());
            scene.operate(&format!("identity create server --jwt-out {jwt}"));
            scene.operate(&format!("enroll {jwt} --out {file}"));
            scene.host_services("server");
            let hosting = scene.hosting(&mirror);
            vec![hosting, scene.tunnel_asked_at("dials.sock", ("dials", &[]))]
        }
        By::Run => {
            scene.host_services("laptop");
            vec![scene.tunnel("runs", &["--mirror", &mirror])]
        }
    };
    let said = |processes: &mut [Process]| {
        processes.iter_mut().map(|it| it.log()).collect::<Vec<_>>().join("\n")
    };
    for name in ["quiet", "far", "near"] {
        let url = format!("http://{name}.corp/large");
        until(name, LONG, || {
            let page = scene.program(&["curl", "-sS", "--max-time", "20", &url]);
            Ok((page.stdout.len() == 300_000).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", said(&mut processes)));
    }
    // What `tunnel run` copies of its programs does not fit the way to the sensor if it is that long.
    let length = if matches!(by, By::Host) { 4_000 } else { 9 };
    for (_, address, server) in ECHOES {
        let (ip, own) = if server.contains(':') { ("ipv6", "fd05::1") } else { ("ip", "10.5.0.1") };
        let datagram = format!(
            "import socket\n\
             s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)\n\
             s.sendto(b'x' * {length}, ('{address}', 5353)); print(len(s.recvfrom(9999)[0]))"
        );
        until("an echo", LONG, || {
            let answer = scene.program(&["python3", "-c", &datagram]);
            let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
            Ok((answer.trim() == length.to_string()).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", said(&mut processes)));
        // The sensor puts fragments together.
        let whole = format!("vxlan.vni == 42 && udp.length == {}", length + 8);
        for way in [
            format!("udp.dstport == 5353 && {ip}.src == {own} && {ip}.dst == {server}"),
            format!("udp.srcport == 5353 && {ip}.src == {server} && {ip}.dst == {own}"),
        ] {
            sensor.sees(&format!("{whole} && {way}"), &said(&mut processes));
        }
    }
    for filter in [
        "tcp.flags.syn == 1 && ip.src == 10.5.0.1 && ip.dst == 10.5.0.2",
        "tcp contains \"Host: far.corp\" && ip.src == 10.5.0.1 && ip.dst == 10.5.0.2",
        "tcp contains \"200 OK\" && ip.src == 10.5.0.2 && ip.dst == 10.5.0.1",
        "tcp contains \"Host: near.corp\" && ip.dst == 127.0.0.1 && tcp.dstport == 8080",
        "tcp contains \"200 OK\" && ip.dst == 127.0.0.1 && tcp.srcport == 8080",
    ] {
        sensor.sees(&format!("vxlan.vni == 42 && {filter}"), &said(&mut processes));
    }
    // Several CPUs may carry a flow, and its copies come in another order then: what is looked at is in one segment.
    for wrong in ["tcp contains \"Host: quiet.corp\"", "vxlan.vni == 41", "frame.len > 1564"] {
        sensor.has_none(wrong);
    }
    scene.accounts();
    let metrics = scene.metrics();
    for line in [
        "nightgate_mirror_copies_total{outcome=\"mirrored\",session=\"watch\"}",
        "nightgate_sensor_up{sensor=\"ids\"} 1",
        "nightgate_sensor_copies_total{sensor=\"ids\"}",
        "nightgate_circuits_opened_total",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    for process in &mut processes {
        process.stop(Signal::SIGTERM, LONG).expect("stopped");
    }
    let links = scene.namespace.ip("link").expect("listed");
    assert!(!links.contains("ngtun"), "{links}");
}

#[test]
fn what_servers_of_hosted_services_hear_and_say_is_copied() {
    is_copied(By::Host);
}

#[test]
fn so_it_is_of_a_tunneler_that_intercepts_as_well() {
    is_copied(By::Run);
}
