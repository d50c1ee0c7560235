//! Circuits and hostings that end, and those that come back.

use std::{io, sync::Arc, time::Duration};

use nightgate_model::replica::Replica;
use nightgate_sdk::{BindFailure, Context, DialFailure, Permission, enroll};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use crate::{echo, support::Overlay};

#[tokio::test(flavor = "multi_thread")]
async fn withdrawn_policy_ends_dialing() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("echo", true).await;
    let host = overlay.join("host", &["echo-host"]).await;
    let client = overlay.join("client", &["echo-dial"]).await;
    let echo = tokio::spawn(echo(host.bind("echo").await.unwrap()));
    client.dial("echo").await.unwrap();

    overlay.operator.delete("service-policies", "echo-dial").await;
    let nobody_dials = |replica: &Arc<Replica>| {
        let mut identities = replica.identities.keys();
        identities.all(|id| replica.authorizations.services(id, Permission::Dial).next().is_none())
    };
    overlay.router.replica().wait_for(nobody_dials).await.unwrap();

    assert!(client.dial("echo").await.is_err());
    echo.abort();
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disabled_identity_loses_its_open_streams_until_it_is_enabled() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("echo", true).await;
    let host = overlay.join("host", &["echo-host"]).await;
    let token = overlay.operator.create_identity("client", &["echo-dial"]).await;
    let identity = enroll(&token).await.unwrap();
    let client = Context::load(&identity).await.unwrap();
    let echo = tokio::spawn(echo(host.bind("echo").await.unwrap()));
    let mut stream = client.dial("echo").await.unwrap();
    stream.write_all(b"before").await.unwrap();
    stream.read_exact(&mut [0; 6]).await.unwrap();

    overlay.operator.act("client", "disable").await;
    // The stream is cut: nobody says that it was at its end.
    while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
    assert!(Context::load(&identity).await.is_err());

    overlay.operator.act("client", "enable").await;
    let client = Context::load(&identity).await.unwrap();
    client.dial("echo").await.unwrap();
    echo.abort();
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn router_that_no_policy_gives_cuts_the_client_off() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("echo", true).await;
    let host = overlay.join("host", &["echo-host"]).await;
    let client = overlay.join("client", &["echo-dial"]).await;
    let echo = tokio::spawn(echo(host.bind("echo").await.unwrap()));
    let mut stream = client.dial("echo").await.unwrap();
    stream.write_all(b"before").await.unwrap();
    stream.read_exact(&mut [0; 6]).await.unwrap();

    overlay.operator.delete("edge-router-policies", "all-identities-all-routers").await;

    while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
    echo.abort();
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_listener_hosts_no_longer() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("echo", true).await;
    let host = overlay.join("host", &["echo-host"]).await;
    let client = overlay.join("client", &["echo-dial"]).await;
    let listener = host.bind("echo").await.unwrap();

    drop(listener);

    let dialed = client.dial("echo").await.unwrap_err();
    assert!(matches!(dialed.failure, DialFailure::Refused { .. }), "{dialed:?}");
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_router_is_found_again_by_dialer_and_host() {
    let mut overlay = Overlay::start().await;
    overlay.operator.create_service("echo", true).await;
    let host = overlay.join("host", &["echo-host"]).await;
    let client = overlay.join("client", &["echo-dial"]).await;
    let echo = tokio::spawn(echo(host.bind("echo").await.unwrap()));
    let mut cut = client.dial("echo").await.unwrap();

    overlay.restart_router().await;

    let mut rest = Vec::new();
    let error = cut.read_to_end(&mut rest).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "a loss is no end");
    let again = async {
        loop {
            match client.dial("echo").await {
                Ok(stream) => return stream,
                Err(_not_yet) => sleep(Duration::from_millis(100)).await,
            }
        }
    };
    let mut stream = timeout(Duration::from_secs(30), again).await.unwrap();
    stream.write_all(b"back").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "back");
    echo.abort();
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_that_starts_before_its_router_binds_when_it_is_there() {
    let mut overlay = Overlay::start().await;
    overlay.operator.create_service("echo", true).await;
    overlay.router.shutdown().await;
    let host = overlay.join("host", &["echo-host"]).await;
    let early = host.bind("echo").await.unwrap_err();
    assert!(matches!(early.failure, BindFailure::NoRouter { .. }), "{early:?}");

    overlay.restart_router().await;

    let bound = async {
        while host.bind("echo").await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(30), bound).await.unwrap();
    overlay.stop().await;
}
