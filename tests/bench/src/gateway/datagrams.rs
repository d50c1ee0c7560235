//! Datagrams through two gateways: how many come through, how many without loss, and what memory a flood leaves behind.

use std::{
    io::{ErrorKind, IoSlice},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nightgate_lab::{Figure, catch_interrupts, interrupted, sweep, until};
use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt},
};

use super::{
    OURS, PATIENCE, Start, contender::Contender, contenders_of, topology::address, tunnels,
    verdict::PLAIN,
};
use crate::statistics::median;

/// Where the server takes datagrams.
pub(super) const PORT: u16 = 7_002;

/// Each contender is measured so often, in turn; medians count.
const ROUNDS: usize = 3;
/// Bytes of a datagram: what QUIC sends at least (RFC 9000, section 14).
const LENGTH: u16 = 1_200;
/// Datagrams that leave the client in one call: alone, and as programs for QUIC send them, cut by the kernel on their way
/// (UDP_SEGMENT, udp(7)).
const TOGETHER: [usize; 2] = [1, 32];
/// Datagrams in a second that are tried, until one rate comes through without loss.
const RATES: [u32; 12] = [
    400_000, 300_000, 250_000, 200_000, 150_000, 100_000, 75_000, 50_000, 30_000, 20_000, 10_000,
    5_000,
];
/// Part that may be missing of what came through without loss.
const LOSS: f64 = 0.001;
/// How long datagrams are sent as fast as it goes, and at each rate.
const FLOOD: Duration = Duration::from_millis(2_000);
const PACED: Duration = Duration::from_millis(1_000);
/// Where the sender waits for its rate.
const PAUSE: Duration = Duration::from_micros(50);
/// After the last one: what waits somewhere arrives.
const REST: Duration = Duration::from_millis(300);
/// Bytes that the server's socket holds, so that it is not what loses.
const BUFFER: usize = 32 << 20;

/// Thousands without loss that ours has to reach, and MiB that a gateway may keep of a flood.
const TARGET: f64 = 300.0;
const KEPT: f64 = 8.0;

/// What carries packets or datagrams; relays of TCP are none of it.
const CONTENDERS: [(&str, Start); 4] = [
    (PLAIN, super::plain),
    ("nebula", tunnels::nebula),
    ("wireguard-go", tunnels::wireguard_go),
    (OURS, super::ours_with_datagrams),
];

/// One contender with what was measured of it.
struct Lane {
    name: &'static str,
    contender: Contender,
    sink: UdpSocket,
    target: SocketAddr,
    rounds: Vec<Round>,
}

struct Round {
    /// For each of [`TOGETHER`].
    ways: [Way; 2],
    /// MiB that the larger gateway has more after both floods than before.
    kept: f64,
}

#[derive(Default)]
struct Way {
    /// Datagrams in a second that came of a flood, and the part of it that did not.
    came: f64,
    lost: f64,
    /// The highest rate without loss.
    whole: f64,
}

/// What was sent for a while, and what came of it.
struct Sent {
    sent: u64,
    came: u64,
    seconds: f64,
}

/// Measures datagrams through two gateways.
///
/// # Errors
/// The process is not root, a program is missing, nothing comes through, or the user interrupts.
pub fn run() -> Result<Vec<Figure>> {
    catch_interrupts()?;
    sweep()?;
    let mut lanes = Vec::new();
    for (name, start) in contenders_of(&CONTENDERS) {
        lanes.push(Lane::new(name, start).with_context(|| format!("start {name}"))?);
    }
    for _ in 0..ROUNDS {
        for lane in &mut lanes {
            if interrupted() {
                bail!("interrupted");
            }
            let round = lane.round().with_context(|| format!("measure {}", lane.name))?;
            lane.rounds.push(round);
        }
    }
    Ok(lanes.iter().flat_map(Lane::figures).collect())
}

impl Lane {
    fn new(name: &'static str, start: Start) -> Result<Self> {
        let contender = start()?;
        contender.wait()?;
        let sink =
            contender.topology.server.enter(|| UdpSocket::bind((address::SERVER, PORT)))??;
        setsockopt(&sink, sockopt::RcvBufForce, &BUFFER).context("ask for a buffer")?;
        sink.set_read_timeout(Some(Duration::from_millis(50)))?;
        let target = SocketAddr::new(address::SERVER.parse()?, PORT);
        Ok(Self { name, contender, sink, target, rounds: Vec::new() })
    }

    fn round(&self) -> Result<Round> {
        let sender = self.sender()?;
        let before = self.contender.resident()?;
        let mut ways: [Way; 2] = Default::default();
        for (way, together) in ways.iter_mut().zip(TOGETHER) {
            let flood = self.send(&sender, (together, None), FLOOD)?;
            thread::sleep(REST);
            way.came = flood.came as f64 / flood.seconds;
            way.lost = 1.0 - flood.came as f64 / flood.sent as f64;
        }
        let after = self.contender.resident()?;
        let kept = before.iter().zip(&after).map(|(before, after)| after - before);
        for (way, together) in ways.iter_mut().zip(TOGETHER) {
            way.whole = self.without_loss(&sender, together, way.came)?;
        }
        Ok(Round { ways, kept: kept.fold(0.0, f64::max) })
    }

