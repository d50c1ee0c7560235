//! An identity's presence in the overlay.

mod upkeep;

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nightgate_e2ee::EarlySecrets;
use nightgate_identity::{Credentials, Identity};
use nightgate_model::{configs::EndToEndV1, entity::Permission, id::ServiceId};
use tokio::io::AsyncWriteExt as _;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    controller::{AuthenticateError, Controller, RenewError, ServiceSession},
    dial::{self, DialError, DialFailure, DialOptions, Dialer},
    edge::Pool,
    listen::{BindError, BindFailure, BindOptions, Listener, Offers},
    peers::Peers,
    rest::ControllerError,
    service::{Known, Service},
    stream::Stream,
};

/// A service session is not used any more when this little of its life is left.
const SESSION_RESERVE: Duration = Duration::from_secs(10);

/// An authenticated identity, connected to its edge routers. Clones share everything.
///
/// The API session is renewed and lost channels are opened again for as long as a clone or a
/// [`Listener`] is alive. A [`Stream`] lives on without its context until its channel is lost.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
    _upkeep: Arc<AbortOnDropHandle<()>>,
}

pub(crate) struct Inner {
    pub(crate) controller: Arc<Controller>,
    pub(crate) pool: Pool,
    // Held while the certificate is renewed.
    kept: tokio::sync::Mutex<Kept>,
    /// What proves this identity to the other end of a circuit.
    credentials: Mutex<Option<Arc<Credentials>>>,
    pub(crate) peers: Peers,
    /// What circuits have left for data that goes with later dials, by service and instance.
    early: EarlySecrets<(ServiceId, Option<String>)>,
    services: Mutex<HashMap<String, Known<Service>>>,
    sessions: Mutex<HashMap<(ServiceId, Permission), Known<ServiceSession>>>,
}

/// The identity as its file holds it.
struct Kept {
    identity: Identity,
    /// The controller knows that its certificate has arrived.
    in_use: bool,
}

impl Context {
    /// Authenticates with the identity's certificate and starts connecting to edge routers.
    ///
    /// An identity that has a second factor can do nothing until a code is shown: see
    /// [`is_second_factor_due`](Self::is_second_factor_due).
    ///
    /// # Errors
    /// The identity is unusable, or the controller did not answer or refused it.
    pub async fn load(identity: &Identity) -> Result<Self, AuthenticateError> {
        let edge = identity.client_config(&[nightgate_wire::edge::ALPN])?;
        let credentials = credentials(identity);
        let native = credentials.is_some();
        let controller = Arc::new(Controller::authenticate(identity, native).await?);
        let routers =
            if controller.is_due() { Vec::new() } else { controller.edge_routers().await? };
        let pool = Pool::new(edge, Arc::clone(&controller));
        pool.add(&routers);
        let inner = Arc::new(Inner {
            controller,
            pool,
            kept: tokio::sync::Mutex::new(Kept { identity: identity.clone(), in_use: true }),
            credentials: Mutex::new(credentials),
            peers: Peers::default(),
            early: EarlySecrets::default(),
            services: Mutex::default(),
            sessions: Mutex::default(),
        });
        let upkeep = AbortOnDropHandle::new(tokio::spawn(upkeep::keep_up(Arc::clone(&inner))));
        Ok(Self { inner, _upkeep: Arc::new(upkeep) })
    }

    /// Gets a new key and a certificate that follows the present one, keeps both in the file that the identity was
    /// loaded from, and uses them from now on; the certificate before is not accepted any more. Open streams go on.
    ///
    /// The context does this by itself when two thirds of the certificate's life are over, if the identity was
    /// loaded from a file. Without a file, whoever calls this keeps the identity that is returned.
    ///
    /// # Errors
    /// See [`RenewError`].
    pub async fn renew_certificate(&self) -> Result<Identity, RenewError> {
        self.inner.renew_certificate().await
    }

    /// Name of the identity.
    pub fn identity_name(&self) -> String {
        self.inner.controller.identity().name
    }

    /// Addresses (`host:port`) of the edge routers that this context connects to.
    pub fn router_addresses(&self) -> Vec<String> {
        self.inner.pool.addresses()
    }

    /// The services the identity may dial or host, as the controller lists them now.
    ///
    /// # Errors
    /// The controller did not answer or refused.
    pub async fn services(&self) -> Result<Vec<Service>, ControllerError> {
        self.inner.list_services().await
    }

    /// Dials a service by name, with [`DialOptions::default`].
    ///
    /// # Errors
    /// See [`DialFailure`].
    pub async fn dial(&self, service: &str) -> Result<Stream, DialError> {
        self.dial_with(service, &DialOptions::default()).await
    }

