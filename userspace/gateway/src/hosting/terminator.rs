//! One server of a hosted service: a binding at the router, the server's health, and the circuits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nightgate_e2ee::{Binding as CircuitBinding, EarlyId, EarlyOffer, EarlySecrets, Lines, Own};
use nightgate_model::{configs::Protocol, id::IdentityId};
use nightgate_router::{BindRequest, Binding, Circuit, FailureCause, Incoming, KeyShare, Router};
use nightgate_telemetry::{End, Metrics};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::sleep,
};
use tracing::{debug, info, warn};

use super::{
    FULL, Host, HostedService, HostedTerminator,
    checks::watch_health,
    connect::SocketKind,
    datagram,
    health::Standing,
    probe::Prober,
    secret::InstanceSecret,
    server::{Connection, ServerError},
    target::{DialData, Target},
};
use crate::{
    carried::{Carried, CarriedFlows, Listed},
    carry::carry,
    intercept::InterceptTable,
    protection::{Protected, ProtectionError},
    sight::{Sight, Sights},
};

/// What all terminators of a gateway share.
#[derive(Clone, Debug)]
pub struct RouterHost {
    pub(super) router: Router,
    pub(super) identity: IdentityId,
    pub(super) metrics: Metrics,
    pub(super) flows: CarriedFlows,
    /// Says how the kernel tells connections apart.
    pub(super) table: watch::Receiver<Arc<InterceptTable>>,
    pub(super) slots: Arc<Semaphore>,
    /// What handshakes with dialers leave for later circuits.
    pub(super) lines: Arc<Lines>,
    /// What circuits of one terminator have left for data that goes with later dials.
    pub(super) early: Arc<EarlySecrets<EarlyId>>,
    pub(super) prober: Prober,
    /// A UDP flow ends when it has been silent for so long.
    pub(super) udp_idle: Duration,
    /// Shown for terminators with an instance name.
    pub(super) secret: InstanceSecret,
}

