//! A TCP connection through the gateway.

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
    panic::resume_unwind,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    stay_on_one_core,
    topology::{OUTSIDE, PORT, SERVER, Topology},
};
use crate::statistics::speed;

/// How long one measurement takes, after the connection has come up to speed.
const TIME: Duration = Duration::from_millis(2_000);
/// Until then.
const RUN_UP: Duration = Duration::from_millis(300);
/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a read or write.
const CHUNK: usize = 128 * 1_024;
/// Largest frame: MTU and Ethernet header.
const FRAME: u64 = 1_514;

/// Whose address the server has to see.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// The client's.
    Plain,
    /// The gateway's.
    Translated,
}

/// Megabits of a connection's data in a second. Sender, receiver and all between them share one core.
pub(super) fn measure(topology: &Topology, source: Source) -> Result<f64> {
    let listener = topology.server.enter(|| TcpListener::bind((SERVER, PORT)))??;
    let server = format!("{SERVER}:{PORT}").parse().context("an address")?;
    let connect = || TcpStream::connect_timeout(&server, PATIENCE);
    let sender = topology.client.enter(connect)?.context("connect through the gateway")?;
    let (receiver, peer) = listener.accept()?;
    ensure!(
        (peer.ip().to_string() == OUTSIDE) == (source == Source::Translated),
        "the server sees {peer}"
    );
    receiver.set_read_timeout(Some(PATIENCE))?;
    let before = traffic(topology)?;
    let speed = thread::scope(|scope| {
        scope.spawn(|| send(sender));
        scope.spawn(|| receive(receiver)).join()
    })
    .unwrap_or_else(|panic| resume_unwind(panic))?;
    let after = traffic(topology)?;
    let frame = (after[0] - before[0]) / (after[1] - before[1]).max(1);
    ensure!(frame <= FRAME, "frames of {frame} bytes: they were put together on the way");
    Ok(speed)
}

/// Sends until nobody receives.
fn send(mut stream: TcpStream) {
    let chunk = vec![0; CHUNK];
    if stay_on_one_core().is_ok() {
        while stream.write_all(&chunk).is_ok() {}
    }
}

fn receive(stream: TcpStream) -> Result<f64> {
    stay_on_one_core()?;
    speed(stream, RUN_UP, TIME)
}

/// Bytes and frames that the gateway has got from the client.
fn traffic(topology: &Topology) -> Result<[u64; 2]> {
    let mut values = [0; 2];
    for (value, name) in values.iter_mut().zip(["rx_bytes", "rx_packets"]) {
        let file = format!("/sys/class/net/lan0/statistics/{name}");
        *value = topology.gateway.shell(&format!("cat {file}"))?.trim().parse()?;
    }
    Ok(values)
}
