//! The handle of a running router.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use nightgate_fabric::{Dial, DialRefusal, FailureCause, KeyShare};
use nightgate_identity::{Credentials, Identity, IdentityError, OldestTls, TlsSetupError};
use nightgate_model::{
    control::RouterMessage,
    entity::{Precedence, Terminator},
    id::{IdentityId, RouterId, ServiceId, TerminatorId},
    quarantine::QuarantineRequest,
    replica::Replica,
};
use nightgate_wire::link::CircuitId;
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Binding, Circuit, Lanes, LinkConfig, Offline,
    activity::{DialCounts, watch_activity},
    actor::{Actor, Event},
    contact::{Contact, keep_model},
    control,
    health::HealthEvents,
    instance::{self, InstanceTaken},
    link, listener,
    mailbox::Mailbox,
    notes::Notes,
    own::Own,
    proof::Proofs,
    quarantines::Quarantines,
    renewal::{Renewal, keep_certificate},
    report::Report,
    status::RouterStatus,
    terminators::TerminatorIds,
    traffic,
    usage::Meter,
};

/// What a router needs to start.
#[derive(Debug)]
pub struct RouterConfig {
    /// The identity it enrolled.
    pub identity: Identity,
    /// Where to accept clients and links; none for a router that only dials out.
    pub listen: Option<SocketAddr>,
    /// `host:port` under which clients and routers reach the listener.
    pub advertise: Option<String>,
    /// Whether OpenZiti clients of 2022 are accepted too, with TLS 1.2.
    pub legacy_clients: bool,
    /// Which links it makes.
    pub links: LinkConfig,
    /// What it may do while it does not hear the controller.
    pub offline: Offline,
}

/// A router that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The identity file does not do.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The certificate names no router.
    #[error("the identity's certificate names no router; enroll with `nightgate router enroll`")]
    NotARouter,
    /// The listening address cannot be used.
    #[error("listen on {address}; is another process using it?")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// A running router. Clones are handles of the same router.
