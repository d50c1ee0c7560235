//! A host that sends datagrams, until an alert has its address cut off in the kernel.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use nightgate_lab::{interrupted, until};

use super::{
    super::{PATIENCE, topology::address},
    ROUNDS,
    stage::{Stage, milliseconds},
};

/// Where the gateway takes them.
pub(super) const PORT: u16 = 7_001;
/// Time from one to the next.
const INTERVAL: Duration = Duration::from_micros(200);
/// Time without one after which none will come.
const SILENCE: Duration = Duration::from_millis(300);
/// First port that they come from. Each cut-off has another: an alert about the same flow counts once in a minute.
const FIRST_PORT: u16 = 20_000;
/// Those that have arrived before the alert.
const BEFORE: u64 = 20;

/// Milliseconds from the alert's line to the sending of the last datagram that came through, for each cut-off.
pub(super) fn measure(stage: &Stage) -> Result<Vec<f64>> {
    let topology = &stage.topology;
    let taker = topology.gateway_b.enter(|| UdpSocket::bind((address::LAN_B, PORT)))??;
    taker.set_read_timeout(Some(SILENCE))?;
    let mut times = Vec::with_capacity(ROUNDS);
    for port in (FIRST_PORT..).take(ROUNDS) {
        if interrupted() {
            bail!("interrupted");
        }
        let sender = topology.server.enter(|| UdpSocket::bind((address::SERVER, port)))??;
        let from = sender.local_addr()?;
        sender.connect((address::LAN_B, PORT))?;
        times.push(cut_off(stage, &sender, &taker)?);
        stage.release_address(from)?;
    }
    Ok(times)
}

fn cut_off(stage: &Stage, sender: &UdpSocket, taker: &UdpSocket) -> Result<f64> {
    let (start, stop, arrived) = (Instant::now(), AtomicBool::new(false), AtomicU64::new(0));
    let deadline = start + PATIENCE;
    thread::scope(|scope| {
        scope.spawn(|| send(sender, start, &stop));
        let last = scope.spawn(|| take(taker, &arrived, deadline));
        let written = until("datagrams", PATIENCE, || {
            Ok((arrived.load(Ordering::Relaxed) >= BEFORE).then_some(()))
        })
        .and_then(|()| {
            let server = SocketAddr::new(address::LAN_B.parse()?, PORT);
            stage.alert("UDP", sender.local_addr()?, server)
        });
        // Without an alert they would never end.
        if written.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        let last = last.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        stop.store(true, Ordering::Relaxed);
        ensure!(Instant::now() < deadline, "the datagrams go on");
        let written = written?.duration_since(start);
        Ok(milliseconds(last.saturating_sub(written)))
    })
}

/// Sends the time since `start` in each datagram. What is refused meanwhile does not end it.
fn send(socket: &UdpSocket, start: Instant, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        socket.send(&now.to_be_bytes()).ok();
        thread::sleep(INTERVAL);
    }
}

/// What the last one says that arrives.
fn take(socket: &UdpSocket, arrived: &AtomicU64, deadline: Instant) -> Duration {
    let (mut last, mut bytes) = (0, [0; 8]);
    while Instant::now() < deadline && socket.recv(&mut bytes).is_ok() {
        last = u64::from_be_bytes(bytes);
        arrived.fetch_add(1, Ordering::Relaxed);
    }
    Duration::from_nanos(last)
}
