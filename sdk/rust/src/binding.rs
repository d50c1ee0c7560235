//! What a listener runs: a binding at each of its routers.

mod answer;

use std::{collections::HashMap, error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use nightgate_e2ee::{EarlyId, EarlySecrets, KeyPair};
use nightgate_model::{
    configs::EndToEndV1,
    entity::{Permission, Precedence},
};
use nightgate_wire::{
    channel::Message,
    edge::{content, header, precedence},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::{
    context::Context,
    controller::ServiceSession,
    dial::is_invalid_session,
    edge::{Channel, Closed, Event, Port, PortKind, Receiver},
    listen::{BindFailure, BindOptions, Caller},
    offer::Offer,
    service::Service,
    stream::Stream,
};

/// Routers at which a listener is bound that does not say at how many; OpenZiti's SDKs use as many.
const DEFAULT_ROUTERS: u16 = 3;

/// Routers that stand by for them at most, in the order of the controller's list, those included.
const MAX_CANDIDATES: usize = 16;

/// Circuits that may wait to be accepted; further dials are refused.
pub(crate) const BACKLOG: usize = 128;

/// Longest wait for a router's answer to a bind.
const BIND_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before a failed bind is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Time between two looks at the list of routers to be bound at.
const ROUTERS_INTERVAL: Duration = Duration::from_secs(60);

/// Header of a Bind: this end answers questions about its ports (OpenZiti `edge_client.proto`).
const SUPPORTS_INSPECT: i32 = 1023;

/// Where what arrives waits for the application.
pub(crate) enum Desk {
    /// Circuits, which have been accepted.
    Streams(mpsc::Sender<(Stream, Caller)>),
    /// Dials, which the application answers.
    Offers(mpsc::Sender<Offer>),
}

/// A place on a desk.
enum Place {
    Stream(mpsc::OwnedPermit<(Stream, Caller)>),
    Offer(mpsc::OwnedPermit<Offer>),
}

impl Desk {
    fn reserve(&self) -> Option<Place> {
        match self {
            Self::Streams(desk) => desk.clone().try_reserve_owned().ok().map(Place::Stream),
            Self::Offers(desk) => desk.clone().try_reserve_owned().ok().map(Place::Offer),
        }
    }
}

/// Precedence and cost that the host wants, as they are now.
type Standing = watch::Receiver<(Precedence, u16)>;

/// What every router's task of one listener shares.
struct Binding {
    context: Context,
    service: Service,
    options: BindOptions,
    standing: Standing,
    keys: Option<KeyPair>,
    /// What circuits have left for data that goes with later dials, if the service lets dials carry it.
    early: Option<EarlySecrets<EarlyId>>,
    listener_id: String,
    desk: Desk,
    outcome: mpsc::Sender<Result<(), BindFailure>>,
    /// One for each router at which the listener may be bound: those that are connected first have them, and others
    /// follow when one is lost.
    places: Semaphore,
}

/// Starts hosting and waits until one of the routers has bound the service.
///
/// Returns the task without which none arrive at the desk.
pub(crate) async fn start(
    context: Context,
    service: Service,
    (options, standing): (BindOptions, Standing),
    desk: Desk,
) -> Result<AbortOnDropHandle<()>, BindFailure> {
    let keys = service.encryption_required.then(KeyPair::generate).transpose()?;
    let session = context.inner().session(&service, Permission::Bind).await?;
    let most = usize::from(options.max_routers.unwrap_or(DEFAULT_ROUTERS)).clamp(1, MAX_CANDIDATES);
    let (outcome, mut outcomes) = mpsc::channel(most);
    let early = EndToEndV1::allows_early_data(&service.config).then(EarlySecrets::default);
    let binding = Binding {
        early,
        context,
        service,
        options,
        standing,
        keys,
        listener_id: Uuid::new_v4().simple().to_string(),
        desk,
        outcome,
        places: Semaphore::new(most),
    };
    let routers = session.routers.len();
    let task = AbortOnDropHandle::new(tokio::spawn(bind_at_routers(Arc::new(binding), session)));
    first_success(&mut outcomes, routers, most).await?;
    Ok(task)
}

/// Waits until one of the routers has bound the service.
async fn first_success(
    outcomes: &mut mpsc::Receiver<Result<(), BindFailure>>,
    routers: usize,
    most: usize,
) -> Result<(), BindFailure> {
    let deadline = Instant::now() + BIND_TIMEOUT;
    let mut last = BindFailure::NoRouter { routers };
    for _ in 0..routers.min(most) {
        match timeout_at(deadline, outcomes.recv()).await {
            Ok(Some(Ok(()))) => return Ok(()),
            Ok(Some(Err(failure))) => last = failure,
            Ok(None) | Err(_) => break,
        }
    }
    Err(last)
}

/// Keeps one task for each router the service is to be bound at.
async fn bind_at_routers(binding: Arc<Binding>, first: ServiceSession) {
    let mut tasks = HashMap::new();
    let mut session = Ok(first);
    loop {
        match session {
            Ok(session) => {
                binding.context.inner().pool.add(&session.routers);
                let addresses: Vec<_> = session
                    .routers
                    .iter()
                    .filter_map(|router| router.address().map(str::to_owned))
                    .take(MAX_CANDIDATES)
                    .collect();
                tasks.retain(|address, _| addresses.contains(address));
                for address in addresses {
                    tasks.entry(address.clone()).or_insert_with(|| {
                        let task = bind_at_router(Arc::clone(&binding), address);
                        AbortOnDropHandle::new(tokio::spawn(task))
                    });
                }
            }
            Err(error) => tracing::warn!(
                service = binding.service.name,
                error = &error as &dyn Error,
                "no session to host the service"
            ),
        }
        sleep(if tasks.is_empty() { RETRY_PAUSE } else { ROUTERS_INTERVAL }).await;
        session = binding.context.inner().fresh_session(&binding.service, Permission::Bind).await;
    }
}

/// Keeps the service bound at one router, while there is a place for it.
async fn bind_at_router(binding: Arc<Binding>, address: String) {
    loop {
        if let Some(channel) = binding.context.inner().pool.connected(&address).await
            && let Ok(_place) = binding.places.acquire().await
            // Not lost while it stood by.
            && channel.is_open()
        {
            match binding.bind(&channel).await {
                Ok(bound) => {
                    tracing::info!(service = binding.service.name, address, "service bound");
                    // Only the first outcomes are waited for.
                    drop(binding.outcome.try_send(Ok(())));
                    Arc::clone(&binding).serve(bound).await;
                }
                Err(failure) => {
                    tracing::warn!(
                        service = binding.service.name,
                        address,
                        error = &failure as &dyn Error,
                        "service not bound"
                    );
                    drop(binding.outcome.try_send(Err(failure)));
                }
            }
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// What a router has bound.
struct Bound {
    port: Port,
    events: Receiver<Event>,
    /// Remembers what the router knows.
    standing: Standing,
}

impl Binding {
    async fn bind(&self, channel: &Channel) -> Result<Bound, BindFailure> {
        let router = || channel.router().to_owned();
        let lost = |Closed| BindFailure::ChannelLost { router: router() };
        let session = self.context.inner().session(&self.service, Permission::Bind).await?;
        let (port, events) = channel.open_port(PortKind::Binding).map_err(lost)?;
        let mut standing = self.standing.clone();
        let mut message = self.bind_message(&port, &session.token);
        put_standing(&mut message, *standing.borrow_and_update());
        let answer = timeout(BIND_TIMEOUT, port.request(message))
            .await
            .map_err(|_elapsed| BindFailure::Timeout { router: router(), waited: BIND_TIMEOUT })?
            .map_err(lost)?;
        if answer.content_type != content::STATE_CONNECTED {
            port.mark_gone();
            let reason = String::from_utf8_lossy(&answer.body).into_owned();
            if is_invalid_session(&reason) {
                self.context.inner().forget_session(&self.service, Permission::Bind);
            }
            return Err(BindFailure::Refused { router: router(), reason });
        }
        Ok(Bound { port, events, standing })
    }

    fn bind_message(&self, port: &Port, session: &str) -> Message {
        let mut message =
            port.message(content::BIND).with_body(Bytes::copy_from_slice(session.as_bytes()));
        let headers = &mut message.headers;
        headers.put_true(header::ROUTER_PROVIDED_CONN_ID);
        headers.put_true(SUPPORTS_INSPECT);
        headers.put_text(header::LISTENER_ID, &self.listener_id);
        if let Some(instance) = &self.options.instance {
            headers.put_text(header::TERMINATOR_IDENTITY, instance);
            headers.put(header::TERMINATOR_IDENTITY_SECRET, self.options.secret.clone());
        }
        if let Some(keys) = &self.keys {
            headers.put(header::PUBLIC_KEY, keys.public_key().as_bytes().to_vec());
        }
        message
    }

    /// Answers dials until the binding ends, each by itself: one may wait for the controller.
    async fn serve(self: Arc<Self>, Bound { port, mut events, mut standing }: Bound) {
        let port = Arc::new(port);
        let mut answers = JoinSet::new();
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                Ok(()) = standing.changed() => {
                    let wanted = *standing.borrow_and_update();
                    self.update(&port, wanted).await;
                    continue;
                }
            };
            match event {
                Some(Event::Dial(dial)) => {
                    while answers.try_join_next().is_some() {}
                    let place = self.desk.reserve();
                    answers.spawn(Arc::clone(&self).answer(Arc::clone(&port), dial, place));
                }
                Some(Event::Closed { reason }) => {
                    let router = port.router();
                    tracing::warn!(service = self.service.name, router, reason, "binding ended");
                    if is_invalid_session(&reason) {
                        self.context.inner().forget_session(&self.service, Permission::Bind);
                    }
                    return;
                }
                Some(Event::Data { .. }) => tracing::debug!("data for a binding ignored"),
                None => return,
            }
        }
    }

    /// Tells the router what dialers are to choose this host by. One that cannot be told hears it when the host binds
    /// anew.
    async fn update(&self, port: &Port, standing: (Precedence, u16)) {
        match self.context.inner().session(&self.service, Permission::Bind).await {
            Ok(session) => {
                let body = Bytes::copy_from_slice(session.token.as_bytes());
                let mut message = port.message(content::UPDATE_BIND).with_body(body);
                put_standing(&mut message, standing);
                // A lost channel ends the binding.
                let _unneeded = port.send(message).await;
            }
            Err(error) => tracing::warn!(
                service = self.service.name,
                error = &error as &dyn Error,
                "no session to change how the service is hosted"
            ),
        }
    }
}

fn put_standing(message: &mut Message, (precedence, cost): (Precedence, u16)) {
    let precedence = match precedence {
        Precedence::Required => precedence::REQUIRED,
        Precedence::Default => precedence::DEFAULT,
        Precedence::Failed => precedence::FAILED,
    };
    message.headers.put(header::PRECEDENCE, vec![precedence]);
    message.headers.put(header::COST, cost.to_le_bytes().to_vec());
}
