//! Hosting: connects circuits that arrive for a service to its server behind this gateway.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use nightgate_e2ee::Binding;
use nightgate_model::{
    configs::{ConfigShapeError, HostV1, Protocol},
    entity::Permission,
    id::{IdentityId, ServiceId},
    replica::Replica,
};
use nightgate_router::{BindRequest, FailureCause, Incoming, KeyShare, Router};
use nightgate_telemetry::{End, Metrics};
use tokio::{
    net::{TcpStream, lookup_host},
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, info};

use crate::{
    carry::carry,
    intercept::Encryption,
    protection::{Protected, ProtectionError},
};

/// A service as it is hosted here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostedService {
    /// Its id.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// The server.
    pub server: HostV1,
    /// Whether both ends must encrypt.
    pub encryption: Encryption,
}

/// Why a service that may be hosted is not.
#[derive(Debug, thiserror::Error)]
pub enum HostingProblem {
    /// Its `host.v1` cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigShapeError),
    /// Its server is reached by UDP.
    #[error("service {service}: host.v1 protocol: udp is not hosted, expected tcp")]
    Udp {
        /// The service's name.
        service: String,
    },
}

/// Everything hosted here. Dropping it ends the hosting and every circuit of it.
#[derive(Debug)]
pub struct Hosting {
    host: Host,
    bindings: BTreeMap<ServiceId, (HostedService, AbortHandle)>,
    tasks: JoinSet<()>,
}

#[derive(Clone, Debug)]
struct Host {
    router: Router,
    identity: IdentityId,
    metrics: Metrics,
    slots: Arc<Semaphore>,
}

/// A server that could not be connected.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("resolve {address}: {source}")]
    Resolve { address: String, source: io::Error },
    #[error("resolve {address}: the name has no address")]
    NoAddress { address: String },
    #[error("connect to {server}: {source}")]
    Connect { server: SocketAddr, source: io::Error },
    #[error("connect to {address}: no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout { address: String },
}

/// A server that does not accept a connection within this time counts as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Wait before a service is bound anew whose binding the router ended.
const RETRY: Duration = Duration::from_secs(2);

/// Circuits carried at one time; more are refused.
const MAX_CIRCUITS: usize = 32_768;

/// What `replica` allows `identity` to host, and what it cannot.
pub fn hosted_services(
    replica: &Replica,
    identity: &IdentityId,
) -> (Vec<HostedService>, Vec<HostingProblem>) {
    let (mut hosted, mut problems) = (Vec::new(), Vec::new());
    let ids = replica.authorizations.services(identity, Permission::Bind);
    for service in ids.filter_map(|id| replica.services.get(id)) {
        let (id, name) = (service.id.clone(), service.name.clone());
        match service.host() {
            Ok(Some(HostV1 { protocol: Protocol::Udp, .. })) => {
                problems.push(HostingProblem::Udp { service: name });
            }
            Ok(Some(server)) => {
                let encryption = Encryption::of(service);
                hosted.push(HostedService { id, name, server, encryption });
            }
            Ok(None) => {}
            Err(error) => problems.push(error.into()),
        }
    }
    (hosted, problems)
}