#[derive(Clone, Debug)]
pub struct Router {
    id: RouterId,
    pub(crate) events: Mailbox,
    pub(crate) replica: watch::Receiver<Arc<Replica>>,
    wishes: mpsc::UnboundedSender<RouterMessage>,
    listening: Option<SocketAddr>,
    pub(crate) renewal: Renewal,
    pub(crate) dials: DialCounts,
    pub(crate) health: HealthEvents,
    pub(crate) notes: Notes,
    pub(crate) meter: Meter,
    quarantines: Quarantines,
    pub(crate) contact: watch::Receiver<Contact>,
    pub(crate) links: Arc<LinkConfig>,
    pub(crate) accepted: link::Accepted,
    lanes: Lanes,
    terminators: TerminatorIds,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A wish for a circuit.
#[derive(Clone, Debug)]
pub struct DialRequest {
    /// To what.
    pub service: ServiceId,
    /// By whom.
    pub identity: IdentityId,
    /// Instance among the service's terminators; empty for those that were bound without one.
    pub instance: String,
    /// What the dialer calls itself towards the host.
    pub caller: String,
    /// The dialer's part of the agreement on keys.
    pub key_share: KeyShare,
    /// Opaque data for the host.
    pub app_data: Bytes,
    /// The service session token that proves the identity to other routers; empty for this router's own.
    pub session: Bytes,
    /// The terminator that the dialer had before ([`Circuit::sticky`]), to be taken again if it is there and the service
    /// sticky.
    pub sticky: Option<TerminatorId>,
}

/// A wish to host.
#[derive(Clone, Debug)]
pub struct BindRequest {
    /// What.
    pub service: ServiceId,
    /// By whom.
    pub identity: IdentityId,
    /// Instance name, by which dialers tell this terminator from others; empty for none.
    pub instance: String,
    /// The [`seal`](nightgate_model::terminator::seal) of its secret; empty for none.
    pub secret: String,
    /// Among the service's terminators, in which order it is taken.
    pub precedence: Precedence,
    /// Cost, 0 to 65535; dialers prefer the lower.
    pub cost: u16,
}

impl Router {
    /// Starts a router in the current tokio runtime. Links and clients are on its lanes.
    ///
    /// It returns at once: the controller may be away, and the router goes on trying.
    ///
    /// # Errors
    /// The identity is not a router's, or the listening address cannot be used.
    pub async fn start(config: RouterConfig, lanes: Lanes) -> Result<Self, StartError> {
        let id = router_id(&config.identity)?;
        let events = Mailbox::new();
        let saved = config.offline.saved(&id);
        let contact = Contact {
            is_there: false,
            heard: saved.as_ref().map_or(SystemTime::UNIX_EPOCH, |saved| saved.heard),
        };
        let (replica_writer, replica) =
            watch::channel(saved.map(|saved| saved.replica).unwrap_or_default());
        let (contact_writer, contact) = watch::channel(contact);
        let (report_writer, report) = watch::channel(Report::default());
        let (wishes, wished) = mpsc::unbounded_channel();
        let listener = match config.listen {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|source| StartError::Listen { address, source })?,
            ),
            None => None,
        };
        let router = Self {
            id: id.clone(),
            events: events.clone(),
            replica: replica.clone(),
            wishes,
            listening: listener.as_ref().and_then(|listener| listener.local_addr().ok()),
            renewal: Renewal::new(Own::new(config.identity.clone())?),
            dials: DialCounts::default(),
            health: HealthEvents::default(),
            notes: Notes::default(),
            meter: Meter::default(),
            quarantines: Quarantines::default(),
            contact: contact.clone(),
            links: Arc::new(config.links.clone()),
            accepted: link::Accepted::default(),
            lanes,
            terminators: TerminatorIds::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let proofs = Proofs::new(router.own(), replica.clone());
        let around = (proofs, router.notes.clone(), router.meter.clone());
        let cost = router.links.cost;
        let actor = Actor::new(id.clone(), events.clone(), report_writer, around, cost);
        router.spawn_on(router.lanes.first(), events.run(actor));
        let until = config.offline.valid_until(contact.borrow().heard);
        router.tell(Event::Replica(Arc::clone(&replica.borrow())));
        router.tell(Event::Validity(Some(until)));
        let keep = keep_model(id.clone(), config.offline.clone(), replica, contact);
        router.spawn(keep);
        let (activity_writer, activity) = watch::channel(Arc::default());
        router.spawn(watch_activity(router.clone(), activity_writer));
        let (notes, meter) = (router.notes.clone(), router.meter.clone());
        let quarantines = router.quarantines.clone();
        let told = control::Told { report, activity, wished, notes, meter, quarantines };
        let channel = (id, router.events.clone(), router.renewal.clone());
        let control = control::Channel::new(&config, channel, told)?;
        router.spawn(control.run(replica_writer, contact_writer));
        router.spawn(keep_certificate(router.clone()));
        router.spawn(link::Dialer::new(router.clone()).run());
        if let Some(listener) = listener {
            let oldest = if config.legacy_clients { OldestTls::Tls12 } else { OldestTls::Tls13 };
            let clients = listener::Listener::new(oldest, router.clone())?;
            router.spawn(clients.run(listener));
        }
        Ok(router)
    }

    /// This router's id, which is also the id of the identity under which a gateway dials and hosts.
    pub fn id(&self) -> &RouterId {
        &self.id
    }

    /// The address it accepts clients and links at, with the port the system chose for port 0.
    pub fn listening(&self) -> Option<SocketAddr> {
        self.listening
    }

