//! Dials through one router, what the controller hears of them, and 10,000 idle circuits in it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nightgate_lab::Figure;
use nightgate_sdk::{Context, Listener, Stream, enroll, enroll_router};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::sleep,
};

use super::{
    Target, events, figure,
    operator::{Operator, create, token_of},
    process::{Role, free_address},
};
use crate::statistics::percentile;

/// Measured dials, one after the other.
const DIALS: usize = 1_000;
/// Circuits held at the same time.
const CIRCUITS: usize = 10_000;
/// Dials under way at the same time while they are made.
const AT_ONCE: usize = 50;
/// What must happen happens within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures dials and circuits.
///
/// # Errors
/// Something does not start, or a circuit does not carry what it should.
pub fn run() -> Result<Vec<Figure>> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> Result<Vec<Figure>> {
    let dir = tempfile::tempdir()?;
    let operator = Operator::start(&dir.path().join("controller")).await?;
    let changed = operator.change(&network()).await?;
    let router = start_router(&token_of(&changed, "r")?, &dir.path().join("router.json")).await?;
    let host = join(&token_of(&changed, "host")?).await?;
    let client = join(&token_of(&changed, "client")?).await?;
    tokio::spawn(greet(bind(&host).await?));
    drop(first_byte(&client).await?);

    let mut figures = dials(&client).await?;
    figures.extend(events::measure(&operator.controller, &client).await?);
    figures.extend(idle(&client, &router).await?);
    Ok(figures)
}

/// Enrolls a router and starts it.
pub(super) async fn start_router(token: &str, identity: &Path) -> Result<Role> {
    let address = free_address()?;
    enroll_router(token, Some(&address.to_string())).await?.save(identity)?;
    Role::router(identity, address)
}

fn network() -> Vec<serde_json::Value> {
    let policy = |name: &str, who: &str| {
        create(
            "servicePolicy",
            json!({
                "name": name, "type": name, "semantic": "AnyOf",
                "identityRoles": [format!("@{who}")], "serviceRoles": ["@echo"],
            }),
        )
    };
    vec![
        create("edgeRouter", json!({ "name": "r" })),
        create("identity", json!({ "name": "host" })),
        create("identity", json!({ "name": "client" })),
        create("service", json!({ "name": "echo" })),
        policy("Dial", "client"),
        policy("Bind", "host"),
    ]
}

/// Enrolls an identity.
pub(super) async fn join(token: &str) -> Result<Context> {
    Ok(Context::load(&enroll(token).await?).await?)
}

/// Hosts as soon as the router is there.
pub(super) async fn bind(host: &Context) -> Result<Listener> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match host.bind("echo").await {
            Err(_not_yet) if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
            bound => return bound.context("host the service"),
        }
    }
}

/// Sends a byte to everybody who dials, and then back what comes.
async fn greet(mut listener: Listener) {
    loop {
        let (mut stream, _) = listener.accept().await;
        tokio::spawn(async move {
            let mut byte = [b'!'];
            while stream.write_all(&byte).await.is_ok() {
                if stream.read_exact(&mut byte).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Dials and waits for the first byte of the host.
pub(super) async fn first_byte(client: &Context) -> Result<Stream> {
    let mut stream = client.dial("echo").await?;
    stream.read_exact(&mut [0]).await?;
    Ok(stream)
}

async fn dials(client: &Context) -> Result<Vec<Figure>> {
    let mut times = Vec::with_capacity(DIALS);
    for _ in 0..DIALS {
        let started = Instant::now();
        let stream = first_byte(client).await?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        drop(stream);
    }
    let case = "dial to first byte, one router, encrypted";
    Ok(vec![
        figure(case, "p50", percentile(&mut times, 50), "ms", Some(Target::AtMost(3.0))),
        figure(case, "p99", percentile(&mut times, 99), "ms", Some(Target::AtMost(15.0))),
    ])
}

async fn idle(client: &Context, router: &Role) -> Result<Vec<Figure>> {
    sleep(Duration::from_secs(1)).await;
    let before = router.memory()?;
    let started = Instant::now();
    let (mut circuits, mut dialing) = (Vec::with_capacity(CIRCUITS), JoinSet::new());
    for _ in 0..CIRCUITS {
        if dialing.len() >= AT_ONCE {
            circuits.extend(dialing.join_next().await.transpose()?.transpose()?);
        }
        let client = client.clone();
        dialing.spawn(async move { first_byte(&client).await });
    }
    while let Some(dialed) = dialing.join_next().await {
        circuits.push(dialed??);
    }
    let rate = CIRCUITS as f64 / started.elapsed().as_secs_f64();
    sleep(Duration::from_secs(1)).await;
    let each = (router.memory()? - before) * 1024.0 / CIRCUITS as f64;
    let alive = echoing(circuits).await?;
    ensure!(alive > 0, "no circuit is alive");
    let held = Some(Target::AtLeast(CIRCUITS as f64));
    Ok(vec![
        figure("circuits held at once", "alive", alive as f64, "", held),
        figure("circuits made, 50 at once", "rate, both ends included", rate, "1/s", None),
        figure("idle circuit", "router's memory", each, "KiB", Some(Target::AtMost(24.0))),
    ])
}

/// How many circuits still carry a byte there and back.
async fn echoing(circuits: Vec<Stream>) -> Result<usize> {
    let mut alive = 0;
    for mut circuit in circuits {
        let mut byte = [b'?'];
        circuit.write_all(&byte).await?;
        circuit.read_exact(&mut byte).await?;
        alive += usize::from(byte == *b"?");
    }
    Ok(alive)
}
