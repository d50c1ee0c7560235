//! What becomes of open streams when sessions end, and when certificates are taken away or renewed.

use std::time::{Duration, Instant};

use nightgate_sdk::{Context, DialOptions, Identity, Stream, enroll};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{echo, support::Overlay};

/// Generous: what is proved is that the stream ends. How fast it did is printed.
const LONG: Duration = Duration::from_secs(20);

async fn say(stream: &mut Stream, words: &str) {
    stream.write_all(words.as_bytes()).await.unwrap();
    let mut answer = vec![0; words.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, words.as_bytes());
}

#[expect(clippy::print_stderr, reason = "a figure for whoever runs the test, not a condition")]
async fn cut(stream: &mut Stream, what: &str) {
    let started = Instant::now();
    let end = async { while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {} };
    timeout(LONG, end).await.unwrap();
    eprintln!("{what}: the stream was cut after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_cut_when_a_session_is_ended_or_a_certificate_taken_away() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("echo", true).await;
    let host = overlay.join("host", &["echo-host"]).await;
    let echo = tokio::spawn(echo(host.bind("echo").await.unwrap()));
    let token = overlay.operator.create_identity("client", &["echo-dial"]).await;
    let identity = enroll(&token).await.unwrap();
    let client = Context::load(&identity).await.unwrap();
    let mut stream = client.dial("echo").await.unwrap();
    say(&mut stream, "before").await;

    overlay.operator.end_sessions_of("client").await;
    cut(&mut stream, "session ended").await;
    // The client authenticates again by itself: it still may.
    let mut stream = client.dial("echo").await.unwrap();
    say(&mut stream, "again").await;

    overlay.operator.revoke_certificate_of("client").await;
    cut(&mut stream, "certificate taken away").await;
    assert!(client.dial("echo").await.is_err());
    assert!(Context::load(&identity).await.is_err());
    echo.abort();
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_kept_and_used_while_streams_go_on() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("echo", true).await;
    let host = overlay.join("host", &["echo-host"]).await;
    let echo = tokio::spawn(echo(host.bind("echo").await.unwrap()));
    let token = overlay.operator.create_identity("client", &["echo-dial"]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("client.json");
    enroll(&token).await.unwrap().save(&file).unwrap();
    let before = Identity::load(&file).unwrap();
    let client = Context::load(&before).await.unwrap();
    let mut stream = client.dial("echo").await.unwrap();
    say(&mut stream, "before").await;
    let other = Context::load(&before).await.unwrap();
    let mut others = other.dial("echo").await.unwrap();
    say(&mut others, "another process of the identity").await;

    for _renewal in 0..2 {
        client.renew_certificate().await.unwrap();
        say(&mut stream, "after").await;
    }

    let kept = Identity::load(&file).unwrap();
    assert_ne!(kept.to_json(), before.to_json());
    assert!(Context::load(&before).await.is_err(), "the old certificate counts no more");
    let again = Context::load(&kept).await.unwrap();
    say(&mut again.dial("echo").await.unwrap(), "with the kept one").await;
    say(&mut client.dial("echo").await.unwrap(), "with the renewed one").await;
    say(&mut others, "what stood goes on").await;

    overlay.operator.revoke_certificate_of("client").await;
    cut(&mut stream, "renewed certificate taken away").await;
    cut(&mut others, "one that was followed taken away").await;
    echo.abort();
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_renewed_opens_nothing_though_its_token_is_good() {
    let mut overlay = Overlay::start().await;
    overlay.operator.create_service("echo", true).await;
    let host = overlay.join("host", &["echo-host"]).await;
    let echo = tokio::spawn(echo(host.bind("echo").await.unwrap()));
    let token = overlay.operator.create_identity("client", &["echo-dial"]).await;
    let before = enroll(&token).await.unwrap();
    let client = Context::load(&before).await.unwrap();
    let thief = Context::load(&before).await.unwrap();
    say(&mut thief.dial("echo").await.unwrap(), "not noticed yet").await;

    client.renew_certificate().await.unwrap();
    overlay.restart_router().await;

    say(&mut dial(&client).await, "the renewed one").await;
    let options = DialOptions { timeout: Duration::from_secs(3), ..DialOptions::default() };
    assert!(thief.dial_with("echo", &options).await.is_err());
    echo.abort();
    overlay.stop().await;
}

/// Dials until the host is known again.
async fn dial(client: &Context) -> Stream {
    let dialing = async {
        loop {
            match client.dial("echo").await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    timeout(LONG, dialing).await.unwrap()
}