impl Hosting {
    /// Hosts nothing yet.
    pub fn new(router: Router, identity: IdentityId, metrics: Metrics) -> Self {
        let slots = Arc::new(Semaphore::new(MAX_CIRCUITS));
        let host = Host { router, identity, metrics, slots };
        Self { host, bindings: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Starts and stops bindings until exactly `wanted` is hosted. A service that did not change keeps
    /// its binding and its circuits; circuits of a service that is hosted no longer end.
    pub fn apply(&mut self, wanted: Vec<HostedService>) {
        while self.tasks.try_join_next().is_some() {}
        self.bindings.retain(|_, (hosted, task)| {
            let keep = wanted.contains(hosted);
            if !keep {
                info!(service = %hosted.name, "hosting ends");
                task.abort();
            }
            keep
        });
        for service in wanted {
            if !self.bindings.contains_key(&service.id) {
                let task = self.tasks.spawn(self.host.clone().serve(service.clone()));
                self.bindings.insert(service.id.clone(), (service, task));
            }
        }
    }
}

impl Host {
    /// Keeps the service bound for ever.
    async fn serve(self, service: HostedService) {
        // Ends with this task, and so with the service's hosting.
        let mut circuits = JoinSet::new();
        loop {
            let binding = self.router.bind(BindRequest {
                service: service.id.clone(),
                identity: self.identity.clone(),
                instance: String::new(),
                precedence: Default::default(),
                cost: 0,
            });
            let server = server_address(&service.server);
            info!(service = %service.name, %server, "hosting begins");
            self.accept_all(binding, &service, &mut circuits).await;
            debug!(service = %service.name, "binding ended");
            sleep(RETRY).await;
        }
    }

    async fn accept_all(
        &self,
        mut binding: nightgate_router::Binding,
        service: &HostedService,
        circuits: &mut JoinSet<()>,
    ) {
        while let Some(incoming) = binding.accept().await {
            while circuits.try_join_next().is_some() {}
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
                self.refuse(incoming, service, FailureCause::Capacity, "too many circuits");
                continue;
            };
            let (host, service) = (self.clone(), service.clone());
            circuits.spawn(async move {
                host.connect(incoming, &service).await;
                drop(slot);
            });
        }
    }

    async fn connect(&self, incoming: Incoming, service: &HostedService) {
        let (share, protection) = match self.answer(service, &incoming) {
            Ok(agreed) => agreed,
            Err(error) => {
                return self.refuse(
                    incoming,
                    service,
                    FailureCause::Encryption,
                    &error.to_string(),
                );
            }
        };
        let stream = match connect(&service.server).await {
            Ok(stream) => stream,
            Err(error) => {
                return self.refuse(incoming, service, error.cause(), &error.to_string());
            }
        };
        let dialer = incoming.caller().to_owned();
        let circuit = match incoming.accept(share).await {
            Ok(circuit) => circuit,
            Err(error) => {
                debug!(service = %service.name, %dialer, %error, "circuit went before it was accepted");
                return;
            }
        };
        self.metrics.circuit_opened(End::Host);
        if let Err(error) = carry(stream, circuit, protection, &self.metrics).await {
            debug!(service = %service.name, %dialer, %error, "hosted connection ended");
        }
    }

    /// What to answer a dialer with, and how the circuit is protected. A dialer that has proven an
    /// identity must be the one that the routers have authorized.
    fn answer(
        &self,
        service: &HostedService,
        incoming: &Incoming,
    ) -> Result<(KeyShare, Protected), ProtectionError> {
        let binding = Binding { service: service.id.as_str(), app_data: incoming.app_data() };
        let credentials = self.router.credentials().map(AsRef::as_ref);
        let dialer = incoming.key_share();
        let answered = Protected::answer(service.encryption, credentials, binding, dialer)?;
        match &answered.1.peer {
            Some(peer) if peer != incoming.dialer().as_str() => {
                let expected = format!("expected {}", incoming.dialer());
                Err(ProtectionError::Peer { found: peer.clone(), expected })
            }
            Some(_) | None => Ok(answered),
        }
    }

    fn refuse(
        &self,
        incoming: Incoming,
        service: &HostedService,
        cause: FailureCause,
        detail: &str,
    ) {
        self.metrics.circuit_refused(End::Host, cause.as_str());
        let dialer = incoming.caller();
        info!(service = %service.name, dialer, cause = cause.as_str(), detail, "circuit refused");
        incoming.refuse(cause, detail);
    }
}

/// Connects to the first address of the server that answers.
async fn connect(server: &HostV1) -> Result<TcpStream, ConnectError> {
    let address = server_address(server);
    let attempt = async {
        let addresses = lookup_host((server.address.as_str(), server.port))
            .await
            .map_err(|source| ConnectError::Resolve { address: address.clone(), source })?;
        let mut failure = ConnectError::NoAddress { address: address.clone() };
        for server in addresses {
            match TcpStream::connect(server).await {
                Ok(stream) => return Ok(stream),
                Err(source) => failure = ConnectError::Connect { server, source },
            }
        }
        Err(failure)
    };
    timeout(CONNECT_TIMEOUT, attempt)
        .await
        .unwrap_or_else(|_elapsed| Err(ConnectError::Timeout { address: address.clone() }))
}

/// The server as it is written: an IPv6 address in brackets.
fn server_address(server: &HostV1) -> String {
    let HostV1 { address, port, .. } = server;
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

impl ConnectError {
    fn cause(&self) -> FailureCause {
        match self {
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                FailureCause::ConnectionRefused
            }
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::TimedOut => {
                FailureCause::ConnectTimeout
            }
            Self::Connect { .. } | Self::Resolve { .. } | Self::NoAddress { .. } => {
                FailureCause::HostUnreachable
            }
            Self::Timeout { .. } => FailureCause::ConnectTimeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_what_may_be_bound_and_has_a_tcp_server_is_hosted() {
        let mut replica = Replica::default();
        let me = IdentityId::new("gateway");
        let tcp = serde_json::json!({"protocol": "tcp", "address": "10.0.0.1", "port": 80});
        let udp = serde_json::json!({"protocol": "udp", "address": "10.0.0.1", "port": 53});
        add(&mut replica, "web", Some((&me, tcp.clone())));
        add(&mut replica, "names", Some((&me, udp)));
        add(&mut replica, "broken", Some((&me, serde_json::json!({"port": "x"}))));
        add(&mut replica, "not-mine", Some((&IdentityId::new("other"), tcp)));
        add(&mut replica, "dial-only", None);

        let (hosted, problems) = hosted_services(&replica, &me);

        let [HostedService { name, encryption: Encryption::Required, .. }] = hosted.as_slice()
        else {
            panic!("{hosted:?}");
        };
        assert_eq!(name, "web");
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[tokio::test]
    async fn a_server_that_listens_is_connected() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();

        connect(&server("localhost", port)).await.unwrap();
    }

    #[tokio::test]
    async fn failures_say_what_they_are() {
        let port = {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let refused = connect(&server("127.0.0.1", port)).await.unwrap_err();
        assert_eq!(refused.cause(), FailureCause::ConnectionRefused);
        assert!(refused.to_string().contains(&port.to_string()), "{refused}");

        let unknown = connect(&server("no-such-host.invalid", 80)).await.unwrap_err();
        assert_eq!(unknown.cause(), FailureCause::HostUnreachable);
    }

    fn server(address: &str, port: u16) -> HostV1 {
        HostV1 { protocol: Protocol::Tcp, address: address.into(), port }
    }

    fn add(replica: &mut Replica, name: &str, host: Option<(&IdentityId, serde_json::Value)>) {
        let id = ServiceId::new(name);
        let mut config = BTreeMap::new();
        if let Some((identity, document)) = host {
            replica.authorizations.grant(identity.clone(), Permission::Bind, id.clone());
            config.insert(HostV1::TYPE.to_owned(), document);
        }
        let service = nightgate_model::entity::Service {
            id: id.clone(),
            name: name.into(),
            role_attributes: Default::default(),
            encryption_required: true,
            config,
            configs: Default::default(),
        };
        replica.services.insert(id, service);
    }
}
