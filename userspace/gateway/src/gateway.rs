//! The gateway as a whole: starts its parts in order, and takes everything back at the end.

mod down;
mod live;
mod rules;

use std::{path::PathBuf, sync::Arc};

use nightgate_abi::INTERCEPT_MARK;
use nightgate_config::Gateway;
use nightgate_datapath::{DatapathError, Pins};
use nightgate_netlink::{Interception, Netlink, NetlinkError, Undo};
use nightgate_router::{Router, RouterConfig, StartError};
use nightgate_ruleset::CompileError;
use nightgate_telemetry::{Metrics, MetricsError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{sync::watch, task::JoinSet};
use tracing::{info, warn};

use crate::{
    admin::{AdminServer, AdminSocketError, RuleFile},
    dns::{DnsError, DnsServer, NameTable},
    firewall::Firewall,
    intercept::InterceptTable,
    listener::{Interceptor, LOOPBACKS, ListenerError, TransparentListener},
    mirror::{self, MirrorError},
    state::{StateError, StateFolder},
};
pub use down::{DownError, WasUp, down};
use live::{Live, Rulebook};
use rules::Rules;

/// What a gateway needs to start.
#[derive(Debug)]
pub struct GatewayConfig {
    /// Its router.
    pub router: RouterConfig,
    /// Where operators ask.
    pub admin_socket: PathBuf,
    /// Firewall, DNS and mirror.
    pub gateway: Gateway,
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
    /// The mirror cannot be set up.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The router cannot start.
    #[error("start the router: {0}")]
    Router(#[from] StartError),
    /// The private DNS cannot start.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The rules applied last cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The metrics cannot be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// Routing table of the one route that makes intercepted destinations local; in no one else's use, as
/// its number is the product's mark ("NG").
const ROUTING_TABLE: u32 = 0x4e47;

/// How packets for the gateway's listeners find them.
const INTERCEPTION: Interception = Interception { mark: INTERCEPT_MARK, table: ROUTING_TABLE };

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
    let rules = nightgate_ruleset::compile(&config.gateway).map_err(GatewayError::Rules)?;
    if !nix::unistd::geteuid().is_root() {
        return Err(GatewayError::NotRoot);
    }
    let rules = Rules::choose(config.file.clone(), &config.gateway, rules, config.state.clone())?;
    let admin = AdminServer::start(&config.admin_socket)?;
    raise_file_limit();
    let netlink = Netlink::connect()?;
    let mut undo = Undo::nothing();
    let result = run_parts(config, rules, admin, (&netlink, &mut undo), stop).await;
    if let Err(error) = netlink.undo(undo).await {
        warn!(%error, "part of the host's configuration stays behind");
    }
    result
}

async fn run_parts(
    config: GatewayConfig,
    rules: Rules,
    mut admin: AdminServer,
    (netlink, undo): (&Netlink, &mut Undo),
    stop: impl Future<Output = ()>,
) -> Result<(), GatewayError> {
    let metrics = Metrics::new()?;
    let mut firewall = Firewall::start(&config.gateway, rules.compiled().clone(), config.pins)?;
    undo.append(netlink.intercept(INTERCEPTION).await?);
    if let Some(mirror) = &config.gateway.mirror {
        let (host, made) = mirror::set_up(netlink, &config.gateway, mirror).await?;
        undo.append(made);
        firewall.set_mirror(host)?;
    }
    let listeners = open_listeners(&mut firewall)?;

    let (table, newest_table) = watch::channel(Arc::new(InterceptTable::default()));
    let (names, newest_names) = watch::channel(Arc::new(NameTable::default()));
    let dns = match &config.gateway.dns {
        Some(dns) => Some(DnsServer::start(&dns.listen, newest_names, metrics.clone()).await?),
        None => None,
    };
    let router = Router::start(config.router).await?;
    let interceptor = Interceptor {
        router: router.clone(),
        identity: router.id().as_identity(),
        table: newest_table,
        metrics: metrics.clone(),
    };
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(listener.run(interceptor.clone()));
    }
    info!(id = %router.id(), dns = ?dns.as_ref().map(DnsServer::addresses), "gateway runs");

    let firewall = Rulebook { firewall, rules };
    let mut live = Live::new(firewall, router.clone(), metrics, table, names, &config.gateway);
    live.run(&mut admin, stop).await;
    accepting.shutdown().await;
    router.shutdown().await;
    live.release();
    Ok(())
}

fn open_listeners(firewall: &mut Firewall) -> Result<Vec<TransparentListener>, GatewayError> {
    let mut listeners = Vec::new();
    for loopback in LOOPBACKS {
        let listener = TransparentListener::open(loopback)?;
        firewall.set_listener(listener.address())?;
        listeners.push(listener);
    }
    Ok(listeners)
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
