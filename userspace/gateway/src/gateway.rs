//! The gateway as a whole: starts its parts in order, and takes everything back at the end.

mod barred;
mod down;
mod explain;
mod learning;
mod limited;
mod live;
mod restore;
mod rules;
mod surroundings;
mod tracer;
mod verdicts;

use std::{io, num::NonZeroUsize, sync::Arc, time::Duration};

use nightgate_abi::{INTERCEPT_MARK, listener::Transport};
use nightgate_config::{Config, Tracking};
use nightgate_datapath::{DatapathError, Pins};
use nightgate_export::CaptureError;
use nightgate_netlink::{Interception, InterfaceWatch, Netlink, NetlinkError, Undo};
use nightgate_router::{Router, RouterConfig, StartError, Traffic};
use nightgate_ruleset::CompileError;
use nightgate_telemetry::{Metrics, MetricsError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    admin::{AdminServer, AdminSocketError, RuleFile},
    alerts::AlertsError,
    asked::Asked,
    capture,
    datagrams::{DatagramListener, DatagramListenerError, IdleTimes},
    dns::{DnsError, NameTable},
    exporter::{Exporter, ExporterError, Source},
    firewall::Firewall,
    flow_records::{FlowRecords, FlowRecordsError, Sources},
    hosting::{InstanceSecret, InstanceSecretError},
    intercept::InterceptTable,
    interceptor::Interceptor,
    listener::{LOOPBACKS, ListenerError, TransparentListener},
    masquerade::AddressBook,
    mirror::MirrorError,
    resolved::ResolvedError,
    resolver::ResolverError,
    state::StateFolder,
};
pub use down::{DownError, WasUp, down, what_is_up};
use live::{Live, Rulebook, clock};
pub use restore::{RestoreConfig, RestoreError, Restored, restore};
pub use rules::ChooseError;
use rules::Rules;
use surroundings::Surroundings;
use tracer::Tracer;
use verdicts::Verdicts;

/// What a gateway needs to start.
#[derive(Debug)]
pub struct GatewayConfig {
    /// Its router.
    pub router: RouterConfig,
    /// The configuration.
    pub config: Config,
    /// Where the firewall stays while no process runs.
    pub pins: Pins,
    /// The configuration file itself.
    pub file: RuleFile,
    /// Where the last good rules are kept.
    pub state: StateFolder,
}

