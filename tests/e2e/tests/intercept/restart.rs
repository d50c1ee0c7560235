//! What a gateway forwards, packet by packet, while it is killed and started again.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nightgate_lab::{Namespace, overlay::address};
use nix::sys::socket::{setsockopt, sockopt};

use super::Scene;

/// Time between two datagrams.
const PACE: Duration = Duration::from_millis(2);
/// Forwarding before the kill, and after the start.
const AROUND: Duration = Duration::from_secs(1);
/// What a receiver waits for the last one.
const SILENCE: Duration = Duration::from_secs(2);

#[test]
fn no_forwarded_datagram_is_lost_while_a_gateway_is_killed_and_started_again() {
    let mut scene = Scene::new();
    scene.let_out();
    let topology = scene.deployment.topology();
    let flows: Vec<_> = (0..2)
        .map(|family| {
            let at = |addresses: [&str; 2], port| {
                SocketAddr::new(addresses[family].parse::<IpAddr>().expect("an address"), port)
            };
            let server = bind(&topology.public, at(address::PUBLIC, 9_000));
            let client = bind(&topology.client, at(address::CLIENT, 0));
            client.connect(server.local_addr().expect("an address")).expect("connected");
            // The flow stands before it is counted.
            wake(&client, &server);
            (client, server)
        })
        .collect();
    let over = AtomicBool::new(false);
    let mut moments = Vec::new();
    let counted: Vec<_> = thread::scope(|scope| {
        let tasks: Vec<_> = flows
            .iter()
            .map(|(client, server)| {
                let echo = scope.spawn(|| answer(server));
                let heard = scope.spawn(|| listen(client));
                let sent = scope.spawn(|| send(client, &over));
                (sent, echo, heard)
            })
            .collect();
        let started = Instant::now();
        thread::sleep(AROUND);
        moments.push(("killed", started.elapsed()));
        scene.deployment.kill("gw-a").expect("killed");
        thread::sleep(AROUND);
        moments.push(("started", started.elapsed()));
        scene.deployment.start_router("gateway", "gw-a").expect("started");
        moments.push(("answers its operator", started.elapsed()));
        thread::sleep(AROUND);
        over.store(true, Ordering::Relaxed);
        let join = |(sent, echo, heard): (
            thread::ScopedJoinHandle<'_, u32>,
            thread::ScopedJoinHandle<'_, u32>,
            thread::ScopedJoinHandle<'_, BTreeSet<u32>>,
        )| {
            let joined = (sent.join(), echo.join(), heard.join());
            (joined.0.expect("sent"), joined.1.expect("answered"), joined.2.expect("heard"))
        };
        tasks.into_iter().map(join).collect()
    });
    for (sent, answered, heard) in counted {
        let lost: Vec<_> = (0..sent).filter(|number| !heard.contains(number)).collect();
        let at = lost.first().map(|first| PACE * *first);
        println!("{sent} sent, {answered} answered, {} lost, {moments:?}", lost.len());
        assert!(lost.is_empty(), "the first at {at:?}: {lost:?}");
        assert!(sent > 1_000);
    }
}

fn bind(namespace: &Namespace, address: SocketAddr) -> UdpSocket {
    let socket = namespace.enter(|| UdpSocket::bind(address)).expect("entered").expect("bound");
    // A busy machine must not make this test lose datagrams by itself.
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).expect("room");
    socket.set_read_timeout(Some(SILENCE)).expect("set");
    socket
}

/// Sends until an answer has come.
fn wake(client: &UdpSocket, server: &UdpSocket) {
    let mut buffer = [0; 64];
    client.send(b"first").expect("sent");
    let (length, from) = server.recv_from(&mut buffer).expect("the first one");
    server.send_to(&buffer[..length], from).expect("answered");
    client.recv(&mut buffer).expect("its answer");
}

fn send(client: &UdpSocket, over: &AtomicBool) -> u32 {
    let mut number = 0_u32;
    while !over.load(Ordering::Relaxed) {
        client.send(&number.to_be_bytes()).expect("sent");
        number += 1;
        thread::sleep(PACE);
    }
    number
}

/// Answers until nothing comes any more; gives how many it answered.
fn answer(server: &UdpSocket) -> u32 {
    let mut buffer = [0; 64];
    let mut answered = 0;
    while let Ok((length, from)) = server.recv_from(&mut buffer) {
        server.send_to(&buffer[..length], from).expect("answered");
        answered += 1;
    }
    answered
}

/// The numbers that came back.
fn listen(client: &UdpSocket) -> BTreeSet<u32> {
    let mut buffer = [0; 4];
    let mut heard = BTreeSet::new();
    while client.recv(&mut buffer).is_ok() {
        heard.insert(u32::from_be_bytes(buffer));
    }
    heard
}
