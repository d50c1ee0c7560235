//! What a tunneler copies for sensors.

use nightgate_lab::Capture;

use super::*;

/// A sensor behind an interface of the scene's host.
pub(super) struct Sensor {
    capture: Capture,
    namespace: Namespace,
}

impl Sensor {
    pub(super) fn start(scene: &Scene, name: &str) -> Self {
        let namespace = Namespace::new("sensor").expect("a namespace");
        veth((&scene.namespace, "mon0"), (&namespace, "in0")).expect("a cable");
        for (namespace, interface, address) in
            [(&scene.namespace, "mon0", "10.7.0.1/24"), (&namespace, "in0", "10.7.0.2/24")]
        {
            namespace.ip(&format!("link set {interface} mtu 1600")).expect("set");
            namespace.add_address(interface, address).expect("added");
        }
        let capture = Capture::start(name, &namespace, "in0", scene.folder.path());
        Self { capture: capture.expect("started"), namespace }
    }

    /// Gives the way to it room for packets of so many bytes.
    fn widen(&self, scene: &Scene, mtu: u32) {
        for (namespace, interface) in [(&scene.namespace, "mon0"), (&self.namespace, "in0")] {
            namespace.ip(&format!("link set {interface} mtu {mtu}")).expect("set");
        }
    }

    /// Of what was copied, what a program has said and heard, at the addresses that it knows; and nothing else.
    fn has_seen(&self, ends: [&str; 2], of: &str) {
        let [own, other] = ends;
        let ip = if own.contains(':') { "ipv6" } else { "ip" };
        for filter in [
            format!("tcp.flags.syn == 1 && {ip}.src == {own} && {ip}.dst == {other}"),
            format!("http.request && {ip}.src == {own} && {ip}.dst == {other}"),
            format!("http.response.code == 200 && {ip}.src == {other} && {ip}.dst == {own}"),
            format!("udp.dstport == 80 && {ip}.src == {own} && {ip}.dst == {other}"),
            format!("udp.srcport == 80 && {ip}.src == {other} && {ip}.dst == {own}"),
        ] {
            self.sees(&format!("vxlan && {filter}"), of);
        }
    }

    /// A copy that a filter finds has come, or comes.
    pub(super) fn sees(&self, filter: &str, of: &str) {
        let found = self.capture.wait_for(filter);
        found.unwrap_or_else(|error| panic!("{error:#}\n{of}"));
    }

    /// No copy has come that a filter finds, nor one with a wrong checksum.
    pub(super) fn has_none(&self, filter: &str) {
        assert_eq!(self.capture.count(filter).expect("counted"), 0, "{filter}");
        assert_eq!(self.capture.bad_checksums().expect("counted"), 0);
    }

    fn has_whole_frames(&self) {
        for wrong in
            ["ip.addr == 127.0.0.0/8", "ipv6.addr == ::1", "frame.len > 1564", "vxlan && dns"]
        {
            self.has_none(wrong);
        }
    }
}

impl Scene {
    /// What a tunneler needs to copy the service.
    fn mirror(&self) -> String {
        let file = self.file("mirror.yaml");
        let text = "sensors: { ids: { interface: mon0, address: 10.7.0.2 } }\n\
                    sessions: [{ id: watch, services: [web], sensor: ids, vni: 42 }]\n";
        fs::write(&file, text).expect("written");
        file.display().to_string()
    }

    /// All copies that were due have left.
    pub(super) fn accounts(&self) {
        // In whatever order they left: several CPUs carry one connection.
        let [matched, mirrored] = self.copied(["matched", "mirrored"]);
        assert!(matched == mirrored && mirrored > 20, "{matched} matched, {mirrored} mirrored");
    }

    /// Copies of the session of which this became.
    fn copied<const N: usize>(&self, outcomes: [&str; N]) -> [u64; N] {
        let mut command = Command::new(&self.nightgate);
        command.args(["mirror", "--json", "--socket"]).arg(self.file("tunnel.sock"));
        let answer = run(&mut command).expect("shown");
        let rows: Vec<Value> = serde_json::from_str(&answer).expect("rows");
        outcomes.map(|outcome| {
            let rows = rows.iter().filter(|row| row["session"] == "watch");
            rows.filter(|row| row["outcome"] == outcome)
                .filter_map(|row| row["packets"].as_u64())
                .sum()
        })
    }
}

