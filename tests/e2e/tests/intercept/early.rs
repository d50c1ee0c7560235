//! Data that goes with dials, from gateway to gateway.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    thread,
};

use nightgate_lab::until;

use super::{LONG, Scene};

/// What the server says first to everybody.
const GREETING: u8 = b'+';
/// More than goes with a dial.
const LENGTH: usize = 20_000;

#[test]
fn what_a_client_says_first_goes_with_the_dial_and_nothing_is_lost_or_doubled() {
    let mut scene = Scene::new();
    // Gateway B tells what it takes.
    let own = std::fs::read_to_string(scene.deployment.file("gw-b.yaml")).expect("rules");
    let socket = scene.deployment.file("gw-b.metrics");
    let text = format!("{own}metrics: {{ socket: '{}' }}\n", socket.display());
    scene.deployment.write("gw-b.yaml", &text).expect("written");
    scene.deployment.kill("gw-b").expect("killed");
    scene.deployment.start_router("gateway", "gw-b").expect("started");
    let server: SocketAddr = "10.2.0.2:7070".parse().expect("an address");
    let listener = scene.deployment.topology().server.enter(|| TcpListener::bind(server));
    let listener = listener.expect("entered").expect("bound");
    thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(echo));
    scene.rules("- { id: echo, from: local, to: lan, protocol: tcp, action: accept }");
    let documents = [
        ("end-to-end.v1", r#"{"method":"negotiated","earlyData":true}"#),
        (
            "intercept.v1",
            r#"{"protocols":["tcp"],"addresses":["172.16.0.0/12"],"portRanges":[{"low":70,"high":70}]}"#,
        ),
        ("host.v1", r#"{"protocol":"tcp","address":"10.2.0.2","port":7070}"#),
    ];
    for (kind, document) in documents {
        let file = scene.deployment.write(kind, document).expect("written");
        scene.operate(&format!("config create echo-{kind} {kind} --data {}", file.display()));
    }
    scene.operate(
        "service create echo --config echo-end-to-end.v1 --config echo-intercept.v1 --config echo-host.v1",
    );
    scene.operate("policy create echo-bind bind --identity @gw-b --service @echo");
    scene.operate("policy create echo-dial dial --identity @gw-a --service @echo");
    let to: SocketAddr = "172.20.1.2:70".parse().expect("an address");
    scene.is_carried("tcp 10.1.0.2 > 172.20.1.2:70");

    until("data with a dial", LONG, || {
        for (first, length) in
            [(First::Client, LENGTH), (First::Client, 9), (First::Server, LENGTH)]
        {
            talk(&scene, to, first, length);
        }
        let mut metrics = String::new();
        let mut stream = UnixStream::connect(&socket)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
        stream.read_to_string(&mut metrics)?;
        let taken = metrics
            .lines()
            .find_map(|line| line.strip_prefix("nightgate_early_data_bytes_total{end=\"host\"} "));
        Ok(taken.filter(|taken| *taken != "0").map(drop))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.deployment.log_tails(40)));
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum First {
    Client,
    Server,
}

/// Sends bytes that are all different from their neighbours, and compares what comes back.
fn talk(scene: &Scene, to: SocketAddr, first: First, length: usize) {
    let client = &scene.deployment.topology().client;
    let mut stream = client.enter(|| TcpStream::connect(to)).expect("entered").expect("connected");
    stream.set_read_timeout(Some(LONG)).expect("set");
    let greet = |stream: &mut TcpStream| {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a greeting");
        assert_eq!(byte, [GREETING]);
    };
    if first == First::Server {
        greet(&mut stream);
    }
    let said: Vec<u8> = (0..length).map(|at| (at % 251).to_le_bytes()[0]).collect();
    stream.write_all(&said).expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("ended");
    if first == First::Client {
        greet(&mut stream);
    }
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("an answer");
    assert!(heard == said, "{} of {} bytes", heard.len(), said.len());
}

fn echo(mut stream: TcpStream) {
    thread::spawn(move || {
        let mut reader = stream.try_clone()?;
        stream.write_all(&[GREETING])?;
        std::io::copy(&mut reader, &mut stream)?;
        stream.shutdown(std::net::Shutdown::Write)
    });
}
