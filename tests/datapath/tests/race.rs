//! Packets of one flow that two CPUs carry at the same moment.

use std::{
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use nightgate_abi::Reason::Forwarded;
use nightgate_datapath::Hook;
use nightgate_datapath_tests::{LAN, WAN, World, frame::*, with_world};
use nightgate_lab::until;
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{LinkAddr, MsgFlags, sendto},
};
use socket2::{Domain, Socket, Type};
use tcp_flags::{ACK, SYN};

const WEB: &str = "- { id: web, from: lan, to: wan, action: accept }";
const SERVER: &str = "192.0.2.1:80";
/// Connections that open at a time: fewer than there is room for.
const TOGETHER: usize = 4_000;
/// How often.
const ROUNDS: usize = 4;
/// What has to happen may take this long.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn what_two_cpus_hear_while_a_connection_opens_is_kept() {
    with_world(WEB, |world| {
        world.namespace.ip("neigh add 10.2.0.254 lladdr 02:00:00:00:00:02 dev wan0").expect("set");
        for round in 0..ROUNDS {
            let clients: Vec<_> =
                (0..TOGETHER).map(|number| format!("10.1.{round}.2:{}", 1_000 + number)).collect();
            for client in &clients {
                probe(world, LAN, &segment(client, SERVER, SYN, [0, 0], 0));
                probe(world, WAN, &segment(SERVER, client, SYN | ACK, [0, 1], 0));
            }
            // Either of them opens the connection.
            let of = |data| {
                let frame = |client: &String| segment(client, SERVER, ACK, [1, 1], data);
                clients.iter().map(frame).collect::<Vec<_>>()
            };
            let before = forwarded(world);
            together(&of(0), &of(1));
            let all = before + 2 * TOGETHER as u64;
            until("all have been judged", PATIENCE, || Ok((forwarded(world) >= all).then_some(())))
                .expect("none is refused");
            for client in &clients {
                let answer = probe(world, WAN, &segment(SERVER, client, ACK, [1, 2], 100));
                assert_eq!(answer, Forwarded, "{client}: its byte is known");
            }
        }
    });
}

fn forwarded(world: &World<'_>) -> u64 {
    world.datapath.statistics().expect("statistics").get(Forwarded).packets
}

fn probe(world: &mut World<'_>, interface: &str, frame: &[u8]) -> nightgate_abi::Reason {
    world.probe(Hook::Ingress, interface, None, frame).reason
}

/// Sends the frames of both lists into the gateway, in pairs as simultaneous as two threads can.
fn together(one: &[Vec<u8>], other: &[Vec<u8>]) {
    let ready = AtomicUsize::new(0);
    let send = |frames: &[Vec<u8>]| {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).expect("a socket");
        let far = far_end();
        for (index, frame) in frames.iter().enumerate() {
            ready.fetch_add(1, Ordering::AcqRel);
            while ready.load(Ordering::Acquire) < 2 * (index + 1) {
                std::hint::spin_loop();
            }
            sendto(socket.as_raw_fd(), frame, &far, MsgFlags::empty()).expect("sent");
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| send(one));
        send(other);
    });
}

/// The other end of the wire to the LAN.
fn far_end() -> LinkAddr {
    let name = format!("{LAN}-far");
    let mut interfaces = getifaddrs().expect("addresses");
    let address = interfaces.find_map(|interface| {
        let is_wanted = interface.interface_name == name;
        interface.address.filter(|_| is_wanted)?.as_link_addr().copied()
    });
    address.expect("the interface's link address")
}
