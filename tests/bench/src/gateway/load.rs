//! What the client does: streams, requests, connections.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    panic::resume_unwind,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nightgate_lab::{Namespace, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
};

use super::server::{ECHO, ONCE, SINK, Server};
use crate::statistics::percentile;

/// Before anything is counted: windows and buffers grow.
const RUN_UP: Duration = Duration::from_millis(400);
/// How long streams, requests and connections are counted.
const TIME: Duration = Duration::from_millis(1_500);
/// One-byte requests, one after the other, whose times are taken.
const REQUESTS: usize = 5_000;
/// Connections that are busy at the same time with requests, or with coming and going.
const CONNECTIONS: usize = 16;
/// Bytes of a write.
const CHUNK: usize = 256 * 1_024;
/// How long connecting or an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Times of requests, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Streams at the same time.
    pub(super) streams: usize,
    /// Before anything is counted: windows and buffers grow.
    pub(super) run_up: Duration,
    /// How long it is counted.
    pub(super) time: Duration,
}

/// What came through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    /// Gbit/s of all streams together.
    pub(super) rate: f64,
    /// What the cost grew by, for a gigabyte.
    pub(super) cost: f64,
    /// Jain's index of what each stream had: 1 if all had the same, 1/n if one had all.
    pub(super) fairness: f64,
}

impl Load {
    /// Through gateways on one machine.
    pub(super) fn of(streams: usize) -> Self {
        Self { streams, run_up: RUN_UP, time: TIME }
    }
}

/// Sends streams for a while; `cost` is asked before and after.
pub(super) fn streams(
    client: &Namespace,
    (target, server): (SocketAddr, &Server),
    load: Load,
    cost: impl Fn() -> Result<f64>,
) -> Result<Carried> {
    server.forget();
    let connect = || (0..load.streams).map(|_| open(target, SINK)).collect::<Result<Vec<_>>>();
    let streams = client.enter(connect)??;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for stream in &streams {
            scope.spawn(|| send(stream, &stop));
        }
        let measured = count_bytes(server, load, cost);
        stop.store(true, Ordering::Relaxed);
        for stream in &streams {
            // Senders that wait are woken; a stream that has broken has woken its own.
            stream.shutdown(Shutdown::Both).ok();
        }
        measured
    })
}

fn count_bytes(server: &Server, load: Load, cost: impl Fn() -> Result<f64>) -> Result<Carried> {
    until("begin of all streams", PATIENCE, || {
        Ok((server.received().len() == load.streams).then_some(()))
    })?;
    thread::sleep(load.run_up);
    let (before, cost_before, started) = (server.received(), cost()?, Instant::now());
    thread::sleep(load.time);
    let (after, seconds) = (server.received(), started.elapsed().as_secs_f64());
    let cost = cost()? - cost_before;
    ensure!(before.len() == load.streams, "{} of {} streams began", before.len(), load.streams);
    let each: Vec<f64> =
        before.iter().zip(&after).map(|(before, after)| (after - before) as f64).collect();
    let bytes: f64 = each.iter().sum();
    ensure!(bytes > 0.0, "nothing came through");
    let squares: f64 = each.iter().map(|bytes| bytes * bytes).sum();
    Ok(Carried {
        rate: bytes * 8e-9 / seconds,
        cost: cost / (bytes * 1e-9),
        fairness: bytes * bytes / (load.streams as f64 * squares),
    })
}

fn send(mut stream: &TcpStream, stop: &AtomicBool) {
    let chunk = vec![0x5a; CHUNK];
    while !stop.load(Ordering::Relaxed) && stream.write_all(&chunk).is_ok() {}
}

/// Requests of one byte on one connection.
pub(super) fn latency(client: &Namespace, target: SocketAddr) -> Result<Latency> {
    let mut stream = client.enter(|| open(target, ECHO))??;
    let request = thread::spawn(move || -> Result<Vec<f64>> {
        let mut times = Vec::with_capacity(REQUESTS);
        for number in 0..REQUESTS + REQUESTS / 10 {
            let started = Instant::now();
            stream.write_all(b"?")?;
            stream.read_exact(&mut [0])?;
            if number >= REQUESTS / 10 {
                times.push(started.elapsed().as_secs_f64() * 1e6);
            }
        }
        Ok(times)
    });
    let mut times = request.join().unwrap_or_else(|panic| resume_unwind(panic))?;
    Ok(Latency { p50: percentile(&mut times, 50), p99: percentile(&mut times, 99) })
}

/// Requests of one byte in a second, on many kept connections.
pub(super) fn requests(client: &Namespace, target: SocketAddr) -> Result<f64> {
    in_parallel(client, move |until| async move {
        let mut stream = connect(target).await?;
        stream.write_all(&[ECHO]).await?;
        let mut done = 0;
        while Instant::now() < until {
            stream.write_all(b"?").await?;
            stream.read_exact(&mut [0]).await?;
            done += 1;
        }
        Ok(done)
    })
}

/// Connections in a second, each with a request and an answer.
pub(super) fn connections(client: &Namespace, target: SocketAddr) -> Result<f64> {
    in_parallel(client, move |until| async move {
        let mut done = 0;
        while Instant::now() < until {
            let mut stream = connect(target).await?;
            stream.write_all(&[ONCE]).await?;
            stream.read_exact(&mut [0]).await.context("no answer on a new connection")?;
            done += 1;
        }
        Ok(done)
    })
}

/// Whether a byte comes back.
pub(super) fn answers(client: &Namespace, target: SocketAddr) -> Result<bool> {
    let ask = || -> Result<()> {
        let mut stream = open(target, ONCE)?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.read_exact(&mut [0])?;
        Ok(())
    };
    Ok(client.enter(ask)?.is_ok())
}

/// A connection for a purpose, as the server knows it.
pub(super) fn open(target: SocketAddr, purpose: u8) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE).context("connect")?;
    stream.set_nodelay(true)?;
    stream.write_all(&[purpose])?;
    Ok(stream)
}

async fn connect(target: SocketAddr) -> Result<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::connect(target).await.context("connect")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Runs a job many times at once, on one thread in the client's namespace, until the time is over; gives what
/// was done in a second.
fn in_parallel<F>(client: &Namespace, job: impl Fn(Instant) -> F + Sync) -> Result<f64>
where
    F: Future<Output = Result<u32>> + 'static,
{
    let run = || -> Result<f64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let started = Instant::now();
        let local = tokio::task::LocalSet::new();
        let done = local.block_on(&runtime, async {
            let mut jobs = JoinSet::new();
            for _ in 0..CONNECTIONS {
                jobs.spawn_local(job(started + TIME));
            }
            let mut done = 0;
            while let Some(job) = jobs.join_next().await {
                done += job??;
            }
            Ok::<u32, anyhow::Error>(done)
        })?;
        Ok(f64::from(done) / started.elapsed().as_secs_f64())
    };
    client.enter(run)?
}
