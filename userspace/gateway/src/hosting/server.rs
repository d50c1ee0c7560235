//! The server that a dial is for, connected.

use std::{net::SocketAddr, time::Duration};

use nightgate_model::configs::{HostV1, Protocol};
use nightgate_router::FailureCause;
use tokio::net::{TcpStream, UdpSocket};

use super::{
    connect,
    connect::{ConnectError, SocketKind},
    target::{DialData, Target, TargetError},
};

/// A server that does not accept a connection within this time counts as down, unless its configuration says
/// otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Dialers wait ten seconds (`fabric::dial`): a host that waits longer could not tell them why it failed.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(9);

/// A connected server.
#[derive(Debug)]
pub enum Connection {
    /// By TCP.
    Stream(TcpStream),
    /// By UDP.
    Datagrams(UdpSocket),
}

/// A server that a dial does not reach.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It asks for what it may not.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The server cannot be connected.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl Connection {
    /// Connects the server of `host` that a dial with this application data is for, by a socket of that kind.
    ///
    /// # Errors
    /// The dial may not have it, or it cannot be reached within the configured time.
    pub async fn open(
        host: &HostV1,
        app_data: &[u8],
        socket: SocketKind,
    ) -> Result<Self, ServerError> {
        let target = Target::choose(host, &DialData::read(app_data))?;
        let limit = host.listen.timeout().unwrap_or(CONNECT_TIMEOUT).min(MAX_CONNECT_TIMEOUT);
        Ok(match target.protocol {
            Protocol::Tcp => {
                Self::Stream(connect::tcp(&target, host.proxy.as_deref(), (limit, socket)).await?)
            }
            Protocol::Udp => Self::Datagrams(connect::udp(&target, (limit, socket)).await?),
        })
    }

    /// IP protocol number, and both ends.
    pub fn ends(&self) -> Option<(u8, [SocketAddr; 2])> {
        let (protocol, own, server) = match self {
            Self::Stream(stream) => (Protocol::Tcp, stream.local_addr(), stream.peer_addr()),
            Self::Datagrams(socket) => (Protocol::Udp, socket.local_addr(), socket.peer_addr()),
        };
        Some((protocol.number(), [own.ok()?, server.ok()?]))
    }
}

impl ServerError {
    /// What the dialer is told.
    pub fn cause(&self) -> FailureCause {
        match self {
            Self::Target(_) => FailureCause::HostRefused,
            Self::Connect(error) => error.cause(),
        }
    }
}
