//! The tunneler at interfaces, where packets leave the host: it sees no programs there.

use super::*;

#[test]
fn without_hooks_on_cgroups_packets_are_taken_on_their_way_out() {
    let scene = Scene::start();
    let _beyond = Beyond::start(&scene);
    let page = |place: &str| scene.host(&["curl", "-sS", "-m", "10", &format!("http://{place}/")]);
    let direct = "Directory listing";
    for place in ["10.9.0.9", "[fd09::9]"] {
        assert!(page(place).contains(direct), "{place}: {}", page(place));
    }
    // The strict form has to be overcome.
    scene.namespace.set("net/ipv4/conf/all/rp_filter", "1").expect("set");
    let settings = || {
        let of = |name| format!("cat /proc/sys/net/ipv4/conf/lo/{name}");
        ["accept_local", "rp_filter"].map(|name| scene.namespace.shell(&of(name)).expect("read"))
    };
    let before = settings();

    let mut tunnel = scene.tunnel_at_interfaces("interfaces", &[]);
    assert!(tunnel.log().contains("falls back to TC"), "{}", tunnel.log());
    let status = scene.show("status");
    assert!(status.contains("\"attach\": \"tc\"") && status.contains("out0"), "{status}");
    for place in PLACES {
        let found = page(place);
        assert!(found.contains("Hello laptop"), "{place}: {found}\n{}", tunnel.log());
    }
    for (family, address) in [("AF_INET", "10.9.0.9"), ("AF_INET6", "fd09::9")] {
        let datagrams = format!(
            "import socket\n\
             s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.settimeout(20)\n\
             s.sendto(b'GET / HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n', ('{address}', 80))\n\
             data, peer = s.recvfrom(9999)\n\
             print(peer[0], data[:12])"
        );
        let said = scene.host(&["python3", "-c", &datagrams]);
        let expected = format!("{address} b'HTTP/1.1 200");
        assert!(said.contains(&expected), "{said}\n{}", tunnel.log());
    }
    let ask =
        |how: &str| scene.host(&["dig", how, "+tries=1", "+timeout=5", "@192.0.2.53", "web.corp"]);
    for how in ["+tcp", "+notcp"] {
        let said = ask(how);
        assert!(said.contains("web.corp.\t\t5\tIN\tA\t100."), "{how}: {said}");
    }
    let waiting = "import socket, time\n\
        s = socket.create_connection(('web.corp', 80)); print(s.getpeername(), flush=True); time.sleep(3)";
    std::thread::scope(|scope| {
        let program = scope.spawn(|| scene.host(&["python3", "-c", waiting]));
        let flows = until("a flow", LONG, || {
            let flows = scene.flows();
            Ok(flows.contains("\"web.corp\"").then_some(flows))
        });
        let flows = flows.expect("one");
        assert!(flows.contains("\"process\": null"), "{flows}");
        program.join().expect("ended");
    });
    // An interface that comes later.
    let later = Namespace::new("later").expect("a namespace");
    veth((&scene.namespace, "out1"), (&later, "in0")).expect("a cable");
    scene.namespace.add_address("out1", "10.6.0.1/24").expect("added");
    later.add_address("in0", "10.6.0.2/24").expect("added");
    scene.namespace.add_route("10.9.0.0/24", "10.6.0.2").expect("a route");
    until("the interface", LONG, || Ok(scene.show("status").contains("out1").then_some(())))
        .expect("covered");
    let found = page("10.9.0.9");
    assert!(found.contains("Hello laptop"), "{found}\n{}", tunnel.log());
    scene.namespace.shell("ip link del out1").expect("deleted");

    tunnel.stop(Signal::SIGTERM, LONG).expect("stopped");
    assert_eq!(settings(), before);
    let rules = scene.namespace.ip("rule show").expect("listed");
    assert!(!rules.contains("fwmark"), "{rules}");
    assert!(page("10.9.0.9").contains(direct));
}

#[test]
fn interfaces_without_ethernet_headers_are_covered_too() {
    let scene = Scene::start();
    for line in [
        "ip tuntap add dev out0 mode tun",
        "ip addr add 10.5.0.1/24 dev out0",
        "ip addr add fd05::1/64 dev out0 nodad",
        "ip link set out0 up",
        "ip route add default dev out0",
        "ip -6 route add default dev out0",
    ] {
        scene.namespace.shell(line).expect("a way out");
    }
    let mut tunnel = scene.tunnel_at_interfaces("tun", &["--attach", "tc"]);
    for place in PLACES {
        let found = scene.host(&["curl", "-sS", "-m", "20", &format!("http://{place}/")]);
        assert!(found.contains("Hello laptop"), "{place}: {found}\n{}", tunnel.log());
    }
    tunnel.stop(Signal::SIGTERM, LONG).expect("stopped");
}

#[test]
fn a_killed_tunneler_at_interfaces_leaves_nothing_or_what_drops_as_was_asked_for() {
    let scene = Scene::start();
    let _beyond = Beyond::start(&scene);
    let page = || scene.host(&["curl", "-sS", "-m", "3", "http://10.9.0.9/"]);
    let (ours, direct) = ("Hello laptop", "Directory listing");

    let policy = scene.file("tunnel.yaml");
    fs::write(&policy, "only: [{ services: [web], users: [0] }]").expect("written");
    let mut command = scene.namespace.command(&scene.nightgate);
    command
        .args(["tunnel", "run", "--attach", "tc", "--identity"])
        .arg(scene.file("try/laptop.json"));
    command.arg("--admin-socket").arg(scene.file("tunnel.sock")).arg("--policy").arg(&policy);
    let refused = command.output().expect("started");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("--attach cgroup"), "{text}");

    let mut tunnel = scene.tunnel_at_interfaces("tunnel", &["--attach", "tc"]);
    assert!(page().contains(ours), "{}", tunnel.log());
    tunnel.stop(Signal::SIGKILL, LONG).expect("killed");
    until("nothing", LONG, || Ok(page().contains(direct).then_some(()))).expect("direct");

    let bpf = nightgate_lab::BpfFileSystem::mount(scene.folder.path()).expect("mounted");
    let closed = ["--attach", "tc", "--fail-closed", "--bpf", bpf.path().to_str().expect("text")];
    let mut tunnel = scene.tunnel_at_interfaces("closed", &closed);
    assert!(page().contains(ours), "{}", tunnel.log());
    tunnel.stop(Signal::SIGKILL, LONG).expect("killed");
    std::thread::sleep(Duration::from_secs(11));
    let dropped = page();
    assert!(dropped.contains("timed out"), "{dropped}");
    let mut tunnel = scene.tunnel_at_interfaces("again", &closed);
    assert!(page().contains(ours), "{}", tunnel.log());
    tunnel.stop(Signal::SIGTERM, LONG).expect("stopped");
    assert!(page().contains(direct));
}
