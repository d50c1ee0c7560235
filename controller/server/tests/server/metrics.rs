//! What Prometheus learns of the controller.

use std::net::{SocketAddr, TcpListener};

use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use crate::{channel::Channel, common::Lab};

async fn ask(address: SocketAddr, path: &str) -> String {
    ask_of(TcpStream::connect(address).await.unwrap(), path).await
}

async fn ask_of(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn metrics_are_served_where_they_are_asked_for_and_nothing_else_is() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("metrics.sock");
    let lab = Lab::start_with(|settings| {
        settings.metrics = Some(free);
        settings.metrics_socket = Some(socket.clone());
    })
    .await;
    let admin = lab.admin().await;
    admin.create("services", json!({ "name": "web" })).await;
    let (id, credentials) = lab.router("hub", false).await;
    let mut channel = Channel::hello(&lab, &id, &credentials).await;
    channel.replica(|_| true).await;

    let text = ask(free, "/metrics").await;

    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    for line in [
        "nightgate_entities{kind=\"services\"} 1",
        "nightgate_routers_connected 1",
        "nightgate_circuits_reported{router=\"hub\"} 0",
        "nightgate_event_memory_bytes{bound=\"limit\"} 8388608",
        "nightgate_api_requests_total{interface=\"management\",status=\"2xx\"} ",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let over_socket = ask_of(UnixStream::connect(&socket).await.unwrap(), "/metrics").await;
    assert!(over_socket.contains("nightgate_routers_connected 1"), "{over_socket}");
    assert!(ask(free, "/services").await.starts_with("HTTP/1.1 404"));
    let answer = lab.anybody().get("/metrics").await;
    assert_eq!(answer.status, 404, "not on the port of everybody");
}
