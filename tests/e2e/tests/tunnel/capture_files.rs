//! Capture files of what a tunneler copies.

use nightgate_lab::packet_comments;

use super::*;

#[test]
fn what_programs_say_is_written_to_files_that_name_them() {
    let scene = Scene::start();
    let _beyond = Beyond::start(&scene);
    let mut server = scene.namespace.command("python3");
    server.args(["-u", "-m", "http.server", "8080", "--bind", "127.0.0.1"]);
    let mut server = Process::spawn("server", server, scene.folder.path()).expect("started");
    server.wait_for_output("Serving HTTP", LONG).expect("it serves");
    scene.operate("service create near --intercept near.corp:81 --host 127.0.0.1:8080");
    for kind in ["dial", "bind"] {
        let line = format!("policy create near-{kind} {kind} --identity @laptop --service @near");
        scene.operate(&line);
    }
    scene.namespace.ip("link add cap0 type veth peer name cap1").expect("added");
    for end in ["cap0", "cap1"] {
        scene.namespace.ip(&format!("link set {end} up mtu 1600")).expect("up");
    }
    let (mirror, file) = (scene.file("mirror.yaml"), scene.file("captures/all.pcapng"));
    let text = format!(
        "sensors: {{ disk: {{ interface: cap0, encapsulation: local }} }}\n\
         sessions: [{{ id: all, services: [web, near], sensor: disk }}]\n\
         packets: {{ interface: cap0, path: '{}', listen: '127.0.0.1:57012' }}\n",
        file.display()
    );
    fs::write(&mirror, text).expect("written");
    let mut tunnel = scene.tunnel("files", &["--mirror", &mirror.display().to_string()]);
    for url in ["http://10.9.0.9/", "http://[fd09::9]/", "http://near.corp:81/"] {
        until(url, LONG, || {
            let page = scene.program(&["curl", "-sS", "--max-time", "20", url]);
            Ok((page.status.success() && !page.stdout.is_empty()).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", tunnel.log()));
    }
    let dialed = "service=web identity=laptop pid=";
    // Of what is hosted, it is the dialer that is known, and no program.
    let hosted = "service=near identity=laptop community_id=1:";
    for (filter, words) in [
        ("http.request && ip.dst == 10.9.0.9", dialed),
        ("http.response.code == 200 && ip.src == 10.9.0.9", dialed),
        ("http.request && ipv6.dst == fd09::9", dialed),
        ("tcp contains \"GET /\" && tcp.dstport == 8080", hosted),
    ] {
        until(filter, LONG, || {
            let comments = packet_comments(&file, filter);
            let of_program = words == hosted
                || comments.contains(" uid=0 executable=")
                    && comments.contains("curl community_id=1:");
            Ok((comments.contains(words) && of_program).then_some(()))
        })
        .unwrap_or_else(|error| {
            panic!("{error:#}\n{}\n{}", packet_comments(&file, "ip || ipv6"), tunnel.log())
        });
    }
    assert_eq!(packet_comments(&file, "tcp.checksum.status == 0 || ip.checksum.status == 0"), "");
    let mut metrics = Command::new(&scene.nightgate);
    metrics.args(["metrics", "--socket"]).arg(scene.file("tunnel.sock"));
    let metrics = run(&mut metrics).expect("metrics");
    assert!(metrics.contains("nightgate_captured_frames_total{result=\"delivered\"}"), "{metrics}");
    let listening = scene.namespace.shell("ss -Hltn sport = :57012").expect("listed");
    assert!(listening.contains("127.0.0.1:57012"), "{listening}");
    tunnel.stop(Signal::SIGTERM, LONG).expect("stopped");
}
