//! What Prometheus learns of the controller: `GET /metrics` on an address or a socket of its own, without TLS.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::Next,
    response::{IntoResponse as _, Response},
    routing::get,
    serve::Listener,
};
use nightgate_model::kind::EntityKind;
use nightgate_telemetry::{
    MetricsError, SCRAPER_RIGHTS, Scrape,
    metrics::{
        API_REQUESTS, CIRCUITS_REPORTED, DIALS_REPORTED, ENTITIES, EVENT_MEMORY, EVENTS,
        LINKS_REPORTED, MODEL_INDEX, PUBLISHED_INDEX, ROUTERS_CONNECTED, SESSIONS, TERMINATORS,
    },
    open_socket,
};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{Core, Memory},
    events::{router_name, service_name},
};

/// Media type of Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// REST interfaces, and the classes of status codes from 100 on.
const INTERFACES: [&str; 2] = ["client", "management"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Requests by interface and class of status.
#[derive(Debug, Default)]
pub(crate) struct Requests([[AtomicU64; CLASSES.len()]; INTERFACES.len()]);

/// Counts a request.
pub(crate) async fn count(State(core): State<Arc<Core>>, request: Request, next: Next) -> Response {
    let interface = usize::from(request.uri().path().starts_with("/edge/management/"));
    let response = next.run(request).await;
    let class = usize::from(response.status().as_u16() / 100).clamp(1, CLASSES.len()) - 1;
    core.requests.0[interface][class].fetch_add(1, Ordering::Relaxed);
    response
}

/// Opens an address; what it returns serves the metrics there until cancelled.
pub(crate) async fn serve_address(
    address: SocketAddr,
    core: Arc<Core>,
    stop: CancellationToken,
) -> io::Result<impl Future<Output = ()>> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "metrics are served");
    Ok(serve(listener, core, stop))
}

/// As [`serve_address`], at a socket. The file stays behind, and is replaced by the next start.
pub(crate) fn serve_socket(
    path: &Path,
    core: Arc<Core>,
    stop: CancellationToken,
) -> io::Result<impl Future<Output = ()> + use<>> {
    let listener = UnixListener::from_std(open_socket(path, SCRAPER_RIGHTS)?)?;
    tracing::info!(socket = %path.display(), "metrics are served");
    Ok(serve(listener, core, stop))
}

async fn serve<L: Listener>(listener: L, core: Arc<Core>, stop: CancellationToken)
where
    L::Addr: Debug,
{
    let router = Router::new().route("/metrics", get(answer)).with_state(core);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "metrics are served no longer");
    }
}

async fn answer(State(core): State<Arc<Core>>) -> Response {
    match scrape(&core) {
        Ok(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn scrape(core: &Core) -> Result<String, MetricsError> {
    let mut scrape = Scrape::default();
    for (interface, counts) in INTERFACES.iter().zip(&core.requests.0) {
        for (class, count) in CLASSES.iter().zip(counts) {
            scrape.count(API_REQUESTS, &[interface, class], count.load(Ordering::Relaxed))?;
        }
    }
    let (number, kept, limit) = core.events.usage();
    scrape.count(EVENTS, &[], number)?;
    scrape.gauge(EVENT_MEMORY, &["kept"], kept as u64)?;
    scrape.gauge(EVENT_MEMORY, &["limit"], limit as u64)?;
    scrape.gauge(PUBLISHED_INDEX, &[], core.subscribe().borrow().index)?;
    core.read(|memory| {
        add_model(&mut scrape, memory)?;
        add_routers(&mut scrape, memory)
    })?;
    scrape.render()
}

fn add_model(scrape: &mut Scrape, memory: &Memory) -> Result<(), MetricsError> {
    let model = &memory.model;
    for kind in EntityKind::ALL {
        let count = match kind {
            EntityKind::Identity => model.identities.len(),
            EntityKind::EdgeRouter => model.routers.len(),
            EntityKind::AuthPolicy => model.auth_policies.len(),
            EntityKind::Ca => model.cas.len(),
            EntityKind::ConfigType => model.config_types.len(),
            EntityKind::Config => model.configs.len(),
            EntityKind::Service => model.services.len(),
            EntityKind::ServicePolicy => model.policies.len(),
            EntityKind::EdgeRouterPolicy => model.router_policies.len(),
            EntityKind::ServiceEdgeRouterPolicy => model.service_router_policies.len(),
        };
        scrape.gauge(ENTITIES, &[kind.path()], count as u64)?;
    }
    let services: usize = memory.api_sessions.values().map(|live| live.services.len()).sum();
    scrape.gauge(SESSIONS, &["api"], memory.api_sessions.len() as u64)?;
    scrape.gauge(SESSIONS, &["service"], services as u64)?;
    scrape.gauge(MODEL_INDEX, &[], memory.index)
}

fn add_routers(scrape: &mut Scrape, memory: &Memory) -> Result<(), MetricsError> {
    let live = &memory.live;
    let connected: Vec<_> =
        memory.model.routers.keys().filter(|router| live.is_connected(router)).collect();
    scrape.gauge(ROUTERS_CONNECTED, &[], connected.len() as u64)?;
    scrape.gauge(LINKS_REPORTED, &[], live.report().links.len() as u64)?;
    scrape.gauge(TERMINATORS, &[], live.terminators().count() as u64)?;
    for router in connected {
        let circuits = live.activity(router).map_or(0, |activity| activity.circuit_count);
        scrape.gauge(CIRCUITS_REPORTED, &[&router_name(&memory.model, router)], circuits)?;
    }
    let mut dials: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for outcomes in live.activities().flat_map(|activity| &activity.dials) {
        // Words and services of a router's making are no labels.
        let known = match outcomes.cause.as_deref() {
            None => Some("opened"),
            Some(word) => nightgate_wire::FailureCause::from_word(word).map(|it| it.as_str()),
        };
        if let Some(outcome) =
            known.filter(|_| memory.model.services.contains_key(&outcomes.service))
        {
            let service = service_name(&memory.model, &outcomes.service);
            *dials.entry((service, outcome)).or_default() += outcomes.count;
        }
    }
    for ((service, outcome), count) in dials {
        scrape.gauge(DIALS_REPORTED, &[&service, outcome], count)?;
    }
    Ok(())
}
