//! The SDK against a real controller and a real router, all on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod away;
mod credentials;
mod cut;
mod early;
mod early_gateways;
mod edge_messages;
mod end_to_end;
mod examples;
mod foreign;
mod forged;
mod hostile;
mod hosting;
mod lifetime;
mod openziti;
mod path;
mod peers;
mod renewal;
mod routers;
mod second_factor;
mod sticky;
mod support;

use std::{io, net::Ipv6Addr, sync::Arc};

use axum::{Router, extract::ConnectInfo, routing::get};
use bytes::Bytes;
use nightgate_model::replica::Replica;
use nightgate_sdk::{
    BindFailure, BindOptions, Caller, Context, DialFailure, DialOptions, EnrollError, FailureCause,
    Listener, enroll,
};
use serde_json::json;
use support::Overlay;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, split};

#[tokio::test(flavor = "multi_thread")]
async fn dialed_service_echoes_encrypted_and_plain() {
    let overlay = Overlay::start().await;
    for (name, encrypted) in [("sealed", true), ("plain", false)] {
        overlay.operator.create_service(name, encrypted).await;
        let host = overlay.join(&format!("host-{name}"), &[&format!("{name}-host")]).await;
        let client = overlay.join(&format!("client-{name}"), &[&format!("{name}-dial")]).await;
        let echo = tokio::spawn(echo(host.bind(name).await.unwrap()));
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();

        let stream = client.dial(name).await.unwrap();
        assert_eq!(stream.is_encrypted(), encrypted);
        let (mut from_host, mut to_host) = split(stream);
        let (written, received) = tokio::join!(
            async {
                to_host.write_all(&sent).await?;
                to_host.shutdown().await
            },
            async {
                let mut received = Vec::new();
                from_host.read_to_end(&mut received).await.map(|_| received)
            }
        );

        written.unwrap();
        assert!(received.unwrap() == sent, "{name}: the echo differs");
        echo.abort();
    }
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_carries_everything_too() {
    let overlay = Overlay::start_at(Ipv6Addr::LOCALHOST.into()).await;
    overlay.operator.create_service("echo", true).await;
    let host = overlay.join("host", &["echo-host"]).await;
    let client = overlay.join("client", &["echo-dial"]).await;
    let echo = tokio::spawn(echo(host.bind("echo").await.unwrap()));

    let mut stream = client.dial("echo").await.unwrap();
    assert!(stream.router().starts_with("[::1]:"), "{}", stream.router());
    stream.write_all(b"six").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();

    assert_eq!(answer, "six");
    echo.abort();
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_learns_who_dials_and_what_it_says() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("desk", true).await;
    let host = overlay.join("desk", &["desk-host"]).await;
    let alice = overlay.join("alice", &["desk-dial"]).await;
    let mut listener = host.bind("desk").await.unwrap();
    let options =
        DialOptions { app_data: Bytes::from_static(b"about billing"), ..DialOptions::default() };

    let (dialed, (mut accepted, caller)) =
        tokio::join!(alice.dial_with("desk", &options), listener.accept());

    assert_eq!(caller.name, "alice");
    assert!(caller.id.is_some());
    assert_eq!(caller.app_data, "about billing");
    // The host speaks first.
    accepted.write_all(b"welcome").await.unwrap();
    let mut greeting = [0; 7];
    dialed.unwrap().read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"welcome");
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_hosts_is_dialed_by_its_name() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("desk", true).await;
    let client = overlay.join("client", &["desk-dial"]).await;
    let mut hosts = Vec::new();
    for name in ["berlin", "paris"] {
        let host = overlay.join(name, &["desk-host"]).await;
        hosts.push((name, host.bind_identity("desk").await.unwrap()));
    }

    for (name, listener) in &mut hosts {
        let (dialed, (_, caller)) =
            tokio::join!(client.dial_identity("desk", name), listener.accept());
        dialed.unwrap();
        assert_eq!(caller.name, "client");
    }
    let unknown = client.dial_identity("desk", "rome").await.unwrap_err();
    assert!(matches!(unknown.failure, DialFailure::Refused { .. }), "{unknown:?}");
    let anyone = client.dial("desk").await.unwrap_err();
    assert!(matches!(anyone.failure, DialFailure::Refused { .. }), "{anyone:?}");
    let thief = overlay.join("thief", &["desk-host"]).await;
    let options = BindOptions { instance: Some("paris".into()), ..BindOptions::default() };
    let stolen = thief.bind_with("desk", options).await.unwrap_err();
    assert!(matches!(stolen.failure, BindFailure::Refused { .. }), "{stolen:?}");
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_share_an_instance_by_its_secret_and_operators_choose_between_them() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("desk", true).await;
    let client = overlay.join("client", &["desk-dial"]).await;
    let options = |secret: &'static str| BindOptions {
        instance: Some("blue".into()),
        secret: secret.into(),
        ..BindOptions::default()
    };
    let mut listeners = Vec::new();
    for name in ["first", "second"] {
        let host = overlay.join(name, &["desk-host"]).await;
        listeners.push(host.bind_with("desk", options("1234")).await.unwrap());
        let known = |replica: &Arc<Replica>| replica.terminators.len() == listeners.len();
        overlay.router.replica().wait_for(known).await.unwrap();
    }
    let thief = overlay.join("thief", &["desk-host"]).await;
    for guess in ["", "4321"] {
        let stolen = thief.bind_with("desk", options(guess)).await.unwrap_err();
        let BindFailure::Refused { reason, .. } = &stolen.failure else { panic!("{stolen:?}") };
        assert!(reason.contains("same secret"), "{reason}");
    }

    for (at, name) in [(1, "second"), (0, "first")] {
        let id = overlay.operator.id_of("identities", name).await;
        let setting = json!({ "identity": id, "instance": "blue", "precedence": "required" });
        overlay.operator.patch("services", "desk", &json!({ "terminators": [setting] })).await;
        let known = |replica: &Arc<Replica>| {
            let desk = replica.service_named("desk").unwrap();
            desk.terminators.iter().any(|setting| setting.identity.as_str() == id)
        };
        overlay.router.replica().wait_for(known).await.unwrap();
        let (dialed, accepted) =
            tokio::join!(client.dial_identity("desk", "blue"), listeners[at].accept());
        dialed.unwrap();
        assert_eq!(accepted.1.name, "client");
    }
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_circuits_share_one_channel() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("echo", true).await;
    let host = overlay.join("host", &["echo-host"]).await;
    let client = overlay.join("client", &["echo-dial"]).await;
    let echo = tokio::spawn(echo(host.bind("echo").await.unwrap()));

    let mut circuits = tokio::task::JoinSet::new();
    for number in 0..50_u8 {
        let client = client.clone();
        circuits.spawn(async move {
            let mut stream = client.dial("echo").await.unwrap();
            stream.write_all(&[number; 5000]).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await.unwrap();
            assert!(received == [number; 5000], "circuit {number}");
        });
    }

    while let Some(done) = circuits.join_next().await {
        done.unwrap();
    }
    echo.abort();
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn axum_serves_without_a_listening_port() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("web", true).await;
    let host = overlay.join("web-server", &["web-host"]).await;
    let client = overlay.join("browser", &["web-dial"]).await;
    let greet =
        |ConnectInfo(caller): ConnectInfo<Caller>| async move { format!("hello {}", caller.name) };
    let app = Router::new().route("/", get(greet)).into_make_service_with_connect_info::<Caller>();
    let listener = host.bind("web").await.unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    let mut stream = client.dial("web").await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("hello browser"), "{answer}");
    server.abort();
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_policy_allows_does_not_exist() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("secret", true).await;
    let stranger = overlay.join("stranger", &[]).await;
    let host = overlay.join("host", &["secret-host"]).await;

    let dialed = stranger.dial("secret").await.unwrap_err();
    let bound = stranger.bind("secret").await.unwrap_err();
    let dialed_by_host = host.dial("secret").await.unwrap_err();

    assert!(matches!(dialed.failure, DialFailure::NoSuchService { .. }), "{dialed:?}");
    assert!(matches!(bound.failure, BindFailure::NoSuchService { .. }), "{bound:?}");
    assert!(matches!(dialed_by_host.failure, DialFailure::NoSuchService { .. }));
    assert!(stranger.services().await.unwrap().is_empty());
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_nobody_hosts_is_refused_with_the_reason() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("idle", true).await;
    let client = overlay.join("client", &["idle-dial"]).await;

    let dialed = client.dial("idle").await.unwrap_err();

    let DialFailure::Refused { cause, reason, .. } = dialed.failure else { panic!("{dialed:?}") };
    assert_eq!(cause, Some(FailureCause::NoTerminator), "{reason}");
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_stream_ends_at_the_peer_after_all_that_was_written() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("log", true).await;
    let host = overlay.join("host", &["log-host"]).await;
    let client = overlay.join("client", &["log-dial"]).await;
    let mut listener = host.bind("log").await.unwrap();
    let (dialed, (mut accepted, _)) = tokio::join!(client.dial("log"), listener.accept());

    let mut stream = dialed.unwrap();
    let written = vec![7; 300_000];
    stream.write_all(&written).await.unwrap();
    drop(stream);

    let mut received = Vec::new();
    accepted.read_to_end(&mut received).await.unwrap();
    assert!(received == written, "{} bytes arrived", received.len());
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_sent_arrives_although_it_has_left() {
    let overlay = Overlay::start().await;
    overlay.operator.create_service("log", true).await;
    let host = overlay.join("host", &["log-host"]).await;
    let token = overlay.operator.create_identity("client", &["log-dial"]).await;
    let identity = enroll(&token).await.unwrap();
    let mut listener = host.bind("log").await.unwrap();
    // A runtime that ends takes the connection to the router with it, as a process does.
    let leaving = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let context = Context::load(&identity).await.unwrap();
            let mut streams = Vec::new();
            for _ in 0..100 {
                streams.push(context.dial("log").await.unwrap());
            }
            for stream in &mut streams {
                stream.write_all(b"the last words").await.unwrap();
            }
            streams.last_mut().unwrap().shutdown().await.unwrap();
            // Without the farewells that dropped streams send.
            std::mem::forget(streams);
        });
    });
    let mut accepted = Vec::new();
    for _ in 0..100 {
        accepted.push(listener.accept().await.0);
    }
    tokio::task::spawn_blocking(|| leaving.join().unwrap()).await.unwrap();

    let mut ended = 0;
    for mut stream in accepted {
        let mut received = Vec::new();
        // Only the stream that was ended ends; the others were left.
        match stream.read_to_end(&mut received).await {
            Ok(_) => ended += 1,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}"),
        }
        assert_eq!(received, b"the last words");
    }
    assert_eq!(ended, 1);
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enrollment_token_works_once_and_only_at_its_controller() {
    let overlay = Overlay::start().await;
    let other = Overlay::start().await;
    let token = overlay.operator.create_identity("alice", &[]).await;
    let foreign = pointed_at(&token, &other.operator.create_identity("bob", &[]).await);

    let refused = enroll(&foreign).await.unwrap_err();
    assert!(matches!(refused, EnrollError::Controller(_)), "{refused:?}");
    let identity = enroll(&token).await.unwrap();
    assert!(!identity.certificates().unwrap().is_empty());
    let again = enroll(&token).await.unwrap_err();
    assert!(matches!(again, EnrollError::Controller(_)), "{again:?}");
    overlay.stop().await;
    other.stop().await;
}

/// The claims of `target` under the signature of `token`: what somebody would hand out who wants the
/// other controller to be trusted.
fn pointed_at(token: &str, target: &str) -> String {
    let (_, signature) = token.rsplit_once('.').unwrap();
    let (claims, _) = target.rsplit_once('.').unwrap();
    format!("{claims}.{signature}")
}

async fn echo(mut listener: Listener) {
    loop {
        let (stream, _) = listener.accept().await;
        tokio::spawn(async move {
            let (mut from, mut to) = split(stream);
            copy(&mut from, &mut to).await.unwrap();
            to.shutdown().await.unwrap();
        });
    }
}
