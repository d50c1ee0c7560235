//! Routers while the controller is away.

use std::{
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use nightgate_sdk::{Context, DialFailure, Listener, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::overlay::{Overlay, PATIENCE};

/// Answers every connection with a word.
pub(crate) async fn greet(mut listener: Listener) {
    loop {
        let (mut stream, _) = listener.accept().await;
        tokio::spawn(async move {
            drop(stream.write_all(b"hello").await);
            drop(stream.shutdown().await);
            // Until the dialer ends it.
            drop(stream.read_u8().await);
        });
    }
}

pub(crate) async fn greeting(mut stream: Stream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// Dials until it succeeds: clients find a router again that was started anew.
pub(crate) async fn dial(context: &Context, service: &str) -> Stream {
    let began = Instant::now();
    loop {
        match context.dial(service).await {
            Ok(stream) => return stream,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Dials until the refusal has this cause, whatever is refused meanwhile.
pub(crate) async fn refused_as(context: &Context, service: &str, wanted: &str) -> String {
    let began = Instant::now();
    loop {
        let error = context.dial(service).await.unwrap_err();
        if let DialFailure::Refused { cause: Some(cause), reason, .. } = error.failure
            && cause.as_str() == wanted
        {
            return reason;
        }
        assert!(began.elapsed() < PATIENCE, "no refusal as {wanted}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_restarts_without_the_controller_carries_dials_for_as_long_as_it_may() {
    let mut overlay = Overlay::start();
    let file = overlay.enroll_router("hub");
    let router = overlay.start_router(&file, "");
    overlay.create_service("web");
    let host = overlay.join("host", "web-host").await;
    let dialer = overlay.join("dialer", "web-dial").await;
    let served = tokio::spawn(greet(host.bind("web").await.unwrap()));
    assert_eq!(greeting(dial(&dialer, "web").await).await, "hello");
    let model = overlay.path("hub.model");
    // What the token of the last who joined rests on.
    overlay.wait("the model is on disk", |_| {
        let known = r#""name":"dialer","fingerprint":""#;
        std::fs::read_to_string(&model).is_ok_and(|text| text.contains(known))
    });
    let mode = std::fs::metadata(&model).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    overlay.kill_controller();
    router.kill();
    let router = overlay.start_router(&file, "");
    assert_eq!(greeting(dial(&dialer, "web").await).await, "hello");

    router.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let router = overlay.start_router(&file, "  offline: { for: 1s }");
    let reason = refused_as(&dialer, "web", "no-model").await;
    assert!(reason.contains("router.offline"), "{reason}");

    // A damaged file is no model at all.
    router.kill();
    let mut bytes = std::fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&model, bytes).unwrap();
    let _router = overlay.start_router(&file, "");
    assert!(dialer.dial("web").await.is_err());

    overlay.start_controller();
    assert_eq!(greeting(dial(&dialer, "web").await).await, "hello");
    served.abort();
}