    /// Dials a service by name.
    ///
    /// # Errors
    /// See [`DialFailure`].
    pub async fn dial_with(
        &self,
        service: &str,
        options: &DialOptions,
    ) -> Result<Stream, DialError> {
        self.inner
            .dial(service, options)
            .await
            .map_err(|failure| DialError { service: service.to_owned(), failure })
    }

    /// Dials, of all identities that host a service, the one of this name: it hosts with
    /// [`bind_identity`](Self::bind_identity), or under its own name by any OpenZiti SDK.
    ///
    /// # Errors
    /// See [`DialFailure`].
    pub async fn dial_identity(&self, service: &str, identity: &str) -> Result<Stream, DialError> {
        let instance = Some(identity.to_owned());
        self.dial_with(service, &DialOptions { instance, ..DialOptions::default() }).await
    }

    /// Whether [`DialOptions::early_data`] would go with such a dial, as far as is known here: an earlier circuit to a host
    /// of the service and instance has left what that takes, and the service lets dials carry data. The host may have
    /// forgotten.
    pub fn carries_early_data(&self, service: &str, instance: Option<&str>) -> bool {
        self.inner.carries_early_data(service, instance)
    }

    /// Hosts a service by name, with [`BindOptions::default`].
    ///
    /// # Errors
    /// See [`BindFailure`].
    pub async fn bind(&self, service: &str) -> Result<Listener, BindError> {
        self.bind_with(service, BindOptions::default()).await
    }

    /// Hosts a service under the identity's own name, for those who dial just this host
    /// ([`dial_identity`](Self::dial_identity)).
    ///
    /// # Errors
    /// See [`BindFailure`].
    pub async fn bind_identity(&self, service: &str) -> Result<Listener, BindError> {
        let instance = Some(self.identity_name());
        self.bind_with(service, BindOptions { instance, ..BindOptions::default() }).await
    }

    /// Hosts a service by name.
    ///
    /// # Errors
    /// See [`BindFailure`].
    pub async fn bind_with(
        &self,
        service: &str,
        options: BindOptions,
    ) -> Result<Listener, BindError> {
        let bind = async {
            let found = self.hosted(service).await?;
            Listener::bind(self.clone(), found, options).await
        };
        bind.await.map_err(|failure| BindError { service: service.to_owned(), failure })
    }

    /// Hosts a service by name, and leaves it to the application to answer each dial.
    ///
    /// # Errors
    /// See [`BindFailure`].
    pub async fn bind_offers(
        &self,
        service: &str,
        options: BindOptions,
    ) -> Result<Offers, BindError> {
        let bind = async {
            let found = self.hosted(service).await?;
            Offers::bind(self.clone(), found, options).await
        };
        bind.await.map_err(|failure| BindError { service: service.to_owned(), failure })
    }

    async fn hosted(&self, name: &str) -> Result<Service, BindFailure> {
        let service = self.inner.service(name, Permission::Bind).await?;
        service.ok_or_else(|| BindFailure::NoSuchService { identity: self.identity_name() })
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("identity", &self.identity_name()).finish_non_exhaustive()
    }
}

impl Inner {
    /// A session for the service: one that was used before, if it lives long enough and names routers.
    pub(crate) async fn session(
        &self,
        service: &Service,
        permission: Permission,
    ) -> Result<ServiceSession, ControllerError> {
        let key = (service.id.clone(), permission);
        let lives =
            |known: &Known<ServiceSession>| known.said().expires > Instant::now() + SESSION_RESERVE;
        let known = self.sessions().get(&key).cloned().filter(lives);
        let sure = known.clone().and_then(Known::sure);
        if let Some(session) = sure.filter(|session| !session.routers.is_empty()) {
            return Ok(session);
        }
        match (self.fresh_session(service, permission).await, known) {
            (Err(error), Some(known)) => known.after(error),
            (fresh, _) => fresh,
        }
    }

    /// A session with the routers that are there now.
    pub(crate) async fn fresh_session(
        &self,
        service: &Service,
        permission: Permission,
    ) -> Result<ServiceSession, ControllerError> {
        let session = self.controller.service_session(&service.id, permission).await?;
        let known = Known::new(session.clone());
        self.sessions().insert((service.id.clone(), permission), known);
        Ok(session)
    }

