//! Datagrams between a client of gateway A and a server of gateway B.

use std::{
    io::IoSlice,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use super::{LONG, Scene};

#[test]
fn datagrams_are_carried_one_by_one_from_the_address_they_were_sent_to() {
    let scene = Scene::new();
    let answering = scene.answering(1);
    for to in ["172.20.1.2:5353", "[fd77::9]:5999"] {
        let to: SocketAddr = to.parse().expect("an address");
        let client = scene.client(to.ip());
        let from = client.local_addr().expect("an address").ip();
        scene.is_carried(&format!("udp {from} > {to}"));
        // The first ones come while the circuit is dialed, and are not lost.
        for number in 0..20_u8 {
            client.send_to(&[number; 9], to).expect("sent");
        }
        for number in 0..20_u8 {
            assert_eq!(receive(&client), (vec![number; 9], to));
        }
        for length in [1_000, 3, 1_400] {
            send_together(&client, to, length);
            for number in 0..40_u8 {
                assert_eq!(receive(&client), (vec![number; length.into()], to));
            }
        }
        // The long ones come and go in fragments; 65,507 is the longest of IPv4.
        for length in [0, 1, 0, 1_400, 4_000, 9_000, 60_000, 65_507, 2] {
            client.send_to(&vec![7; length], to).expect("sent");
            let (answer, from) = receive(&client);
            assert!(answer == vec![7; length], "{length}: {} bytes", answer.len());
            assert_eq!(from, to);
        }
    }
    let name = scene.resolve("a.b.echo.corp");
    let to = SocketAddr::new(name, 5001);
    let client = scene.client(name);
    client.send_to(b"stop", to).expect("sent");
    assert_eq!(receive(&client), (b"stop".to_vec(), to));
    answering.join().expect("an echo");
}

#[test]
fn a_flood_that_is_answered_manifold_ends_and_its_flow_goes_on() {
    let scene = Scene::new();
    let answering = scene.answering(4);
    let to: SocketAddr = "172.20.1.2:5353".parse().expect("an address");
    let client = scene.client(to.ip());
    scene.is_carried(&format!("udp 10.1.0.2 > {to}"));
    client.send_to(b"first", to).expect("sent");
    assert_eq!(receive(&client), (b"first".to_vec(), to));
    // Both directions have more to carry than they can: neither may wait for the other.
    for _ in 0..2_000 {
        send_together(&client, to, 1_200);
    }
    client.set_read_timeout(Some(Duration::from_secs(1))).expect("set");
    scene.wait("an answer after the flood", || {
        client.send_to(b"last", to)?;
        let mut buffer = [0; 2_000];
        while let Ok(length) = client.recv(&mut buffer) {
            if &buffer[..length] == b"last" {
                return Ok(Some(()));
            }
        }
        Ok(None)
    });
    client.send_to(b"stop", to).expect("sent");
    answering.join().expect("an echo");
}

/// Sends forty datagrams in one call, which the kernel cuts on their way (UDP_SEGMENT, udp(7)).
fn send_together(client: &UdpSocket, to: SocketAddr, length: u16) {
    let together: Vec<u8> = (0..40_u8).flat_map(|number| vec![number; length.into()]).collect();
    sendmsg(
        client.as_raw_fd(),
        &[IoSlice::new(&together)],
        &[ControlMessage::UdpGsoSegments(&length)],
        MsgFlags::empty(),
        Some(&SockaddrStorage::from(to)),
    )
    .expect("sent");
}

pub(crate) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 65_535];
    let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
    (buffer[..length].to_vec(), from)
}

impl Scene {
    /// A service whose server answers each datagram so many times with itself, until it says that it shall stop.
    fn answering(&self, times: usize) -> JoinHandle<()> {
        let server: SocketAddr = "10.2.0.2:5353".parse().expect("an address");
        let bind = || UdpSocket::bind(server);
        let echo = self.deployment.topology().server.enter(bind).expect("entered").expect("bound");
        echo.set_read_timeout(Some(LONG)).expect("set");
        self.rules("- { id: echo, from: local, to: lan, protocol: udp, action: accept }");
        self.service(
            "echo",
            r#"{"protocols":["udp"],"addresses":["172.16.0.0/12","fd77::/64","*.echo.corp"],"portRanges":[{"low":5000,"high":5999}]}"#,
            r#"{"protocol":"udp","address":"10.2.0.2","port":5353}"#,
        );
        thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while let Ok((length, client)) = echo.recv_from(&mut buffer) {
                for _ in 0..times {
                    echo.send_to(&buffer[..length], client).expect("answered");
                }
                if &buffer[..length] == b"stop" {
                    return;
                }
            }
        })
    }
}