/// Why a circuit is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{FULL}")]
    Full,
    #[error(transparent)]
    Protection(#[from] ProtectionError),
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// Wait before a service is bound anew whose binding the router ended.
const RETRY: Duration = Duration::from_secs(2);

impl Host for RouterHost {
    async fn serve(mut self, service: Arc<HostedService>, terminator: Arc<HostedTerminator>) {
        // No terminator takes what circuits of another one have left.
        self.early = Arc::default();
        // All end with this task, and so with the service's hosting.
        let mut circuits = JoinSet::new();
        let (mut standing, _checks) = watch_health(&self.prober, &service.name, &terminator.host);
        let secret = self.secret.sealed(&service.id, &terminator.instance);
        let mut refused = None;
        loop {
            let Standing { precedence, cost } = *standing.borrow_and_update();
            let bound = self.router.bind(BindRequest {
                service: service.id.clone(),
                identity: self.identity.clone(),
                instance: terminator.instance.clone(),
                secret: secret.clone(),
                precedence,
                cost,
            });
            let mut binding = match bound {
                Ok(binding) => binding,
                Err(taken) => {
                    if refused.as_ref() != Some(&taken) {
                        warn!(service = %service.name, %taken, "not hosted; it is tried again");
                    }
                    refused = Some(taken);
                    sleep(RETRY).await;
                    continue;
                }
            };
            refused = None;
            info!(service = %service.name, server = %terminator.host, "hosting begins");
            while let Some(incoming) = next(&mut binding, &mut standing, &mut circuits).await {
                let (service, terminator) = (Arc::clone(&service), Arc::clone(&terminator));
                let runtime = self.router.lanes().runtime(incoming.lane());
                let task = self.clone().take(incoming, service, terminator);
                circuits.spawn_on(task, runtime);
            }
            debug!(service = %service.name, "binding ended");
            sleep(RETRY).await;
        }
    }
}

impl RouterHost {
    async fn take(
        self,
        incoming: Incoming,
        service: Arc<HostedService>,
        terminator: Arc<HostedTerminator>,
    ) {
        let Ok(_slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return self.refuse(incoming, &service, &Refusal::Full);
        };
        let connected = self.connect(&incoming, &service, &terminator).await;
        let (connection, share, protection) = match connected {
            Ok(connected) => connected,
            Err(refusal) => return self.refuse(incoming, &service, &refusal),
        };
        let (dialer, by) = (incoming.caller().to_owned(), incoming.dialer().clone());
        let ended = match incoming.accept(share).await {
            Ok(circuit) => {
                self.metrics.circuit_opened(End::Host);
                let listed = connection.ends().map(|(protocol, ends)| {
                    let (service, circuit) = (service.id.clone(), circuit.id);
                    self.flows.enter(
                        protocol,
                        ends,
                        Carried { service, dialer: by, circuit, client: None },
                    )
                });
                let sight = listed.as_ref().map(Listed::sight).unwrap_or_default();
                self.carry(connection, circuit, protection, sight).await
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = ended {
            debug!(service = %service.name, %dialer, error, "hosted connection ended");
        }
    }

    async fn connect(
        &self,
        incoming: &Incoming,
        service: &HostedService,
        terminator: &HostedTerminator,
    ) -> Result<(Connection, KeyShare, Protected), Refusal> {
        let (share, protection) = self.answer(service, terminator, incoming)?;
        let mark = self.mark(service, incoming.dialer());
        let socket = SocketKind { mark, ..SocketKind::default() };
        let connection = Connection::open(&terminator.host, incoming.app_data(), socket).await?;
        Ok((connection, share, protection))
    }

    /// The packet mark by which the kernel knows what somebody dials of a service.
    fn mark(&self, service: &HostedService, dialer: &IdentityId) -> Option<u32> {
        let replica = self.router.replica();
        let replica = replica.borrow();
        let name = replica.identities.get(dialer).map_or("", |dialer| dialer.name.as_str());
        self.table.borrow().hosted().mark(&service.id, name)
    }

    async fn carry(
        &self,
        connection: Connection,
        circuit: Circuit,
        protection: Protected,
        sight: Sight,
    ) -> Result<(), String> {
        match connection {
            Connection::Stream(stream) => {
                let sights = Sights { circuit: sight, ..Sights::default() };
                carry(stream, circuit, protection, sights, &self.metrics)
                    .await
                    .map_err(|error| error.to_string())
            }
            Connection::Datagrams(socket) => {
                datagram::carry(socket, circuit, protection, self.udp_idle, &self.metrics)
                    .await
                    .map_err(|error| error.to_string())
            }
        }
    }

    /// What to answer a dialer with, and how the circuit is protected. A dialer that has proven an
    /// identity must be the one that the routers have authorized.
    fn answer(
        &self,
        service: &HostedService,
        HostedTerminator { host, instance }: &HostedTerminator,
        incoming: &Incoming,
    ) -> Result<(KeyShare, Protected), ProtectionError> {
        let (id, app_data) = (service.id.as_str(), incoming.app_data());
        let binding = CircuitBinding { service: id, instance, app_data };
        let credentials = self.router.credentials();
        let own = credentials.map(|credentials| Own::keeping(credentials, &self.lines));
        let dialer = incoming.key_share();
        // Data with a dial is the beginning of a stream: datagrams have none.
        let takes = service.early_data
            && Target::choose(host, &DialData::read(app_data))
                .is_ok_and(|target| target.protocol == Protocol::Tcp);
        let take = |id: &EarlyId| self.early.take(id, Instant::now());
        let early = EarlyOffer { sealed: &dialer.early_data, take: &take };
        let early = (takes && !dialer.early_data.is_empty()).then_some(early);
        let (share, mut protection) =
            Protected::answer(service.encryption, own.as_ref(), binding, (dialer, early))?;
        if let Some(found) = protection.peer.take_if(|peer| peer != incoming.dialer().as_str()) {
            let expected = format!("expected {}", incoming.dialer());
            return Err(ProtectionError::Peer { found, expected });
        }
        if let Some(left) = protection.left.take().filter(|_| takes) {
            self.early.put(left.id(), left, Instant::now());
        }
        Ok((share, protection))
    }

    fn refuse(&self, incoming: Incoming, service: &HostedService, refusal: &Refusal) {
        let (cause, detail) = (refusal.cause(), refusal.to_string());
        self.metrics.circuit_refused(End::Host, cause.as_str());
        let dialer = incoming.caller();
        info!(service = %service.name, dialer, cause = cause.as_str(), detail, "circuit refused");
        incoming.refuse(cause, &detail);
    }
}

impl Refusal {
    fn cause(&self) -> FailureCause {
        match self {
            Self::Full => FailureCause::Capacity,
            Self::Protection(_) => FailureCause::Encryption,
            Self::Server(error) => error.cause(),
        }
    }
}

/// The next dial; tells the router meanwhile what the server's health makes of the terminator, and lets go of circuits
/// that have ended. `None` when the binding has ended.
async fn next(
    binding: &mut Binding,
    standing: &mut watch::Receiver<Standing>,
    circuits: &mut JoinSet<()>,
) -> Option<Incoming> {
    loop {
        tokio::select! {
            // Their tasks take memory until then, and the next dial may be long in coming.
            Some(_ended) = circuits.join_next() => {}
            incoming = binding.accept() => return incoming,
            Ok(()) = standing.changed() => {
                let Standing { precedence, cost } = *standing.borrow_and_update();
                binding.update(precedence, cost);
            }
        }
    }
}
