//! Opening a channel: TCP, TLS with both certificates, hello.

use std::{io, sync::Arc, time::Duration};

use nightgate_wire::{
    channel::{self, Limits, Message},
    edge,
};
use rustls::ClientConfig;
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    channel::Channel,
    driver::{self, DriverError, FrameReader},
};

/// Longest time from the first packet to the router's answer to the hello.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sequence of the hello; the messages after it count up from 1.
const HELLO_SEQUENCE: i32 = 0;

/// What this end calls itself in the hello.
const SELF_DESCRIPTION: &str = concat!("nightgate-sdk ", env!("CARGO_PKG_VERSION"));

/// Why a channel could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("address {address:?}: expected host:port")]
    Address { address: String },
    #[error("address {address:?}: the host is no DNS name")]
    Name { address: String, source: InvalidDnsNameError },
    #[error("connect to {address}")]
    Io { address: String, source: io::Error },
    #[error("hello to {address}")]
    Hello { address: String, source: DriverError },
    #[error("hello to {address}: the router refused: {reason}")]
    Refused { address: String, reason: String },
    #[error("connect to {address}: not done in {} seconds", CONNECT_TIMEOUT.as_secs())]
    Timeout { address: String },
}

/// Opens a channel to the router at `address` (`host:port`) under an API session.
pub(crate) async fn connect(
    tls: &Arc<ClientConfig>,
    address: &str,
    token: &str,
) -> Result<Channel, ConnectError> {
    let opening = async {
        let failed = |source| ConnectError::Io { address: address.to_owned(), source };
        let name = server_name(address)?;
        let tcp = TcpStream::connect(address).await.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        let stream =
            TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await.map_err(failed)?;
        greet(stream, address, token).await
    };
    timeout(CONNECT_TIMEOUT, opening)
        .await
        .map_err(|_elapsed| ConnectError::Timeout { address: address.to_owned() })?
}

/// Says hello over an authenticated connection and starts the channel on it.
pub(crate) async fn greet(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: &str,
    token: &str,
) -> Result<Channel, ConnectError> {
    let failed = |source| ConnectError::Hello { address: address.to_owned(), source };
    let mut frames = FrameReader::new(stream);
    let started = Instant::now();
    frames.send(&hello(token)).await.map_err(failed)?;
    let answer = frames.next(Limits::HELLO).await.map_err(failed)?;
    let accepted = answer.content_type == channel::content::RESULT
        && answer.headers.is_true(channel::header::RESULT_SUCCESS);
    if !accepted {
        let reason = String::from_utf8_lossy(&answer.body).into_owned();
        return Err(ConnectError::Refused { address: address.to_owned(), reason });
    }
    let (channel, to_write) = Channel::new(address.to_owned(), started.elapsed());
    let (stream, buffered) = frames.into_parts();
    let shared = Arc::clone(&channel.shared);
    let router = address.to_owned();
    tokio::spawn(async move {
        match driver::drive(shared, stream, buffered, to_write, HELLO_SEQUENCE + 1).await {
            Ok(()) => tracing::debug!(router, "channel closed"),
            Err(error) => {
                tracing::info!(router, error = &error as &dyn std::error::Error, "channel lost");
            }
        }
    });
    Ok(channel)
}

impl<S: AsyncWrite + Unpin> FrameReader<S> {
    pub(crate) async fn send(&mut self, message: &Message) -> Result<(), DriverError> {
        let mut bytes = bytes::BytesMut::new();
        message.encode(&mut bytes);
        self.get_mut().write_all(&bytes).await?;
        self.get_mut().flush().await?;
        Ok(())
    }
}

fn hello(token: &str) -> Message {
    let mut hello = Message::new(channel::content::HELLO).with_body(SELF_DESCRIPTION);
    hello.sequence = HELLO_SEQUENCE;
    hello.headers.put_text(edge::header::SESSION_TOKEN, token);
    hello
}

fn server_name(address: &str) -> Result<ServerName<'static>, ConnectError> {
    let (host, _port) = address
        .rsplit_once(':')
        .ok_or_else(|| ConnectError::Address { address: address.to_owned() })?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned())
        .map_err(|source| ConnectError::Name { address: address.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn router_is_verified_by_the_host_of_its_address() {
        for (address, expected) in [
            ("router.example:443", "router.example"),
            ("192.0.2.7:6262", "192.0.2.7"),
            ("[2001:db8::7]:6262", "2001:db8::7"),
        ] {
            assert_eq!(
                server_name(address).unwrap(),
                ServerName::try_from(expected.to_owned()).unwrap()
            );
        }
        assert!(matches!(server_name("router"), Err(ConnectError::Address { .. })));
        assert!(matches!(server_name("a b:443"), Err(ConnectError::Name { .. })));
    }
}
