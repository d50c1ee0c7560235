//! TLS connections whose records are opened where they lie.
//!
//! rustls makes the handshake, protects records, derives keys and keeps session tickets. What it would do besides is to
//! copy each byte that comes three times, through buffers that it grows and zeroes for each record: its interface
//! without buffers (`rustls::unbuffered`) still makes a copy of each record on its way in, and two on its way out. So
//! it hands its keys over after the handshake, in the way that it has for a kernel that does the rest
//! (`rustls::kernel`), and its own ciphers are applied here to the memory that the socket was read into.

mod handshake;
mod keys;
mod records;
mod stream;
#[cfg(test)]
mod tests;

use std::{fmt, io, sync::Arc};

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

pub use self::stream::TlsStream;

/// Makes the handshakes of a server.
#[derive(Clone)]
pub struct Acceptor(Arc<ServerConfig>);

impl Acceptor {
    /// Serves with this configuration.
    pub fn new(mut config: ServerConfig) -> Self {
        config.enable_secret_extraction = true;
        Self(Arc::new(config))
    }

    /// Makes the handshake with the client at the other end.
    ///
    /// # Errors
    /// `InvalidData` with rustls' reason, which the client was told if it can be; otherwise, what became of the
    /// connection.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<TlsStream> {
        handshake::accept(Arc::clone(&self.0), tcp).await
    }
}

/// Makes the handshakes of a client.
#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// Connects with this configuration.
    pub fn new(mut config: ClientConfig) -> Self {
        config.enable_secret_extraction = true;
        Self(Arc::new(config))
    }

    /// Makes the handshake with the server at the other end, which has to prove that it is `name`.
    ///
    /// # Errors
    /// As those of [`Acceptor::accept`].
    pub async fn connect(
        &self,
        name: ServerName<'static>,
        tcp: TcpStream,
    ) -> io::Result<TlsStream> {
        handshake::connect(Arc::clone(&self.0), name, tcp).await
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
