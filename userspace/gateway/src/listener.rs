//! Where the kernel delivers intercepted connections.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use nightgate_e2ee::Binding;
use nightgate_model::{entity::Permission, id::IdentityId};
use nightgate_router::{Circuit, DialRefusal, DialRequest, FailureCause, Router};
use nightgate_telemetry::{End, Metrics};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tracing::{debug, info, warn};

use crate::{
    carry::{CarryError, carry, reset},
    intercept::{InterceptTable, InterceptedService},
    protection::{Offer, Protected, ProtectionError},
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

/// Dials for intercepted connections.
#[derive(Clone, Debug)]
pub struct Interceptor {
    /// Opens the circuits.
    pub router: Router,
    /// The identity under which it dials.
    pub identity: IdentityId,
    /// The newest intercept table.
    pub table: watch::Receiver<Arc<InterceptTable>>,
    /// Counts.
    pub metrics: Metrics,
}

/// Why an intercepted connection was closed.
#[derive(Debug, thiserror::Error)]
enum InterceptError {
    #[error(transparent)]
    Dial(#[from] DialRefusal),
    #[error(transparent)]
    Protection(#[from] ProtectionError),
    #[error(transparent)]
    Carry(#[from] CarryError),
}

/// Connections the kernel queues while they are not yet accepted.
const BACKLOG: i32 = 4_096;

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
        open(address).map_err(|source| ListenerError { address, source })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts and carries connections for ever.
    pub async fn run(self, interceptor: Interceptor) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let (stream, client) = match self.listener.accept().await {
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
            let interceptor = interceptor.clone();
            connections.spawn(async move {
                interceptor.serve(stream, client).await;
                drop(slot);
            });
        }
    }
}

/// The loopback addresses that [`TransparentListener::open`] takes.
pub const LOOPBACKS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

fn open(address: SocketAddr) -> io::Result<TransparentListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
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
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    Ok(TransparentListener { listener, address })
}

impl Interceptor {
    async fn serve(&self, stream: TcpStream, client: SocketAddr) {
        let Ok(destination) = stream.local_addr() else { return };
        let service = self.table.borrow().service_at(destination).cloned();
        let Some(service) = service else {
            // It was in the table when its first packet came, or somebody dialed the listener itself.
            debug!(%destination, "connection to a destination that is not intercepted");
            self.metrics.circuit_refused(End::Dialer, "no-service");
            reset(stream);
            return;
        };
        self.metrics.connection_intercepted();
        if let Err(error) = self.connect(stream, client, destination, &service).await {
            debug!(service = %service.name, %client, %destination, %error, "intercepted connection ended");
        }
    }

    async fn connect(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        destination: SocketAddr,
        service: &InterceptedService,
    ) -> Result<(), InterceptError> {
        let (circuit, protection) = match self.dial(client, destination, service).await {
            Ok(dialed) => dialed,
            Err(error) => {
                reset(stream);
                return Err(error);
            }
        };
        self.metrics.circuit_opened(End::Dialer);
        Ok(carry(stream, circuit, protection, &self.metrics).await?)
    }

    async fn dial(
        &self,
        client: SocketAddr,
        destination: SocketAddr,
        service: &InterceptedService,
    ) -> Result<(Circuit, Protected), InterceptError> {
        let app_data = self.app_data(client, destination);
        let binding = Binding { service: service.id.as_str(), app_data: &app_data };
        let credentials = self.router.credentials().cloned();
        let offer = Offer::new(service.encryption, credentials, binding)?;
        let request = DialRequest {
            service: service.id.clone(),
            identity: self.identity.clone(),
            instance: String::new(),
            caller: self.caller(),
            key_share: offer.key_share(),
            app_data,
            session: Bytes::new(),
        };
        let circuit = match self.router.dial(request).await {
            Ok(circuit) => circuit,
            Err(refusal) => {
                let cause = refusal.cause.as_str();
                self.metrics.circuit_refused(End::Dialer, cause);
                info!(service = %service.name, cause, detail = %refusal.detail, "dial refused");
                return Err(refusal.into());
            }
        };
        let protection =
            offer.complete(&circuit.peer).and_then(|protected| self.known(service, protected));
        let protection = protection.inspect_err(|error| {
            self.metrics.circuit_refused(End::Dialer, FailureCause::Encryption.as_str());
            warn!(service = %service.name, %error, "circuit refused");
        })?;
        Ok((circuit, protection))
    }

    /// A host that has proven an identity must be one that may host the service.
    fn known(
        &self,
        service: &InterceptedService,
        protected: Protected,
    ) -> Result<Protected, ProtectionError> {
        let Some(peer) = &protected.peer else { return Ok(protected) };
        let replica = self.router.replica();
        let authorizations = &replica.borrow().authorizations;
        if authorizations.allows(&IdentityId::new(peer), Permission::Bind, &service.id) {
            return Ok(protected);
        }
        let expected = format!("expected one that may host service {}", service.name);
        Err(ProtectionError::Peer { found: peer.clone(), expected })
    }

    /// The name under which the host sees this gateway.
    fn caller(&self) -> String {
        let replica = self.router.replica();
        let replica = replica.borrow();
        replica.identities.get(&self.identity).map_or_else(String::new, |own| own.name.clone())
    }

    /// What OpenZiti's hosting tunnelers read: JSON with text values only.
    fn app_data(&self, client: SocketAddr, destination: SocketAddr) -> Bytes {
        let table = self.table.borrow();
        let mut data = serde_json::json!({
            "dst_protocol": "tcp",
            "dst_ip": destination.ip().to_string(),
            "dst_port": destination.port().to_string(),
            "src_protocol": "tcp",
            "src_ip": client.ip().to_string(),
            "src_port": client.port().to_string(),
        });
        if let Some(name) = table.names().name_of(destination.ip()) {
            data["dst_hostname"] = name.as_str().into();
        }
        Bytes::from(data.to_string())
    }
}
