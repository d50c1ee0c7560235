//! An identity that dials, until an alert ends its circuit and the next dial is refused.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use nightgate_lab::interrupted;
use nightgate_sdk::{Context, Stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use super::{
    super::{
        PATIENCE,
        topology::{PORT, address},
    },
    ROUNDS,
    stage::{ATTACK, SERVICE, Stage, since},
};

/// What brings the alert about.
#[derive(Clone, Copy)]
pub(super) enum Cause {
    /// Its line is written, as a sensor would do it. Counts from there.
    Line,
    /// A request that the sensor knows. Counts from there.
    Request,
}

/// Milliseconds that each cut-off took.
#[derive(Default)]
pub(super) struct Taken {
    /// Until the circuit was closed at the attacker.
    pub(super) closed: Vec<f64>,
    /// Until it knew that another dial was refused.
    pub(super) refused: Vec<f64>,
}

/// Lets an identity be cut off again and again.
pub(super) fn measure(stage: &Stage, cause: Cause) -> Result<Taken> {
    let listener = stage.topology.server.enter(|| TcpListener::bind((address::SERVER, PORT)))??;
    let (found, clients) = mpsc::channel();
    let ending = listener.try_clone()?;
    let server = thread::spawn(move || serve(&listener, &found));
    let taken = stage.topology.gateway_a.enter(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(rounds(stage, cause, &clients))
    })?;
    nix::sys::socket::shutdown(
        std::os::fd::AsRawFd::as_raw_fd(&ending),
        nix::sys::socket::Shutdown::Both,
    )?;
    drop(server.join());
    taken
}

async fn rounds(stage: &Stage, cause: Cause, clients: &Receiver<SocketAddr>) -> Result<Taken> {
    let (mut taken, mut known) = (Taken::default(), HashSet::new());
    for round in 0..ROUNDS {
        if interrupted() {
            bail!("interrupted");
        }
        let (closed, refused) = cut_off(stage, cause, (clients, &mut known))
            .await
            .with_context(|| format!("round {round}"))?;
        taken.closed.push(closed);
        taken.refused.push(refused);
        stage.release()?;
    }
    Ok(taken)
}

/// Milliseconds until the circuit was closed, and until another dial was refused.
async fn cut_off(
    stage: &Stage,
    cause: Cause,
    (clients, known): (&Receiver<SocketAddr>, &mut HashSet<SocketAddr>),
) -> Result<(f64, f64)> {
    // An alert about the same flow counts once in a minute.
    let (context, mut stream, client) = loop {
        let reached = reach(stage, clients).await?;
        if known.insert(reached.2) {
            break reached;
        }
    };
    let started = match cause {
        Cause::Line => {
            stage.alert("TCP", client, format!("{}:{PORT}", address::SERVER).parse()?)?
        }
        Cause::Request => {
            let started = Instant::now();
            stream.write_all(request(ATTACK).as_bytes()).await?;
            started
        }
    };
    let end = async {
        let mut chunk = [0; 256];
        while stream.read(&mut chunk).await.is_ok_and(|length| length > 0) {}
    };
    timeout(PATIENCE, end).await.context("the circuit goes on")?;
    let closed = since(started);
    let again = timeout(PATIENCE, context.dial(SERVICE)).await.context("the dial has no end")?;
    ensure!(again.is_err(), "a dial got through after the circuit was closed");
    Ok((closed, since(started)))
}

/// A circuit that has carried a request and its answer, and the address that the server sees.
async fn reach(
    stage: &Stage,
    clients: &Receiver<SocketAddr>,
) -> Result<(Context, Stream, SocketAddr)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        while clients.try_recv().is_ok() {}
        let error = match ask(stage).await {
            Ok((context, stream)) => return Ok((context, stream, clients.recv()?)),
            Err(error) => error,
        };
        ensure!(Instant::now() < deadline, "the service is not reached: {error:#}");
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn ask(stage: &Stage) -> Result<(Context, Stream)> {
    let context = Context::load(&stage.attacker).await?;
    let mut stream = context.dial(SERVICE).await?;
    stream.write_all(request("/").as_bytes()).await?;
    let mut answer = [0; ANSWER.len()];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.context("no answer")??;
    Ok((context, stream))
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {SERVICE}\r\n\r\n")
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers requests until the listener is shut down, and tells of each connection's client.
fn serve(listener: &TcpListener, found: &Sender<SocketAddr>) {
    while let Ok((connection, client)) = listener.accept() {
        if found.send(client).is_err() {
            return;
        }
        thread::spawn(move || answer(connection));
    }
}

/// A connection that ends early is what is measured.
fn answer(mut connection: TcpStream) {
    let Ok(reader) = connection.try_clone() else { return };
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        if line.is_empty() && connection.write_all(ANSWER.as_bytes()).is_err() {
            return;
        }
    }
}
