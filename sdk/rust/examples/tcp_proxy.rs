//! Carries TCP connections over the overlay: at one end from a local port to a service, at the other
//! from the service to a server.
//!
//! ```text
//! cargo run -p nightgate-sdk --example tcp_proxy -- IDENTITY.json dial SERVICE 127.0.0.1:8080
//! cargo run -p nightgate-sdk --example tcp_proxy -- IDENTITY.json host SERVICE 127.0.0.1:80
//! ```

mod proxy;

use std::net::SocketAddr;

use anyhow::Context as _;
use nightgate_sdk::{Context, Stream};
use proxy::{Role, join};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (context, role) = join("Carries TCP connections over the overlay").await?;
    match role {
        Role::Dial { service, listen } => dial(context, service, listen).await,
        Role::Host { service, server } => host(&context, &service, server).await,
    }
}

async fn dial(context: Context, service: String, listen: SocketAddr) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    tracing::info!(service, listen = %listener.local_addr()?, "listening");
    loop {
        let (client, from) = listener.accept().await?;
        let (context, service) = (context.clone(), service.clone());
        tokio::spawn(async move {
            match context.dial(&service).await {
                Ok(stream) => carry(client, stream).await,
                Err(error) => tracing::warn!(%from, "{:#}", anyhow::Error::from(error)),
            }
        });
    }
}

async fn host(context: &Context, service: &str, server: SocketAddr) -> anyhow::Result<()> {
    let mut listener = context.bind(service).await?;
    tracing::info!(service, %server, "hosting");
    loop {
        let (stream, caller) = listener.accept().await;
        tokio::spawn(async move {
            match TcpStream::connect(server).await {
                Ok(connection) => carry(connection, stream).await,
                Err(error) => tracing::warn!(caller = caller.name, %server, %error, "not reached"),
            }
        });
    }
}

/// Carries bytes both ways until both halves have ended.
async fn carry(mut connection: TcpStream, mut stream: Stream) {
    match copy_bidirectional(&mut connection, &mut stream).await {
        Ok((sent, received)) => tracing::info!(sent, received, "connection ended"),
        Err(error) => tracing::info!(%error, "connection lost"),
    }
}
