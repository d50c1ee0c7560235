//! The tunneler as a whole.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use nightgate_config::FlowRecords;
use nightgate_datapath::DatapathError;
use nightgate_export::{CaptureError, HttpError, Outputs, host_name};
use nightgate_gateway::{
    admin::{AdminServer, AdminSocketError, Query, Topic},
    exporter::ExporterError,
    hosting::InstanceSecret,
    mirror::MirrorError,
};
use nightgate_netlink::NetlinkError;
use nightgate_sdk::{AuthenticateError, Context, Identity};
use nightgate_telemetry::{Metrics, MetricsError};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tracing::{info, warn};

use crate::{
    answers::{asks, shown, tell},
    attach::{Attach, Attached, Place, attach},
    copying::Copying,
    flows::Flows,
    follower::Follower,
    hooks::Hooks,
    host::HostConfig,
    hosting::OwnHosting,
    mirror::{self, Mirroring},
    policy::Policy,
    records::Records,
    second_factor::take_codes,
    shared::Shared,
    sockets::Sockets,
    status::StatusReport,
    table::{Table, TableProblem},
    tcp,
    udp::{self, Entrance},
};

/// What a tunneler needs to start.
#[derive(Debug)]
pub struct TunnelConfig {
    /// Who dials and hosts.
    pub identity: Identity,
    /// What the hooks are attached to.
    pub attach: Attach,
    /// Folders of the cgroups whose programs use it; without any, the whole host.
    pub cgroups: Vec<PathBuf>,
    /// Folder of a BPF file system where the hooks stay if this process is killed, and refuse what they would
    /// intercept; without it, they go with the process, and nothing is intercepted any more.
    pub fail_closed: Option<PathBuf>,
    /// Whether DNS queries over UDP and TCP are answered for the names of services.
    pub dns: bool,
    /// Which programs may use which services.
    pub policy: Policy,
    /// What is told of flows that have ended, and where to; `None` for nothing.
    pub records: Option<FlowRecords>,
    /// Where operators look in.
    pub admin_socket: PathBuf,
    /// How it hosts, what is copied for sensors, and where its metrics are scraped.
    pub hosting: HostConfig,
}

/// A tunneler that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// Operators could not reach it.
    #[error(transparent)]
    Admin(#[from] AdminSocketError),
    /// Its sockets cannot be opened.
    #[error("open sockets at 127.0.0.1: {0}")]
    Sockets(#[source] io::Error),
    /// The hooks cannot be attached.
    #[error(transparent)]
    Hooks(#[from] DatapathError),
    /// The metrics clash.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The metrics cannot be served.
    #[error(transparent)]
    Exporter(#[from] ExporterError),
    /// A collector of flow records cannot be used as configured.
    #[error(transparent)]
    Collector(#[from] HttpError),
    /// Capture files cannot be written.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// There are no cgroups of version 2.
    #[error(
        "find the cgroup v2 file system: {0}; mount one: mount -t cgroup2 none /sys/fs/cgroup, or use --attach tc"
    )]
    NoCgroups(#[source] io::Error),
    /// Hooks on interfaces do not know programs.
    #[error(
        "--attach tc does not know which program sends a packet: --cgroup and --policy need --attach cgroup"
    )]
    Programs,
    /// What is to be copied does not fit the host.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// Another tunneler makes copies here.
    #[error(
        "--mirror: a tunneler copies in this network namespace already ({first}), and one can at a time; stop it, start one of the two \
         without --mirror, or in a network namespace of its own"
    )]
    Copying {
        /// The other one.
        first: String,
    },
    /// Packets cannot be routed to the tunneler.
    #[error(transparent)]
    Routing(#[from] NetlinkError),
    /// The identity cannot join the overlay.
    #[error("join the overlay")]
    Join(#[from] AuthenticateError),
}

/// Time between two promises to the hooks that the tunneler lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time between two looks at the services that may be dialed.
pub(crate) const REFRESH: Duration = Duration::from_secs(5);

/// Runs a tunneler until `stop` completes. The hooks are gone when this returns.
///
/// # Errors
/// A part cannot start; nothing of it stays behind.
pub async fn run(config: TunnelConfig, stop: impl Future<Output = ()>) -> Result<(), TunnelError> {
    let mut admin = AdminServer::start(&config.admin_socket)?;
    let context = Context::load(&config.identity).await?;
    let metrics = Metrics::new()?;
    let exporter = config.hosting.export(&metrics, Some(&config.admin_socket)).await?;
    let copying = Copying::new(mirror::plan(config.hosting.mirror.as_ref()).await?);
    let follower = config.hosting.follower(&copying)?;
    let records = records(&config, (&context, &copying), &metrics)?;
    let flows = Flows::new(records, metrics.clone());
    let _capture = config.hosting.capture(&flows, context.identity_name())?;
    let Attached { tunnel, sockets, mut place } = attach(&config).await?;
    let hooks = Hooks::new(tunnel);
    let mirrored = config.hosting.mirror(&copying, &hooks, &sockets.tcp).await;
    let mut mirroring = match mirrored {
        Ok(started) => started,
        Err(error) => {
            drop(hooks);
            place.close().await;
            return Err(error);
        }
    };
    let shared = Arc::new(Shared {
        context,
        hooks,
        at_interfaces: matches!(place, Place::Interfaces(_)),
        controller: config.identity.controller_address().ok(),
        table: Mutex::new(Table::new()),
        policy: config.policy,
        flows,
        copying,
        metrics,
    });
    let mut tasks = JoinSet::new();
    let spawned = spawn_all(&mut tasks, sockets, &shared).map_err(TunnelError::Sockets);
    if spawned.is_ok() {
        tasks.spawn(refresh(Arc::clone(&shared), config.hosting.secret, follower));
        let file = config.identity.path().map(Path::to_owned);
        tasks.spawn(take_codes(shared.context.clone(), file));
        let identity = shared.context.identity_name();
        match &place {
            Place::Cgroups(cgroups) => info!(%identity, ?cgroups, "tunneler runs"),
            Place::Interfaces(at) => info!(%identity, interfaces = ?at.names, "tunneler runs"),
        }
        work(&shared, (&mut place, &mut mirroring), &mut admin, stop).await;
    }
    drop(exporter);
    tasks.shutdown().await;
    shared.flows.close().await;
    drop(shared);
    if let Some(mirroring) = mirroring {
        mirroring.close().await;
    }
    place.close().await;
    spawned
}

/// Answers operators and follows the interfaces and sensors until `stop` completes.
async fn work(
    shared: &Shared,
    (place, mirroring): (&mut Place, &mut Option<Mirroring>),
    admin: &mut AdminServer,
    stop: impl Future<Output = ()>,
) {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = heartbeat.tick() => {
                shared.live();
                shared.flows.tell_long();
            }
            interfaces = place.changed() => shared.cover(&interfaces),
            () = mirror::follow(mirroring) => {}
            Some(query) = admin.next() => answer(query, shared, (place, mirroring.as_ref())).await,
        }
    }
}