/// A gateway that cannot start. Nothing of it stays behind on the host but the firewall, if that could start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The rules do not fit the kernel programs.
    #[error("{}", lines(.0))]
    Rules(Vec<CompileError>),
    /// The process has no privileges.
    #[error(
        "start the gateway: the process runs as an ordinary user; run it as root, it loads kernel \
         programs and changes routing"
    )]
    NotRoot,
    /// Operators could not reach it.
    #[error(transparent)]
    Admin(#[from] AdminSocketError),
    /// The kernel programs cannot do their part.
    #[error(transparent)]
    Firewall(#[from] DatapathError),
    /// The host's routing cannot be changed.
    #[error(transparent)]
    Host(#[from] NetlinkError),
    /// Intercepted connections could not be accepted.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// Intercepted datagrams could not be received.
    #[error(transparent)]
    DatagramListener(#[from] DatagramListenerError),
    /// The mirror cannot be set up.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The router cannot start.
    #[error("start the router: {0}")]
    Router(#[from] StartError),
    /// Alerts cannot be read.
    #[error(transparent)]
    Alerts(#[from] AlertsError),
    /// The host's resolver cannot be pointed at the private DNS, or given back.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// systemd-resolved cannot be told of the private DNS.
    #[error(transparent)]
    Resolved(#[from] ResolvedError),
    /// The private DNS cannot start.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// Capture files cannot be written.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Flows cannot be told of.
    #[error(transparent)]
    FlowRecords(#[from] FlowRecordsError),
    /// There is no configuration to use.
    #[error(transparent)]
    Configuration(#[from] ChooseError),
    /// The metrics cannot be served.
    #[error(transparent)]
    Exporter(#[from] ExporterError),
    /// What it shows as a host cannot be used.
    #[error(transparent)]
    InstanceSecret(#[from] InstanceSecretError),
    /// There are no threads for what it carries.
    #[error("start the threads that carry traffic: {0}")]
    Traffic(#[source] io::Error),
    /// The metrics cannot be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// What names the file of the instance secret.
const SECRET_FILE: &str = "hosting.instance_secret_file";

/// Routing table of the one route that makes intercepted destinations local; in no one else's use, as
/// its number is the product's mark ("NG").
const ROUTING_TABLE: u32 = 0x4e47;

/// How packets for the gateway's listeners find them.
pub const INTERCEPTION: Interception = Interception { mark: INTERCEPT_MARK, table: ROUTING_TABLE };

/// Runs a gateway until `stop` completes.
///
/// The kernel programs come first: while the rest starts, the interfaces carry what the rules accept and
/// nothing is intercepted. They stay when the rest stops, however it stops: the rules remain in force, and
/// intercepted connections are refused. [`down()`] takes them away.
///
/// # Errors
/// A part cannot start; what had been started is taken back, except for the firewall.
pub async fn run(
    config: GatewayConfig,
    stop: impl Future<Output = ()>,
) -> Result<(), GatewayError> {
    let gateway = config.config.gateway.as_ref().ok_or(ChooseError::NoZones)?;
    let rules = nightgate_ruleset::compile(gateway).map_err(GatewayError::Rules)?;
    if !nix::unistd::geteuid().is_root() {
        return Err(GatewayError::NotRoot);
    }
    let admin_socket = config.config.admin_socket.clone();
    let metrics = config.config.metrics.clone();
    let threads = config.config.router.threads;
    let GatewayConfig { router, config, pins, file, state } = config;
    let rules = Rules::choose(file, config, rules, state)?;
    let admin = AdminServer::start(&admin_socket)?;
    let exporter = match metrics {
        Some(metrics) => Some(Exporter::start(&metrics, &Source::Admin(admin_socket)).await?),
        None => None,
    };
    raise_file_limit();
    let netlink = Netlink::connect()?;
    let mut undo = Undo::nothing();
    let result =
        run_parts((router, pins, threads), rules, admin, (&netlink, &mut undo), stop).await;
    if let Err(error) = netlink.undo(undo).await {
        warn!(%error, "part of the host's configuration stays behind");
    }
    drop(exporter);
    result
}

async fn run_parts(
    (router, pins, threads): (RouterConfig, Pins, Option<NonZeroUsize>),
    rules: Rules,
    mut admin: AdminServer,
    (netlink, undo): (&Netlink, &mut Undo),
    stop: impl Future<Output = ()>,
) -> Result<(), GatewayError> {
    let metrics = Metrics::new()?;
    let secret_file = rules.gateway().hosting.instance_secret_file.as_deref();
    let secret = secret_file
        .map(|file| InstanceSecret::read(SECRET_FILE, file))
        .transpose()?
        .unwrap_or_default();
    // Before the interfaces are looked at, so that none is missed.
    let mut changes = InterfaceWatch::start()?;
    let mut firewall = Firewall::start(rules.gateway(), rules.compiled().clone(), pins)?;
    rules.remember();
    let addresses = AddressBook::open()?;
    addresses.apply(&mut firewall).await;
    undo.append(netlink.intercept(INTERCEPTION).await?);
    let traffic = Traffic::start(threads).map_err(GatewayError::Traffic)?;
    let listeners = Listeners::open(&mut firewall, &traffic)?;
    let idle = idle_times(&rules.gateway().tracking);

    let (table, newest_table) = watch::channel(Arc::new(InterceptTable::default()));
    let (names, newest_names) = watch::channel(Arc::new(NameTable::default()));
    let asked = Asked::default();
    let mut surroundings =
        Surroundings::new(newest_names, (metrics.clone(), asked.clone()), rules.state().clone())?;
    let prepared = surroundings.prepare(rules.gateway(), &mut firewall).await?;
    if let Err(error) = surroundings.settle(rules.gateway(), prepared, &mut firewall).await {
        surroundings.close().await;
        return Err(error);
    }
    let dns = surroundings.dns();
    let router = match Router::start(router, traffic.lanes()).await {
        Ok(router) => router,
        Err(error) => {
            surroundings.close().await;
            return Err(error.into());
        }
    };
    let verdicts = match Verdicts::start(rules.gateway(), router.clone()).await {
        Ok(verdicts) => verdicts,
        Err(error) => {
            surroundings.close().await;
            router.shutdown().await;
            return Err(error.into());
        }
    };
    let interceptor = Interceptor {
        router: router.clone(),
        identity: router.id().as_identity(),
        table: newest_table,
        metrics: metrics.clone(),
        flows: verdicts.flows(),
        lines: Arc::default(),
        early: Arc::default(),
        settled: settle(&router),
    };
    let tracer = Tracer::new(&firewall)?;
    let sources = Sources { carried: verdicts.flows(), asked };
    let mut records = FlowRecords::new(sources, admin.path(), metrics.clone());
    records.settle(records.prepare(rules.gateway(), &firewall)?);
    let capture = capture::start(rules.gateway(), verdicts.flows(), router.replica(), &metrics)?;
    let firewall = Rulebook { firewall, rules, surroundings, tracer, addresses, verdicts, records };
    let mut live = {
        let lanes = traffic.lanes();
        let _entered = lanes.first().enter();
        Live::new(firewall, interceptor.clone(), metrics, table, names, secret)
    };
    live.begin().await;
    let mut accepting = listeners.run(&interceptor, idle, &traffic);
    info!(id = %router.id(), ?dns, "gateway runs");
    live.run(&mut admin, &mut changes, stop).await;
    accepting.shutdown().await;
    router.shutdown().await;
    live.release().await;
    drop(capture);
    Ok(())
}

/// How long the first dials wait for the first link.
const SETTLING: Duration = Duration::from_secs(3);
/// Time between two looks at the links meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Becomes true when the router has a link, or should have had one: a gateway that is started again is dialed through
/// before its links stand.
fn settle(router: &Router) -> watch::Receiver<bool> {
    let (settled, newest) = watch::channel(false);
    let router = router.clone();
    tokio::spawn(async move {
        let linked = async {
            while router.status().await.links.is_empty() {
                sleep(LOOK_EVERY).await;
            }
        };
        // Dials say what is missing if none comes.
        drop(timeout(SETTLING, linked).await);
        settled.send_replace(true);
    });
    newest
}

/// Where the kernel delivers what it intercepts.
struct Listeners {
    connections: Vec<TransparentListener>,
    datagrams: Vec<DatagramListener>,
}

impl Listeners {
    /// Opens them for both families, and tells the kernel.
    fn open(firewall: &mut Firewall, traffic: &Traffic) -> Result<Self, GatewayError> {
        let lanes = traffic.lanes();
        let _entered = lanes.first().enter();
        let mut listeners = Self { connections: Vec::new(), datagrams: Vec::new() };
        for loopback in LOOPBACKS {
            let connections = TransparentListener::open(loopback)?;
            firewall.set_listener(Transport::Tcp, connections.address(), connections.as_fd())?;
            listeners.connections.push(connections);
            let datagrams = DatagramListener::open(loopback)?;
            firewall.set_listener(Transport::Udp, datagrams.address(), datagrams.as_fd())?;
            listeners.datagrams.push(datagrams);
        }
        Ok(listeners)
    }

    fn run(self, interceptor: &Interceptor, idle: IdleTimes, traffic: &Traffic) -> JoinSet<()> {
        let (lanes, mut tasks) = (traffic.lanes(), JoinSet::new());
        for listener in self.connections {
            tasks.spawn_on(listener.run(interceptor.clone()), lanes.first());
        }
        for listener in self.datagrams {
            tasks.spawn_on(listener.run(interceptor.clone(), idle), lanes.first());
        }
        tasks
    }
}

/// Flows of datagrams end as the kernel's do.
fn idle_times(tracking: &Tracking) -> IdleTimes {
    let timeouts = tracking.timeouts;
    IdleTimes { unanswered: timeouts.udp_opening, answered: timeouts.udp }
}

/// Each carried connection is an open file; the usual soft limit is 1,024.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "limit of open files could not be raised");
    }
}

fn lines(errors: &[CompileError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
