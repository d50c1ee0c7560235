//! The OpenZiti client of 2022, unmodified: PyPI's `openziti` 0.6.0 with its C SDK 0.29.3.
//!
//! `cargo xtask setup` installs it; a missing client fails these tests.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::BytesMut;
use nightgate_sdk::Identity;
use nightgate_server::roll_over_root;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines, split},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{
    echo,
    path::Meddler,
    support::{Clients, Overlay},
};

/// What is compared byte for byte, there and back.
const LENGTH: usize = 100_000_000;

/// What the client puts at the head of each block.
const MARKER: &[u8] = b"the plaintext marker";

/// Half a minute each where nothing else runs; a client that hangs fails the test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(400);

#[tokio::test(flavor = "multi_thread")]
async fn client_of_2022_dials_a_client_of_2022() {
    let overlay = start().await;
    overlay.operator.create_service("echo", true).await;
    let host = join(&overlay, "host", &["echo-host"]).await;
    let client = join(&overlay, "client", &["echo-dial"]).await;
    let _hosting = Hosting::start(&host, "echo").await;

    compare(&client, "echo", LENGTH).await;
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_of_2022_dials_our_host() {
    let overlay = start().await;
    overlay.operator.create_service("echo", true).await;
    let host = overlay.join("host", &["echo-host"]).await;
    let client = join(&overlay, "client", &["echo-dial"]).await;
    let echo = tokio::spawn(echo(host.bind("echo").await.unwrap()));

    compare(&client, "echo", LENGTH).await;
    echo.abort();
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn we_dial_a_host_of_2022() {
    let overlay = start().await;
    overlay.operator.create_service("echo", true).await;
    let host = join(&overlay, "host", &["echo-host"]).await;
    let client = overlay.join("client", &["echo-dial"]).await;
    let _hosting = Hosting::start(&host, "echo").await;

    let (mut from, mut to) = split(client.dial("echo").await.unwrap());
    let sent = (0..LENGTH).map(|at| at.wrapping_mul(0x9e37_79b9).to_le_bytes()[3]);
    let sent: Arc<[u8]> = sent.collect();
    let sending = tokio::spawn({
        let sent = Arc::clone(&sent);
        async move { to.write_all(&sent).await.map(|()| to) }
    });
    let mut received = vec![0; LENGTH];
    timeout(PATIENCE, from.read_exact(&mut received)).await.expect("the host hangs").unwrap();
    assert!(received == *sent, "other bytes came back than were sent");
    drop(sending.await.unwrap().unwrap());
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn router_between_clients_of_2022_sees_no_plaintext() {
    let meddler = Meddler::honest();
    let overlay = Overlay::start_behind(&meddler, Clients::AlsoLegacy).await;
    for (service, encrypted) in [("sealed", true), ("plain", false)] {
        overlay.operator.create_service(service, encrypted).await;
        let host = join(&overlay, &format!("{service}-host"), &[&format!("{service}-host")]).await;
        let dialer =
            join(&overlay, &format!("{service}-dial"), &[&format!("{service}-dial")]).await;
        let _hosting = Hosting::start(&host, service).await;
        let seen = record(&meddler);

        compare(&dialer, service, 1_000_000).await;

        let seen = std::mem::take(&mut *seen.lock().unwrap());
        // From the dialer to the router, to the host, and back in the same way.
        assert!(seen.len() > 4_000_000, "everything went through the router that records");
        let is_readable = seen.windows(MARKER.len()).any(|window| window == MARKER);
        assert_eq!(is_readable, !encrypted, "{service}");
    }
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_2022_that_know_the_old_root_alone_go_on_beside_those_that_came_after_it() {
    let mut overlay = start().await;
    overlay.operator.create_service("echo", true).await;
    let host = join(&overlay, "host", &["echo-host"]).await;
    let early = join(&overlay, "early", &["echo-dial"]).await;

    overlay.restart_controller_after(|dir| roll_over_root(dir).unwrap()).await;

    let late = join(&overlay, "late", &["echo-dial"]).await;
    // By a router with a certificate of the old root, then by one with a later one.
    for _router in ["old", "renewed"] {
        let _hosting = Hosting::start(&host, "echo").await;
        for dialer in [&early, &late] {
            compare(dialer, "echo", 1_000_000).await;
        }
        overlay.router.renew_certificate().await.unwrap();
    }
    overlay.stop().await;
}

/// Everything that the router on the path holds from now on.
fn record(meddler: &Meddler) -> Arc<Mutex<BytesMut>> {
    let seen = Arc::new(Mutex::new(BytesMut::new()));
    let record = Arc::clone(&seen);
    meddler.turn(move |_, message| {
        message.encode(&mut record.lock().unwrap());
        vec![message]
    });
    seen
}

async fn start() -> Overlay {
    Overlay::start_for(Ipv4Addr::LOCALHOST.into(), Clients::AlsoLegacy).await
}

/// Creates and enrolls an identity; its file.
pub(crate) async fn join(overlay: &Overlay, name: &str, attributes: &[&str]) -> PathBuf {
    let token = overlay.operator.create_identity_for(name, attributes, "RS256").await;
    let [token_file, identity] =
        ["jwt", "json"].map(|end| overlay.folder().join(format!("{name}.{end}")));
    std::fs::write(&token_file, token).unwrap();
    run(python("enroll").args([&token_file, &identity])).await;
    overlay.joined(&Identity::load(&identity).unwrap());
    identity
}

pub(crate) async fn compare(identity: &Path, service: &str, length: usize) {
    let mut command = python("compare");
    let said = run(command.arg(identity).arg(service).arg(length.to_string())).await;
    assert_eq!(said.trim(), format!("compared {length}"));
}

/// A Python program that hosts. Ends when dropped.
struct Hosting {
    _program: Child,
    _said: Lines<BufReader<ChildStdout>>,
}

impl Hosting {
    async fn start(identity: &Path, service: &str) -> Self {
        let mut child = python("echo").arg(identity).arg(service).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = timeout(PATIENCE, said.next_line()).await.expect("the client hangs").unwrap();
        assert_eq!(first.as_deref(), Some("hosting"));
        Self { _program: child, _said: said }
    }
}

/// Runs a command to its end; what it said.
async fn run(command: &mut Command) -> String {
    let output = timeout(PATIENCE, command.output()).await.expect("the client hangs").unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn python(task: &str) -> Command {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let interpreter = package.join("../../target/openziti-2022/bin/python");
    assert!(interpreter.exists(), "no OpenZiti client: run `cargo xtask setup`");
    let mut command = Command::new(interpreter);
    command.arg(package.join("tests/overlay/openziti_client.py")).arg(task);
    // The end of the overlay is an error to it, but not to the test.
    command.env("ZITI_LOG", "0").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}
