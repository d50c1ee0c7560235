//! Carries datagrams over the overlay, one message for each: at one end from a local UDP port to a
//! service, at the other from the service to a server.
//!
//! ```text
//! cargo run -p nightgate-sdk --example udp_proxy -- IDENTITY.json dial SERVICE 127.0.0.1:5353
//! cargo run -p nightgate-sdk --example udp_proxy -- IDENTITY.json host SERVICE 127.0.0.1:53
//! ```

mod proxy;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use nightgate_sdk::{Context, MAX_MESSAGE, Messages};
use proxy::{Role, join};
use tokio::{net::UdpSocket, sync::mpsc, time::timeout};

/// A circuit without a datagram for so long is closed (RFC 4787 section 4.3 asks for two minutes).
const IDLE: Duration = Duration::from_secs(120);

/// Datagrams of one client that may wait to be sent; more are dropped, as on any way of UDP.
const QUEUE: usize = 64;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (context, role) = join("Carries UDP over the overlay").await?;
    match role {
        Role::Dial { service, listen } => dial(&context, &service, listen).await,
        Role::Host { service, server } => host(&context, &service, server).await,
    }
}

async fn dial(context: &Context, service: &str, listen: SocketAddr) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(listen).await.with_context(|| format!("bind {listen}"))?;
    let socket = Arc::new(socket);
    tracing::info!(service, listen = %socket.local_addr()?, "receiving");
    let mut clients: HashMap<SocketAddr, mpsc::Sender<Bytes>> = HashMap::new();
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await?;
        clients.retain(|_, queue| !queue.is_closed());
        let queue = clients.entry(client).or_insert_with(|| {
            let (queue, datagrams) = mpsc::channel(QUEUE);
            let (context, service) = (context.clone(), service.to_owned());
            tokio::spawn(serve_client(context, service, Arc::clone(&socket), client, datagrams));
            queue
        });
        drop(queue.try_send(Bytes::copy_from_slice(&buffer[..length])));
    }
}

async fn serve_client(
    context: Context,
    service: String,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    mut datagrams: mpsc::Receiver<Bytes>,
) {
    let messages = match context.dial(&service).await {
        Ok(stream) => stream.into_messages(),
        Err(error) => {
            tracing::warn!(%client, "{:#}", anyhow::Error::from(error));
            return;
        }
    };
    let carried = async {
        loop {
            tokio::select! {
                Some(datagram) = datagrams.recv() => send(&messages, &datagram).await?,
                message = messages.recv() => match message? {
                    Some(message) => drop(socket.send_to(&message, client).await?),
                    None => return Ok(()),
                },
                () = tokio::time::sleep(IDLE) => return Ok(()),
            }
        }
    };
    let ended: std::io::Result<()> = carried.await;
    tracing::info!(%client, error = ?ended.err(), "circuit ended");
}

async fn host(context: &Context, service: &str, server: SocketAddr) -> anyhow::Result<()> {
    let mut listener = context.bind(service).await?;
    tracing::info!(service, %server, "hosting");
    loop {
        let (stream, caller) = listener.accept().await;
        tokio::spawn(async move {
            let ended = serve_circuit(&stream.into_messages(), server).await;
            tracing::info!(caller = caller.name, error = ?ended.err(), "circuit ended");
        });
    }
}

async fn serve_circuit(messages: &Messages, server: SocketAddr) -> std::io::Result<()> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let mut buffer = vec![0; MAX_MESSAGE];
    let carried = async {
        loop {
            tokio::select! {
                message = messages.recv() => match message? {
                    Some(message) => drop(socket.send(&message).await?),
                    None => return Ok(()),
                },
                length = timeout(IDLE, socket.recv(&mut buffer)) => match length {
                    Ok(length) => send(messages, &buffer[..length?]).await?,
                    Err(_elapsed) => return Ok(()),
                },
            }
        }
    };
    carried.await
}

/// Empty datagrams have no form on the overlay.
async fn send(messages: &Messages, datagram: &[u8]) -> std::io::Result<()> {
    if datagram.is_empty() { Ok(()) } else { messages.send(datagram).await }
}
