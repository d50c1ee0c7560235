//! Capture files of what a session copies.

use std::{
    fs,
    io::Read as _,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use nightgate_lab::packet_comments;

use super::{HOSTED, Scene};

#[test]
fn mirrored_packets_are_written_to_files_that_say_whose_they_are() {
    let mut scene = Scene::after(HOSTED);
    let gateway = &scene.deployment.topology().gateway_a;
    gateway.ip("link add cap0 type veth peer name cap1").expect("added");
    for end in ["cap0", "cap1"] {
        gateway.ip(&format!("link set {end} mtu 9000 up")).expect("up");
    }
    let file = scene.deployment.file("captures/web.pcapng").display().to_string();
    let text = fs::read_to_string(scene.deployment.file("gw-a.yaml")).expect("a configuration");
    let (text, _mirror) = text.split_once("mirror:\n").expect("a mirror");
    let text = format!(
        "{text}mirror:\n  sensors: {{ disk: {{ interface: cap0, encapsulation: local }} }}\n  sessions: [{{ id: web, \
         services: [web], sensor: disk }}]\ntelemetry: {{ packets: {{ interface: cap0, path: '{file}', listen: '127.0.0.1:57012' }} }}\n"
    );
    scene.deployment.write("gw-a.yaml", &text).expect("written");
    scene.deployment.kill("gw-a").expect("killed");
    scene.deployment.start_router("gateway", "gw-a").expect("started");
    let web = SocketAddr::new(scene.resolve("web.corp"), 80);
    scene.wait("the service", || Ok(scene.answers(web).then_some(())));

    // The second process reads what the first one has written: each start begins another file.
    scene.wait("packets of the page", || {
        let packets = packet_comments(
            file.as_ref(),
            "http.request && frame.comment contains \"service=web\"",
        );
        Ok(packets.contains("identity=gw-a circuit=").then_some(()))
    });
    let answers = packet_comments(
        file.as_ref(),
        "http.response.code == 200 && frame.comment contains \"circuit=\"",
    );
    assert!(answers.contains("community_id=1:"), "{answers}");
    // Of no other interface, from the first moment on.
    assert_eq!(packet_comments(file.as_ref(), "ip.addr == 192.0.2.0/24"), "");
    assert_eq!(
        packet_comments(file.as_ref(), "tcp.checksum.status == 0 || ip.checksum.status == 0"),
        ""
    );
    let metrics = scene.deployment.ask("gw-a", "metrics").expect("metrics");
    assert!(!metrics.contains("nightgate_captured_frames_total{result=\"lost\"}"), "{metrics}");
    assert!(metrics.contains("nightgate_captured_frames_total{result=\"delivered\"}"), "{metrics}");

    let reader =
        scene.deployment.topology().gateway_a.enter(|| TcpStream::connect("127.0.0.1:57012"));
    let mut reader = reader.expect("entered").expect("connected");
    reader.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
    let mut stream = Vec::new();
    scene.wait("packets of the page over TCP", || {
        assert!(scene.answers(web));
        // It ends by the time; what has come until then is kept.
        drop(reader.read_to_end(&mut stream));
        let copy = scene.deployment.file("stream.pcapng");
        fs::write(&copy, &stream)?;
        let filter = "http.request && frame.comment contains \"identity=gw-a\"";
        Ok((!packet_comments(&copy, filter).is_empty()).then_some(()))
    });

    scene.deployment.kill("gw-a").expect("killed");
    scene.deployment.start_router("gateway", "gw-a").expect("started");
    scene.wait("the service", || Ok(scene.answers(web).then_some(())));
    scene.wait("another file", || {
        Ok(fs::exists(file.replace(".pcapng", ".1.pcapng"))?.then_some(()))
    });
}