    /// What this router proves its identity with to the other end of a circuit; none if its certificate
    /// is of another authority than it trusts.
    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        self.renewal.own.borrow().credentials.clone()
    }

    /// The model as the controller last sent it; empty before.
    pub fn replica(&self) -> watch::Receiver<Arc<Replica>> {
        self.replica.clone()
    }

    /// Ends a circuit that has an end at this router.
    pub fn cut(&self, circuit: CircuitId) {
        self.tell(Event::Cut(circuit));
    }

    /// Allows an identity nothing at this router any more, until [`Self::unbar`], or until the controller sends a
    /// model that does not know it.
    pub fn bar(&self, identity: IdentityId) {
        self.tell(Event::Bar(identity));
    }

    /// Leaves it to the model what an identity may do.
    pub fn unbar(&self, identity: IdentityId) {
        self.tell(Event::Unbar(identity));
    }

    /// Asks the controller to put an identity in quarantine. What it decides comes with the model; while it is away
    /// the wish waits, and may be lost with a connection that breaks. Gives the index of the model in which it is done, as
    /// soon as the controller has said so.
    pub fn ask_for_quarantine(&self, request: QuarantineRequest) -> oneshot::Receiver<u64> {
        let answer = self.quarantines.asked(request.identity.clone());
        self.wish(RouterMessage::Quarantine(request));
        answer
    }

    pub(crate) fn wish(&self, wish: RouterMessage) {
        // A stopped router has nobody to ask.
        drop(self.wishes.send(wish));
    }

    /// What it proves itself with, as it is renewed.
    pub(crate) fn own(&self) -> watch::Receiver<Arc<Own>> {
        self.renewal.own.subscribe()
    }

    /// Where circuits are best carried.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Makes a circuit to a service, for a client on the lane of this thread.
    ///
    /// # Errors
    /// A policy does not allow it, nobody hosts the service or can be reached, or the host refused.
    pub async fn dial(&self, request: DialRequest) -> Result<Circuit, DialRefusal> {
        let dial = Dial {
            service: request.service,
            dialer: request.identity,
            instance: request.instance,
            caller: request.caller,
            key_share: request.key_share,
            app_data: request.app_data,
            session: request.session,
        };
        let (service, dialer) = (dial.service.clone(), dial.dialer.clone());
        let started = Instant::now();
        let (reply, answer) = oneshot::channel();
        self.tell(Event::Dial { dial, sticky: request.sticky, lane: traffic::here(), reply });
        let outcome = answer.await.unwrap_or_else(|_stopped| {
            let detail = "this router is stopping";
            Err(DialRefusal::new(FailureCause::NoRoute, detail))
        });
        let failed = outcome.as_ref().err().map(|refusal| refusal.cause);
        let took = started.elapsed();
        self.dials.count(service.clone(), failed, took);
        if let Some(cause) = failed {
            self.notes.dial_failed((service, dialer), cause, took);
        }
        outcome
    }

    /// Hosts a service behind this router until the binding is dropped.
    ///
    /// The model decides: while it does not let the identity host the service, dials are refused, and
    /// the binding ends ([`Binding::accept`] gives `None`) when it lets it no longer.
    ///
    /// # Errors
    /// Somebody else hosts the service under this instance name.
    pub fn bind(&self, request: BindRequest) -> Result<Binding, InstanceTaken> {
        let known = Arc::clone(&self.replica.borrow().terminators);
        instance::check(&request, &known)?;
        // A controller that is there tells the others of new ones, and the host when it has.
        let known = if self.contact.borrow().is_there { &[] } else { &known[..] };
        let taken = self.terminators.take(&request, &self.id, known);
        let terminator = Terminator {
            id: taken.id.clone(),
            service: request.service,
            router: self.id.clone(),
            host: request.identity,
            instance: request.instance,
            secret: request.secret,
            precedence: request.precedence,
            cost: request.cost,
        };
        let (offers, incoming) = mpsc::unbounded_channel();
        let binding = Binding::new((terminator.clone(), taken), incoming, self.events.clone());
        self.tell(Event::Bind { terminator, offers });
        Ok(binding)
    }

    /// What the router does right now.
    pub async fn status(&self) -> RouterStatus {
        let (reply, answer) = oneshot::channel();
        self.tell(Event::Status(reply));
        let replica_index = self.replica.borrow().index;
        let status = answer.await.unwrap_or_default();
        RouterStatus {
            id: self.id.clone(),
            replica_index,
            links: status.links,
            circuits: status.circuits,
            terminators: status.terminators,
            memory: status.memory,
        }
    }

    /// Stops all tasks and waits for their end; circuits and links are closed.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(crate) fn tell(&self, event: Event) {
        self.events.tell(event);
    }

    /// Runs a task until it ends or the router stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(&Handle::current(), task);
    }

    /// As [`Self::spawn`], in another runtime.
    pub(crate) fn spawn_on(
        &self,
        runtime: &Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        let stopping = async move {
            // Stopping comes first: a task must not take the end of others for an end in good order.
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = task => {}
            }
        };
        self.tasks.spawn_on(stopping, runtime);
    }
}

/// The router's id is the common name of its certificate.
fn router_id(identity: &Identity) -> Result<RouterId, StartError> {
    identity.common_name()?.map(RouterId::new).ok_or(StartError::NotARouter)
}