fn records(
    config: &TunnelConfig,
    (context, copying): (&Context, &Copying),
    metrics: &Metrics,
) -> Result<Option<Records>, TunnelError> {
    let Some(wanted) = &config.records else { return Ok(None) };
    let outputs = Outputs::start(wanted, &host_name(), metrics)?;
    let (identity, interim) = (context.identity_name(), wanted.interim);
    Ok(Some(Records { outputs, identity, copying: copying.clone(), interim }))
}

fn spawn_all(tasks: &mut JoinSet<()>, sockets: Sockets, shared: &Arc<Shared>) -> io::Result<()> {
    for listener in sockets.tcp {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tasks.spawn(tcp::accept(listener, Arc::clone(shared)));
    }
    for (slot, pair) in (0..).zip(sockets.udp) {
        for socket in pair {
            let socket = tokio::net::UdpSocket::from_std(socket)?;
            tasks.spawn(udp::carry_all(Entrance::slot(socket, slot), Arc::clone(shared)));
        }
    }
    for (receiver, sender) in sockets.transparent {
        let entrance = Entrance::transparent(receiver, sender);
        tasks.spawn(udp::carry_all(entrance, Arc::clone(shared)));
    }
    Ok(())
}

/// Keeps what is intercepted and hosted as the controller allows it.
async fn refresh(shared: Arc<Shared>, secret: InstanceSecret, mut follower: Option<Follower>) {
    let mut logged = BTreeSet::new();
    let told = (shared.metrics.clone(), shared.flows.clone());
    let rest = (secret, shared.copying.clone());
    let mut hosting = OwnHosting::new(shared.context.clone(), told, rest);
    loop {
        shared.context.second_factor_becomes_due(false).await;
        if shared.at_interfaces {
            let own = shared.own_peers().await;
            shared.table().leave_alone(own);
        }
        match shared.context.services().await {
            Ok(services) => {
                if let Some(follower) = &mut follower {
                    follower.heed(&services, &shared.hooks).await;
                }
                let (destinations, problems) = shared.table().update(&services);
                if let Some(follower) = &mut follower {
                    let (identity, mut hooks) = (shared.identity_name(), shared.hooks.lock());
                    follower.follow(&services, (&identity, &mut shared.table()), &mut hooks);
                }
                hosting.apply(&services);
                let count = destinations.len();
                if shared.intercept(destinations) {
                    info!(prefixes = count, "interception changed");
                }
                let texts: BTreeSet<_> = problems.iter().map(TableProblem::to_string).collect();
                for problem in texts.difference(&logged) {
                    warn!(problem, "a service is not intercepted as it should be");
                }
                logged = texts;
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "the controller does not say what may be dialed and hosted; what is there stays"
            ),
        }
        tokio::time::sleep(REFRESH).await;
    }
}

async fn answer(query: Query, shared: &Shared, (place, mirroring): (&Place, Option<&Mirroring>)) {
    let shown = if asks(&query, Topic::Flows) {
        Some(shown(&shared.flows.report()))
    } else if asks(&query, Topic::Tunnel) {
        Some(shown(&StatusReport::of(shared, place)))
    } else {
        None
    };
    tell(query, shown, (mirroring, &shared.metrics)).await;
}
