//! Where the kernel delivers intercepted connections.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd as _, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use nightgate_e2ee::MAX_EARLY_DATA;
use nightgate_model::configs::Protocol;
use nightgate_telemetry::End;
use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, warn};

use crate::{
    carry::{carry, reset},
    interceptor::Interceptor,
    sight::Sights,
};

/// A listening socket that accepts connections to any destination address.
#[derive(Debug)]
pub struct TransparentListener {
    listener: TcpListener,
    address: SocketAddr,
}

/// A transparent listener that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "open a transparent listener at {address}: {source}; expected to run as root or with CAP_NET_ADMIN"
)]
pub struct ListenerError {
    address: SocketAddr,
    source: io::Error,
}

/// Connections the kernel queues while they are not yet accepted.
const BACKLOG: i32 = 4_096;

/// How long a dial that may carry data waits for what its client says first: it comes right behind the packet that makes
/// the connection, unless the server has to speak first.
const FIRST_WORDS: Duration = Duration::from_millis(5);

/// Connections carried at one time; more are reset.
const MAX_CONNECTIONS: usize = 32_768;

impl TransparentListener {
    /// Opens one for IPv4 or IPv6, bound to the loopback address of the family and a free port.
    /// Packets reach it by assignment in the kernel, whatever their destination.
    ///
    /// # Errors
    /// The process lacks CAP_NET_ADMIN, or the family is switched off.
    pub fn open(loopback: IpAddr) -> Result<Self, ListenerError> {
        let address = SocketAddr::new(loopback, 0);
        let open = || {
            let listener = listen_transparently(address)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        open().map_err(|source| ListenerError { address, source })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Accepts connections for ever; each is carried on the lane that has the fewest.
    pub async fn run(self, interceptor: Interceptor) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                // Their tasks take memory until then, and the next connection may be long in coming.
                Some(_ended) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or the client left before it was accepted.
                    debug!(%error, "intercepted connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                warn!(limit = MAX_CONNECTIONS, "intercepted connection refused: too many");
                interceptor.metrics.circuit_refused(End::Dialer, "capacity");
                reset(stream);
                continue;
            };
            let (seat, interceptor) = (interceptor.router.lanes().seat(), interceptor.clone());
            let runtime = seat.runtime().clone();
            let serve = async move {
                match move_here(stream) {
                    Ok(stream) => interceptor.serve(stream, client).await,
                    Err(error) => debug!(%error, "intercepted connection could not be carried"),
                }
                drop((slot, seat));
            };
            connections.spawn_on(serve, &runtime);
        }
    }
}

/// The loopback addresses that [`TransparentListener::open`] takes.
pub const LOOPBACKS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Listens at an address for connections that are assigned to it in the kernel, whatever their destination, which is then
/// the local address of what is accepted.
///
/// # Errors
/// The process lacks CAP_NET_ADMIN, or the address is not to be had.
pub fn listen_transparently(address: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_ip_transparent_v6(true)?;
            socket.set_only_v6(true)?;
        }
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Waits for bytes in the current runtime from now on.
fn move_here(stream: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.into_std()?)
}

/// What the client has sent so far, or sends in a moment, as far as it may go with a dial. It stays unread.
pub async fn said_first(stream: &TcpStream) -> Vec<u8> {
    let mut first = vec![0; MAX_EARLY_DATA];
    let said = timeout(FIRST_WORDS, stream.peek(&mut first)).await;
    first.truncate(said.map_or(0, Result::unwrap_or_default));
    first
}

impl Interceptor {
    async fn serve(&self, stream: TcpStream, client: SocketAddr) {
        let Ok(destination) = stream.local_addr() else { return };
        // The scope of a link-local address does not tell services apart.
        let destination = SocketAddr::new(destination.ip(), destination.port());
        let Some(service) = self.service(Protocol::Tcp, client, destination) else {
            return reset(stream);
        };
        self.metrics.connection_intercepted();
        let (circuit, protection, listed) = match self
            .open(&service, Protocol::Tcp, [client, destination], Some(&stream))
            .await
        {
            Ok(opened) => opened,
            Err(error) => {
                debug!(service = %service.name, %client, %destination, %error, "intercepted connection refused");
                return reset(stream);
            }
        };
        let sights = Sights { connection: listed.sight(), ..Sights::default() };
        if let Err(error) = carry(stream, circuit, protection, sights, &self.metrics).await {
            debug!(service = %service.name, %client, %destination, %error, "intercepted connection ended");
        }
    }
}