    /// A socket of the client whose datagrams come through.
    fn sender(&self) -> Result<UdpSocket> {
        let sender = self.contender.topology.client.enter(|| -> Result<UdpSocket> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(self.target)?;
            Ok(socket)
        })??;
        until("first datagram", PATIENCE, || {
            sender.send(&DATAGRAM).ok();
            Ok(self.sink.recv(&mut [0; LENGTH as usize]).ok())
        })?;
        Ok(sender)
    }

    /// The highest of [`RATES`], up to twice what came of a flood, at which hardly anything is lost; 0 if there is none.
    fn without_loss(&self, sender: &UdpSocket, together: usize, flood: f64) -> Result<f64> {
        for rate in RATES.into_iter().filter(|rate| f64::from(*rate) <= 2.0 * flood) {
            let Sent { sent, came, seconds } = self.send(sender, (together, Some(rate)), PACED)?;
            if came as f64 >= sent as f64 * (1.0 - LOSS) {
                return Ok(came as f64 / seconds);
            }
        }
        Ok(0.0)
    }

    fn send(&self, sender: &UdpSocket, how: (usize, Option<u32>), time: Duration) -> Result<Sent> {
        let (stop, came) = (AtomicBool::new(false), AtomicU64::new(0));
        self.drain()?;
        thread::scope(|scope| {
            scope.spawn(|| take(&self.sink, &came, &stop));
            let started = Instant::now();
            let sent = send(sender, how, started, time);
            let seconds = started.elapsed().as_secs_f64();
            thread::sleep(REST);
            stop.store(true, Ordering::Relaxed);
            Ok(Sent { sent: sent?, came: came.load(Ordering::Relaxed), seconds })
        })
    }

    /// Takes what is left of the measurement before.
    fn drain(&self) -> Result<()> {
        loop {
            match self.sink.recv(&mut [0; LENGTH as usize]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let value = |of: fn(&Round) -> f64| median(self.rounds.iter().map(of).collect());
        let target = |target: f64| (self.name == OURS).then_some(target);
        let figure = |metric: &str, value: f64, unit: &str| Figure {
            suite: "datagrams".to_owned(),
            case: self.name.to_owned(),
            metric: metric.to_owned(),
            value,
            unit: unit.to_owned(),
            peer: None,
            target: None,
            holds: None,
        };
        let mut figures = Vec::new();
        for (number, together) in TOGETHER.into_iter().enumerate() {
            let of_way = |of: fn(&Way) -> f64| {
                median(self.rounds.iter().map(|round| of(&round.ways[number])).collect())
            };
            let name = |metric: &str| match together {
                1 => metric.to_owned(),
                together => format!("{metric}, {together} a call"),
            };
            let whole = figure(&name("without loss"), of_way(|way| way.whole) / 1e3, "k/s");
            figures.push(figure(&name("of a flood"), of_way(|way| way.came) / 1e3, "k/s"));
            figures.push(figure(&name("lost of it"), of_way(|way| way.lost) * 100.0, "%"));
            figures.push(Figure {
                target: target(TARGET),
                holds: target(TARGET).map(|target| whole.value >= target),
                ..whole
            });
        }
        let kept = figure("memory kept", value(|round| round.kept), "MiB");
        figures.push(Figure {
            target: target(KEPT),
            holds: target(KEPT).map(|target| kept.value <= target),
            ..kept
        });
        figures
    }
}

/// What is sent.
const DATAGRAM: [u8; LENGTH as usize] = [0x5a; LENGTH as usize];

/// Sends for a while, so many in one call; with a rate, no more than so many in a second. Gives the number.
fn send(
    socket: &UdpSocket,
    (together, rate): (usize, Option<u32>),
    started: Instant,
    time: Duration,
) -> Result<u64> {
    let slices = vec![IoSlice::new(&DATAGRAM); together];
    let cut = [ControlMessage::UdpGsoSegments(&LENGTH)];
    let control = if together > 1 { &cut[..] } else { &[] };
    let mut sent = 0;
    loop {
        let elapsed = started.elapsed();
        if elapsed >= time {
            return Ok(sent);
        }
        if rate.is_some_and(|rate| sent as f64 >= f64::from(rate) * elapsed.as_secs_f64()) {
            // Short, so that the next ones are no burst that queues on the way do not take; and the core is for the gateways.
            thread::sleep(PAUSE);
            continue;
        }
        match sendmsg::<()>(socket.as_raw_fd(), &slices, control, MsgFlags::empty(), None) {
            Ok(_) => sent += together as u64,
            // Of a tunnel whose queue is full.
            Err(Errno::EAGAIN | Errno::ENOBUFS) => {}
            Err(error) => return Err(error).context("send"),
        }
    }
}

fn take(socket: &UdpSocket, came: &AtomicU64, stop: &AtomicBool) {
    let mut datagram = [0; LENGTH as usize];
    while !stop.load(Ordering::Relaxed) {
        if socket.recv(&mut datagram).is_ok() {
            came.fetch_add(1, Ordering::Relaxed);
        }
    }
}
