//! How long forwarded datagrams take while a sensor is in order, stopped, or sent ten times what it can take.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nightgate_abi::mirror::Outcome;
use nightgate_lab::{Figure, Recorder, interrupted, temporary_folder};

use super::{Lane, figure};
use crate::statistics::percentile;

/// Measurements of each state, in turn.
const ROUNDS: usize = 60;
/// Questions and answers of one measurement.
const EXCHANGES: usize = 2_000;
/// Of the first ones of each measurement, so many do not count.
const RUN_UP: usize = 200;
/// Bytes of a question.
const LENGTH: usize = 200;
/// Bytes that a frame with the question has on the way to the sensor: headers of Ethernet, IP and UDP, and VXLAN's.
const COPY: usize = LENGTH + 42 + 50;
/// How much longer the slowest hundredth may take than without mirror, percent.
const TARGET: f64 = 10.0;
/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the sensor does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// There is no session.
    Off,
    /// Again: how far two measurements of the same are apart.
    OffAgain,
    /// It takes copies.
    InOrder,
    /// It stands still; its queue is full.
    Stopped,
    /// It is sent ten times what the way to it takes.
    Overloaded,
}

impl State {
    fn is_mirrored(self) -> bool {
        !matches!(self, Self::Off | Self::OffAgain)
    }
}

const STATES: [(State, &str); 5] = [
    (State::Off, "no session"),
    (State::OffAgain, "no session, again"),
    (State::InOrder, "sensor in order"),
    (State::Stopped, "sensor stopped"),
    (State::Overloaded, "sensor sent ten times what it takes"),
];

/// Measures.
///
/// # Errors
/// An answer is lost, or a copy is not accounted for.
pub(super) fn run(off: &Lane, mirrored: &Lane) -> Result<Vec<Figure>> {
    let folder = temporary_folder()?;
    let mut sensor = Recorder::start(&mirrored.sensor, "eth0", folder.path())?;
    let mut times = [const { Vec::new() }; STATES.len()];
    let due = mirrored.copies(Outcome::Matched)?;
    for _ in 0..ROUNDS {
        for ((state, _), times) in STATES.into_iter().zip(&mut times) {
            if interrupted() {
                bail!("interrupted");
            }
            let lane = if state.is_mirrored() { mirrored } else { off };
            let rate = rate(times.as_slice());
            begin(state, lane, &sensor, rate)?;
            times.extend(exchange(lane)?);
            end(state, lane, &sensor)?;
        }
    }
    let due = mirrored.copies(Outcome::Matched)? - due;
    let states = STATES.iter().filter(|(state, _)| state.is_mirrored()).count();
    let expected = 2 * (ROUNDS * EXCHANGES * states) as u64;
    // Among them is what the hosts say by themselves (RFC 4861, RFC 9777); what is lost is counted exactly.
    ensure!(due >= expected, "{due} copies due instead of {expected}");
    ensure!(mirrored.lost()? == 0.0, "copies are not accounted for");
    let dropped = sensor.stop()?;
    ensure!(dropped > 0, "the stopped sensor's queue was never full");
    Ok(figures(times))
}

fn figures(mut times: [Vec<f64>; STATES.len()]) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut without = f64::NAN;
    for ((state, name), times) in STATES.into_iter().zip(&mut times) {
        let [median, slow] = [50, 99].map(|percent| percentile(times, percent));
        let case = || format!("forwarded datagram and answer, {name}");
        figures.push(figure(case(), "median", median, "us", None));
        figures.push(figure(case(), "99th percentile", slow, "us", None));
        if state == State::Off {
            without = slow;
        } else {
            let more = (slow / without - 1.0) * 100.0;
            let target = state.is_mirrored().then_some(TARGET);
            figures.push(figure(case(), "99th percentile, more", more, "%", target));
        }
    }
    figures
}

/// Bits in a second that are a tenth of what is sent to a sensor, by earlier times of exchanges.
fn rate(times: &[f64]) -> f64 {
    /// Microseconds of an exchange before one has been measured.
    const FIRST: f64 = 50.0;
    let mean =
        if times.is_empty() { FIRST } else { times.iter().sum::<f64>() / times.len() as f64 };
    2.0 * (COPY * 8) as f64 * 1e6 / mean / 10.0
}

fn begin(state: State, lane: &Lane, sensor: &Recorder, rate: f64) -> Result<()> {
    match state {
        State::Off | State::OffAgain | State::InOrder => Ok(()),
        State::Stopped => sensor.freeze(),
        State::Overloaded => {
            let queue = "burst 8kb limit 64kb";
            lane.gateway
                .shell(&format!("tc qdisc add dev mon0 root tbf rate {rate:.0}bit {queue}"))?;
            Ok(())
        }
    }
}

fn end(state: State, lane: &Lane, sensor: &Recorder) -> Result<()> {
    match state {
        State::Off | State::OffAgain | State::InOrder => Ok(()),
        State::Stopped => sensor.thaw(),
        State::Overloaded => lane.gateway.shell("tc qdisc del dev mon0 root").map(drop),
    }
}

/// Microseconds of each exchange.
fn exchange(lane: &Lane) -> Result<Vec<f64>> {
    let server = lane.server.enter(|| UdpSocket::bind("10.2.0.2:53"))??;
    let client = lane.client.enter(|| UdpSocket::bind("10.1.0.2:4000"))??;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    client.connect("10.2.0.2:53")?;
    thread::scope(|scope| {
        let answers = scope.spawn(move || answer(&server));
        let times = ask(&client);
        answers.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        times
    })
}

fn ask(client: &UdpSocket) -> Result<Vec<f64>> {
    let (question, mut buffer) = ([7; LENGTH], [0; LENGTH]);
    let mut times = Vec::with_capacity(EXCHANGES);
    for _ in 0..EXCHANGES {
        let started = Instant::now();
        client.send(&question)?;
        client.recv(&mut buffer).context("an answer is lost")?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times.split_off(RUN_UP))
}

fn answer(server: &UdpSocket) -> Result<()> {
    let mut buffer = [0; LENGTH];
    for _ in 0..EXCHANGES {
        let (length, from) = server.recv_from(&mut buffer).context("a question is lost")?;
        server.send_to(&buffer[..length], from)?;
    }
    Ok(())
}