/// Sends a datagram to an address and waits for the answer.
fn datagram(address: &str) -> String {
    let family = if address.contains(':') { "AF_INET6" } else { "AF_INET" };
    format!(
        "import socket\n\
         s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.settimeout(20)\n\
         s.sendto(b'GET / HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n', ('{address}', 80))\n\
         print(s.recvfrom(9999)[1][0])"
    )
}

/// What programs do that is to be seen: requests, of which one is more than a frame, and datagrams.
fn talk(scene: &Scene, run: impl Fn(&[&str]) -> String) {
    let body = scene.file("body");
    fs::write(&body, vec![b'x'; 300_000]).expect("written");
    let body = format!("@{}", body.display());
    for place in &PLACES[..2] {
        let url = format!("http://{place}/");
        let page = run(&["curl", "-sS", "--max-time", "20", &url]);
        assert!(page.contains("Hello laptop"), "{place}: {page}");
        run(&["curl", "-sS", "--max-time", "20", "--data-binary", &body, &url]);
        let address = place.trim_matches(['[', ']']);
        assert!(run(&["python3", "-c", &datagram(address)]).contains(address), "{address}");
    }
}

#[test]
fn what_programs_say_to_services_is_copied_with_the_addresses_that_they_know() {
    let scene = Scene::start();
    let _beyond = Beyond::start(&scene);
    let sensor = Sensor::start(&scene, "cgroup");
    let (records, outputs) = (scene.file("flows.jsonl"), scene.file("outputs.yaml"));
    fs::write(&outputs, format!("file: {{ path: '{}' }}\n", records.display())).expect("written");
    let (mirror, outputs) = (scene.mirror(), outputs.display().to_string());
    let options = ["--mirror", &mirror, "--flow-records", &outputs];
    let mut tunnel = scene.tunnel("cgroup", &options);
    talk(&scene, |program| {
        let output = scene.program(program);
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    for ends in [["10.5.0.1", "10.9.0.9"], ["fd05::1", "fd09::9"]] {
        sensor.has_seen(ends, &tunnel.log());
    }
    sensor.has_whole_frames();
    scene.accounts();
    tunnel.stop(Signal::SIGTERM, LONG).expect("stopped");
    let links = scene.namespace.ip("link").expect("listed");
    assert!(!links.contains("ngtun"), "{links}");
    let told = fs::read_to_string(&records).expect("records");
    let record = told.lines().find(|line| line.contains("\"dest_ip\":\"10.9.0.9\""));
    let record: Value = serde_json::from_str(record.expect("one")).expect("a record");
    assert_eq!((&record["mirrored"], &record["src_ip"]), (&true.into(), &"10.5.0.1".into()));
}

#[test]
fn without_hooks_on_cgroups_it_is_copied_likewise() {
    let scene = Scene::start();
    let _beyond = Beyond::start(&scene);
    let sensor = Sensor::start(&scene, "interfaces");
    let mut tunnel = scene.tunnel_at_interfaces("interfaces", &["--mirror", &scene.mirror()]);
    talk(&scene, |program| scene.host(program));
    for ends in [["10.5.0.1", "10.9.0.9"], ["fd05::1", "fd09::9"]] {
        sensor.has_seen(ends, &tunnel.log());
    }
    sensor.has_whole_frames();
    scene.accounts();
    tunnel.stop(Signal::SIGTERM, LONG).expect("stopped");
}

#[test]
fn long_datagrams_are_copied_whole_where_the_way_has_room_and_counted_elsewhere() {
    let scene = Scene::start();
    let _beyond = Beyond::start(&scene);
    let sensor = Sensor::start(&scene, "long");
    let mut tunnel = scene.tunnel("long", &["--mirror", &scene.mirror()]);
    let send = || {
        for (family, address) in [("AF_INET", "10.9.0.9"), ("AF_INET6", "fd09::9")] {
            let program = format!(
                "import socket\n\
                 s = socket.socket(socket.{family}, socket.SOCK_DGRAM)\n\
                 s.sendto(b'x' * 4000, ('{address}', 80))"
            );
            assert!(scene.program(&["python3", "-c", &program]).status.success());
        }
    };
    sensor.widen(&scene, 9_000);
    send();
    for filter in ["ip.dst == 10.9.0.9", "ipv6.dst == fd09::9"] {
        let filter =
            format!("vxlan.vni == 42 && {filter} && udp.dstport == 80 && udp.length == 4008");
        sensor.sees(&filter, &tunnel.log());
    }
    sensor.has_none("ip.addr == 127.0.0.0/8");
    // The service may have answered.
    let are_accounted_for = |long| {
        let [matched, mirrored, too_long] = scene.copied(["matched", "mirrored", "too-long"]);
        Ok((too_long == long && matched == mirrored + long && mirrored > 1).then_some(()))
    };
    until("all copies", LONG, || are_accounted_for(0)).expect("none is too long");

    sensor.widen(&scene, 1_600);
    send();
    until("their count", LONG, || are_accounted_for(2))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", tunnel.log()));
    tunnel.stop(Signal::SIGTERM, LONG).expect("stopped");
}

#[test]
fn the_controller_asks_tunnelers_for_copies_by_name() {
    let scene = Scene::start();
    let _beyond = Beyond::start(&scene);
    let sensor = Sensor::start(&scene, "asked");
    let mirror = scene.file("mirror.yaml");
    let text = "sensors: { ids: { interface: mon0, address: 10.7.0.2 } }\nsessions: []\n";
    fs::write(&mirror, text).expect("written");
    let mut tunnel = scene.tunnel("cgroup", &["--mirror", &mirror.display().to_string()]);
    let watch = |command: &str, tunneler: &str| {
        let document = scene.file("watch.json");
        let text = format!(
            r#"{{ "sensor": "ids", "vni": 42, "expires": "2100-01-01T00:00:00Z", "tunnelers": ["{tunneler}"] }}"#
        );
        fs::write(&document, text).expect("written");
        scene.operate(&format!("config {command} --data {}", document.display()));
    };
    let visit = |page: &str| {
        let url = format!("http://10.9.0.9/{page}");
        scene.program(&["curl", "-sS", "--max-time", "20", &url])
    };
    let copies = || {
        let mut command = Command::new(&scene.nightgate);
        command.args(["mirror", "--json", "--socket"]).arg(scene.file("tunnel.sock"));
        run(&mut command).expect("shown")
    };
    watch("create watch mirror.v1", "somebody");
    scene.operate("service update web --config places --config watch");
    assert!(visit("unwatched").status.success(), "{}", tunnel.log());

    watch("update watch", "laptop");
    until("copies", LONG, || {
        visit("watched");
        Ok(copies().contains("by-web").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", tunnel.log()));
    for filter in ["http.request.uri == \"/watched\"", "http.response"] {
        sensor.sees(&format!("vxlan.vni == 42 && {filter}"), &tunnel.log());
    }
    sensor.has_none("http.request.uri == \"/unwatched\"");

    scene.operate("service update web --config places");
    until("no session", LONG, || Ok((!copies().contains("by-web")).then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", tunnel.log()));
    assert!(visit("later").status.success(), "{}", tunnel.log());
    sensor.has_none("http.request.uri == \"/later\"");
    drop(sensor);

    // What cannot be had is, as soon as it can.
    scene.operate("service update web --config places --config watch");
    until("a reason", LONG, || Ok(tunnel.log().contains("no interface is named").then_some(())))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", tunnel.log()));
    let sensor = Sensor::start(&scene, "again");
    until("copies again", LONG, || {
        visit("again");
        Ok(copies().contains("by-web").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", tunnel.log()));
    sensor.sees("vxlan.vni == 42 && http.request.uri == \"/again\"", &tunnel.log());
    assert_eq!(tunnel.log().matches("no interface is named").count(), 1, "{}", tunnel.log());
    tunnel.stop(Signal::SIGTERM, LONG).expect("stopped");
}

#[test]
fn a_second_tunneler_that_would_copy_is_told_of_the_first() {
    let scene = Scene::start();
    let sensor = Sensor::start(&scene, "first");
    let mirror = scene.mirror();
    let mut first = scene.tunnel("first", &["--mirror", &mirror]);
    let mut second = scene.namespace.command(&scene.nightgate);
    second.args(["tunnel", "host", "--mirror", &mirror, "--identity"]);
    let refused = second.arg(scene.file("try/laptop.json")).output().expect("started");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    let expected = format!("already (nightgate tunnel, process {})", first.id());
    assert!(!refused.status.success() && text.contains(&expected), "{text}");
    assert!(text.contains("stop it"), "{text}");

    let url = "http://10.9.0.9/undisturbed";
    let page = scene.program(&["curl", "-sS", "--max-time", "20", url]);
    assert!(page.status.success(), "{}", first.log());
    sensor.sees("vxlan.vni == 42 && http.request.uri == \"/undisturbed\"", &first.log());

    // One that was killed copies no more, whatever it has left.
    first.stop(Signal::SIGKILL, LONG).expect("killed");
    let mut next = scene.tunnel("next", &["--mirror", &mirror]);
    next.stop(Signal::SIGTERM, LONG).expect("stopped");
}
