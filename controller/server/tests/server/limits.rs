//! What strangers may send, and how often.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use reqwest::StatusCode;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::common::{CLIENT, Lab, MANAGEMENT};

/// A TCP connection from this address of loopback that says nothing.
fn silent(from: Ipv4Addr, to: SocketAddr) -> std::net::TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// GHSA-q8g9, GHSA-j952: nobody makes the controller hold a body without bound, with a session or without.
#[tokio::test]
async fn bodies_have_a_bound_on_every_open_path() {
    let lab = Lab::start().await;
    let anybody = lab.anybody();
    let long = "A".repeat(1024 * 1024);
    for path in [
        "/authenticate?method=password".to_owned(),
        "/enroll?method=ott&token=x".to_owned(),
        "/enroll/ca".to_owned(),
        format!("{CLIENT}/authenticate?method=cert"),
        format!("{MANAGEMENT}/authenticate?method=password"),
    ] {
        let answer = anybody.post_text(&path, long.clone()).await;
        answer.assert_refused(413, "REQUEST_TOO_LARGE");
    }
}

#[tokio::test]
async fn deep_json_is_refused_and_not_followed() {
    let lab = Lab::start().await;
    let deep = "[".repeat(30_000) + &"]".repeat(30_000);
    let answer = lab.anybody().post_text("/authenticate?method=password", deep.clone()).await;
    answer.assert_refused(400, "COULD_NOT_PARSE_BODY");
    let admin = lab.admin().await;
    let body = format!("{{\"name\":\"web\",\"config\":{{\"x\":{deep}}}}}");
    let answer = admin.post_text(&format!("{MANAGEMENT}/services"), body).await;
    answer.assert_refused(400, "COULD_NOT_PARSE_BODY");
}

#[tokio::test]
async fn request_heads_have_a_bound() {
    let lab = Lab::start().await;
    let long = format!("/version?{}", "x".repeat(40 * 1024));
    // Refused by status or by closing the connection; the controller goes on.
    let status = lab.anybody().try_status(&long).await;
    assert!(status.as_ref().map_or(true, StatusCode::is_client_error), "{status:?}");
    assert_eq!(lab.anybody().get("/version").await.status, 200);
}

#[tokio::test]
async fn a_source_that_keeps_failing_to_enroll_is_told_to_wait_and_others_are_not() {
    let lab = Lab::start().await;
    let created = lab.admin().await.create("identities", json!({ "name": "alice" })).await;
    let stranger = lab.caller_from(Ipv4Addr::new(127, 0, 0, 9));
    let path = "/enroll?method=ott&token=guess";
    let mut told_to_wait = false;
    for _attempt in 0..40 {
        let answer = stranger.post_text(path, "x".into()).await;
        told_to_wait |= answer.status == 429;
    }
    assert!(told_to_wait);
    let refused = stranger.post_text("/enroll/ott", "{}".into()).await;
    refused.assert_refused(429, "SERVER_TOO_MANY_REQUESTS");
    lab.enroll_identity(&created).await;
}

#[tokio::test]
async fn a_source_that_keeps_failing_to_authenticate_is_told_to_wait() {
    let lab = Lab::start().await;
    let stranger = lab.caller_from(Ipv4Addr::new(127, 0, 0, 9));
    let mut last = 0;
    for _attempt in 0..70 {
        last = stranger.post("/authenticate?method=cert", json!({})).await.status.as_u16();
    }
    assert_eq!(last, 429);
    lab.admin().await;
}

/// Half-open handshakes of one source do not keep others out, nor that source for ever.
#[tokio::test]
async fn half_open_handshakes_have_a_bound_for_each_source() {
    let lab = Lab::start().await;
    let stranger = Ipv4Addr::new(127, 0, 0, 9);
    let mut open: Vec<_> = (0..100).map(|_| silent(stranger, lab.address())).collect();
    let refused = tokio::task::spawn_blocking(move || {
        let mut refused = 0;
        for stream in &mut open[64..] {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            // Closed by the controller: an end or a reset, not a time-out.
            let end = stream.read(&mut [0; 1]);
            let closed = end.as_ref().is_ok_and(|read| *read == 0)
                || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
            refused += u32::from(closed);
        }
        (refused, open)
    });
    let (refused, open) = refused.await.unwrap();
    assert_eq!(refused, 36);
    assert_eq!(lab.anybody().get("/version").await.status, 200);
    drop(open);
    let again = lab.caller_from(stranger);
    let mut answered = false;
    for _try in 0..50 {
        answered |= again.try_get("/version").await.is_ok();
        if answered {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(answered);
}