    async fn renew_certificate(&self) -> Result<Identity, RenewError> {
        let mut kept = self.kept.lock().await;
        // A certificate that has not been used yet is not followed by another: a crash before that one were
        // kept would leave a file that the controller does not accept.
        if kept.in_use {
            let identity = self.controller.extend_certificate(&kept.identity).await?;
            *kept = Kept { identity, in_use: false };
        }
        self.controller.use_certificate(&kept.identity).await?;
        kept.in_use = true;
        self.pool.set_tls(kept.identity.client_config(&[nightgate_wire::edge::ALPN])?);
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) =
            credentials(&kept.identity);
        Ok(kept.identity.clone())
    }

    /// Makes the next use of the service ask for a new session.
    pub(crate) fn forget_session(&self, service: &Service, permission: Permission) {
        if let Some(known) = self.sessions().get_mut(&(service.id.clone(), permission)) {
            known.doubt();
        }
    }

    async fn dial(&self, name: &str, options: &DialOptions) -> Result<Stream, DialFailure> {
        let service = self.service(name, Permission::Dial).await?.ok_or_else(|| {
            DialFailure::NoSuchService { identity: self.controller.identity().name }
        })?;
        match self.try_dial(&service, options).await {
            Err(failure) if failure.is_invalid_session() => {
                self.forget_session(&service, Permission::Dial);
                self.try_dial(&service, options).await
            }
            outcome => outcome,
        }
        .inspect_err(|_| self.forget(&service))
    }

    async fn try_dial(
        &self,
        service: &Service,
        options: &DialOptions,
    ) -> Result<Stream, DialFailure> {
        let session = self.session(service, Permission::Dial).await?;
        let channel = self
            .pool
            .best(&session.routers, options.timeout)
            .await
            .ok_or(DialFailure::NoRouter { routers: session.routers.len() })?;
        let caller = self.controller.identity().name;
        let dialed = (service.id.clone(), options.instance.clone());
        let early = EndToEndV1::allows_early_data(&service.config).then_some(&self.early);
        let secret = early.filter(|_| !options.early_data.is_empty());
        let secret = secret.and_then(|early| early.take(&dialed, Instant::now()));
        let caller = Dialer { name: &caller, credentials: self.credentials(), early: secret };
        let (mut stream, left) =
            dial::dial(&channel, &session.token, service, caller, options).await?;
        let proof = (stream.method(), stream.peer());
        self.check_peer(service, Permission::Bind, options.end_to_end, proof).await?;
        // Not before it is sure that the host may have what is sent under it.
        if let (Some(early), Some(left)) = (early, left) {
            early.put(dialed, left, Instant::now());
        }
        let rest = options.early_data.slice(stream.early_data()..);
        let written = stream.write_all(&rest).await;
        written
            .map_err(|_gone| DialFailure::ChannelLost { router: channel.router().to_owned() })?;
        Ok(stream)
    }

    fn carries_early_data(&self, name: &str, instance: Option<&str>) -> bool {
        let id = self.services().get(name).map(|known| known.said().id.clone());
        let has = |id| self.early.has(&(id, instance.map(str::to_owned)), Instant::now());
        id.is_some_and(has)
    }

    /// After a failure, what is known of the service may be out of date.
    fn forget(&self, service: &Service) {
        if let Some(known) = self.services().get_mut(&service.name) {
            known.doubt();
        }
        self.forget_session(service, Permission::Dial);
    }

    /// The service of this name, if the identity has the permission.
    async fn service(
        &self,
        name: &str,
        permission: Permission,
    ) -> Result<Option<Service>, ControllerError> {
        let may = |service: &Service| service.permissions.contains(&permission);
        let known = self.services().get(name).cloned().filter(|known| may(known.said()));
        if let Some(service) = known.clone().and_then(Known::sure) {
            return Ok(Some(service));
        }
        match (self.list_services().await, known) {
            (Ok(listed), _) => {
                Ok(listed.into_iter().find(|service| service.name == name && may(service)))
            }
            (Err(error), Some(known)) => known.after(error).map(Some),
            (Err(error), None) => Err(error),
        }
    }

    pub(crate) async fn list_services(&self) -> Result<Vec<Service>, ControllerError> {
        let listed = self.controller.services().await?;
        *self.services() =
            listed.iter().map(|one| (one.name.clone(), Known::new(one.clone()))).collect();
        Ok(listed)
    }

    /// The service of this name in the last list, if that is no older.
    pub(crate) fn listed_within(&self, age: Duration, name: &str) -> Option<Service> {
        self.services().get(name).and_then(|known| known.within(age)).cloned()
    }

    /// What proves this identity to the other end of a circuit; none if nobody would believe it.
    pub(crate) fn credentials(&self) -> Option<Arc<Credentials>> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn services(&self) -> MutexGuard<'_, HashMap<String, Known<Service>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<(ServiceId, Permission), Known<ServiceSession>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn credentials(identity: &Identity) -> Option<Arc<Credentials>> {
    match Credentials::new(identity) {
        Ok(credentials) => Some(Arc::new(credentials)),
        Err(error) => {
            let error = &error as &dyn Error;
            tracing::warn!(error, "circuits of this identity prove no identity end to end");
            None
        }
    }
}
