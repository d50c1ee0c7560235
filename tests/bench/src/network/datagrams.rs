//! Datagrams that a socket of the gateway accepts.

use std::{io::ErrorKind, net::UdpSocket, panic::resume_unwind, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{
    stay_on_one_core, time_on_core,
    topology::{GATEWAY, PORT, Topology},
};

/// How long one measurement takes, in seconds on the core.
const TIME: f64 = 0.5;
/// Payload of a frame of 64 bytes with its check sequence: headers take 14, 20, 8 and 4.
const PAYLOAD: [u8; 18] = [0; 18];
/// Datagrams that are sent before those that came are taken.
const BURST: usize = 64;

/// Thousands of datagrams in a second on the core that come through: one thread sends and takes them, on one core, which carries
/// them as well.
pub(super) fn measure(topology: &Topology) -> Result<f64> {
    let receiver = topology.gateway.enter(|| UdpSocket::bind((GATEWAY, PORT)))??;
    let sender = topology.client.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((GATEWAY, PORT))?;
        std::io::Result::Ok(socket)
    })??;
    introduce(&sender, &receiver)?;
    receiver.set_nonblocking(true)?;
    std::thread::scope(|scope| scope.spawn(|| exchange(&sender, &receiver)).join())
        .unwrap_or_else(|panic| resume_unwind(panic))
}

/// Sends once, answers once: an established flow, to whoever looks at that.
fn introduce(sender: &UdpSocket, receiver: &UdpSocket) -> Result<()> {
    let patience = Some(Duration::from_secs(5));
    receiver.set_read_timeout(patience)?;
    sender.set_read_timeout(patience)?;
    for _ in 0..2 {
        sender.send(&PAYLOAD)?;
        let (_, from) = receiver.recv_from(&mut [0; 64]).context("nothing comes through")?;
        receiver.send_to(&PAYLOAD, from)?;
        sender.recv(&mut [0; 64]).context("no answer comes through")?;
    }
    Ok(())
}

fn exchange(sender: &UdpSocket, receiver: &UdpSocket) -> Result<f64> {
    stay_on_one_core()?;
    let (mut sent, mut received) = (0_u32, 0_u32);
    let start = time_on_core()?;
    let mut seconds = 0.0;
    while seconds < TIME {
        for _ in 0..BURST {
            sender.send(&PAYLOAD)?;
            sent += 1;
        }
        received += take_all(receiver)?;
        seconds = time_on_core()? - start;
    }
    received += take_all(receiver)?;
    ensure!(received >= sent - sent / 100, "{received} of {sent} datagrams came through");
    Ok(f64::from(received) / seconds / 1e3)
}

fn take_all(receiver: &UdpSocket) -> Result<u32> {
    let mut taken = 0;
    let mut datagram = [0; 64];
    loop {
        match receiver.recv(&mut datagram) {
            Ok(_) => taken += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(taken),
            Err(error) => return Err(error.into()),
        }
    }
}
