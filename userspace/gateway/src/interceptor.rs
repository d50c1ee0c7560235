//! Dials services for what the kernel intercepts.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use nightgate_e2ee::{Binding, EarlySecret, EarlySecrets, Lines, Own};
use nightgate_model::{
    configs::Protocol,
    entity::Permission,
    id::{IdentityId, ServiceId},
};
use nightgate_router::{Circuit, DialRefusal, DialRequest, FailureCause, Router};
use nightgate_telemetry::{End, Metrics};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tracing::{debug, info, warn};

use crate::{
    carried::{Carried, CarriedFlows, Listed},
    intercept::{InterceptTable, InterceptedService, Passage},
    listener::said_first,
    protection::{Offer, Protected, ProtectionError},
};

/// Dials for intercepted connections and datagrams.
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
    /// What it carries.
    pub flows: CarriedFlows,
    /// What handshakes with hosts leave for later circuits.
    pub lines: Arc<Lines>,
    /// What circuits to hosts that keep no lines have left for data that goes with later dials, by service and instance.
    pub early: Arc<EarlySecrets<(ServiceId, String)>>,
    /// Whether the router has had the time to make its first links; dials wait for it.
    pub settled: watch::Receiver<bool>,
}

/// Why an intercepted connection was closed, or datagrams were refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error(transparent)]
    Dial(#[from] DialRefusal),
    #[error(transparent)]
    Protection(#[from] ProtectionError),
    #[error("no answer to the dial within {seconds} s")]
    Timeout { seconds: u64 },
}

/// Cause of refusals for want of a service.
const NO_SERVICE: &str = "no-service";
/// Cause of refusals of clients that the service's intercept does not allow.
const SOURCE: &str = "source-not-allowed";
/// Cause of dials that were given up.
const TIMEOUT: &str = "dial-timeout";

impl Interceptor {
    /// The service that a client reaches at a destination, if it may.
    pub(crate) fn service(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        destination: SocketAddr,
    ) -> Option<InterceptedService> {
        let table = self.table.borrow();
        let cause = match table.service_at(protocol, destination) {
            Some(service) if service.sources.allow(client.ip()) => return Some(service.clone()),
            Some(_) => SOURCE,
            // It was in the table when its first packet came, or somebody addressed the listener itself.
            None => NO_SERVICE,
        };
        debug!(%client, %destination, cause, "intercepted and refused");
        self.metrics.circuit_refused(End::Dialer, cause);
        None
    }

    /// Opens a circuit, and counts it or why there is none. What the client of a `stream` sends first may go with the dial, as
    /// far as [`Protected::taken`] says then. The last of what it gives is to be kept as long as the circuit.
    pub(crate) async fn open(
        &self,
        service: &InterceptedService,
        protocol: Protocol,
        [client, destination]: [SocketAddr; 2],
        stream: Option<&TcpStream>,
    ) -> Result<(Circuit, Protected, Listed), DialError> {
        let name = self.table.borrow().names().name_of(destination.ip());
        let passage = Passage { protocol, client, destination, name, caller: self.caller() };
        let limit = service.dial.timeout();
        let dialed = timeout(limit, self.dial(service, passage, stream)).await;
        let (circuit, protection) = match dialed {
            Ok(dialed) => dialed?,
            Err(_elapsed) => {
                self.metrics.circuit_refused(End::Dialer, TIMEOUT);
                return Err(DialError::Timeout { seconds: limit.as_secs() });
            }
        };
        self.metrics.circuit_opened(End::Dialer);
        let carried = Carried {
            service: service.id.clone(),
            dialer: self.identity.clone(),
            circuit: circuit.id,
            client: Some(client.ip()),
        };
        let listed = self.flows.enter(protocol.number(), [client, destination], carried);
        Ok((circuit, protection, listed))
    }

    async fn dial(
        &self,
        service: &InterceptedService,
        passage: Passage,
        stream: Option<&TcpStream>,
    ) -> Result<(Circuit, Protected), DialError> {
        let app_data = service.dial.app_data(&passage);
        let instance = service.dial.instance(&passage);
        // An end that is gone has nothing to wait for.
        drop(self.settled.clone().wait_for(|settled| *settled).await);
        let binding =
            Binding { service: service.id.as_str(), instance: &instance, app_data: &app_data };
        let request = |offer: &Offer| DialRequest {
            service: service.id.clone(),
            identity: self.identity.clone(),
            instance: instance.clone(),
            caller: passage.caller.clone(),
            key_share: offer.key_share(),
            app_data: app_data.clone(),
            session: Bytes::new(),
            sticky: None,
        };
        // Data with a dial is the beginning of a stream: datagrams have none.
        let stream = stream.filter(|_| service.early_data);
        let mut offer = self.offer(service, binding, (self.own(), stream)).await?;
        let mut dialed = self.router.dial(request(&offer)).await;
        if offer.resumed_peer().is_some() && misses_line(&dialed) {
            let anew = self.router.credentials().map(Own::from);
            let anew = self.offer(service, binding, (anew, stream)).await?;
            dialed = self.router.dial(request(&anew)).await;
            let resumed = std::mem::replace(&mut offer, anew);
            // The host may have refused for another reason.
            if dialed.is_ok() {
                resumed.missed();
            }
        }
        let circuit = dialed.inspect_err(|DialRefusal { cause, detail }| {
            let cause = cause.as_str();
            self.metrics.circuit_refused(End::Dialer, cause);
            info!(service = %service.name, cause, detail, "dial refused");
        })?;
        let protection =
            offer.complete(&circuit.peer).and_then(|protected| self.known(service, protected));
        let mut protection = protection.inspect_err(|error| {
            self.metrics.circuit_refused(End::Dialer, FailureCause::Encryption.as_str());
            warn!(service = %service.name, %error, "circuit refused");
        })?;
        if let Some(left) = protection.left.take().filter(|_| stream.is_some()) {
            self.early.put((service.id.clone(), instance), left, Instant::now());
        }
        Ok((circuit, protection))
    }

    /// What to offer a host, with what the client of a `stream` says first if a host that it may be for has left what that
    /// takes.
    async fn offer(
        &self,
        service: &InterceptedService,
        binding: Binding<'_>,
        (own, stream): (Option<Own>, Option<&TcpStream>),
    ) -> Result<Offer, ProtectionError> {
        let mut offer = Offer::new(service.encryption, own, binding)?;
        let Some(stream) = stream else { return Ok(offer) };
        let resumed = offer.resumed_peer().map(|peer| self.may_host(service, peer));
        let secret = match resumed {
            Some(_) => None,
            None => self.take_secret(service, binding.instance),
        };
        if resumed.unwrap_or_else(|| secret.is_some()) {
            offer.carry_first(secret, &said_first(stream).await, binding.app_data)?;
        }
        Ok(offer)
    }

    fn take_secret(&self, service: &InterceptedService, instance: &str) -> Option<EarlySecret> {
        let key = (service.id.clone(), instance.to_owned());
        let secret = self.early.take(&key, Instant::now());
        secret.filter(|secret| self.may_host(service, secret.peer()))
    }

    fn own(&self) -> Option<Own> {
        self.router.credentials().map(|credentials| Own::keeping(credentials, &self.lines))
    }

    /// A host that has proven an identity must be one that may host the service.
    fn known(
        &self,
        service: &InterceptedService,
        protected: Protected,
    ) -> Result<Protected, ProtectionError> {
        let Some(peer) = &protected.peer else { return Ok(protected) };
        if self.may_host(service, peer) {
            return Ok(protected);
        }
        let expected = format!("expected one that may host service {}", service.name);
        Err(ProtectionError::Peer { found: peer.clone(), expected })
    }

    fn may_host(&self, service: &InterceptedService, peer: &str) -> bool {
        let replica = self.router.replica();
        let authorizations = &replica.borrow().authorizations;
        authorizations.allows(&IdentityId::new(peer), Permission::Bind, &service.id)
    }

    /// The name under which the host sees this gateway.
    fn caller(&self) -> String {
        let replica = self.router.replica();
        let replica = replica.borrow();
        replica.identities.get(&self.identity).map_or_else(String::new, |own| own.name.clone())
    }
}

/// Whether the host that was reached may have no part in the earlier handshake that the dial rests on: it is another one
/// than that, or was started again.
fn misses_line(dialed: &Result<Circuit, DialRefusal>) -> bool {
    match dialed {
        // OpenZiti's hosts take circuits whose dialer sends no key.
        Ok(circuit) => circuit.peer.handshake.is_empty(),
        // OpenZiti's hosts name no causes.
        Err(DialRefusal { cause, .. }) => {
            matches!(cause, FailureCause::Encryption | FailureCause::HostRefused)
        }
    }
}
