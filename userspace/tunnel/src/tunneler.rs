//! The tunneler as a whole.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nightgate_abi::tunnel::{Origin, OriginKey, flag};
use nightgate_config::FlowRecords;
use nightgate_datapath::{DatapathError, Destinations, Tunnel, TunnelPlace};
use nightgate_export::{HttpError, Outputs, host_name};
use nightgate_gateway::{
    admin::{AdminServer, AdminSocketError, Query, Request, Topic},
    intercept::{DialPlan, Passage},
    names::{HostName, NameAddresses},
};
use nightgate_model::configs::Protocol;
use nightgate_sdk::{AuthenticateError, Context, DialError, DialOptions, Identity, Stream};
use nightgate_telemetry::{Metrics, MetricsError};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tracing::{error, info, warn};

use crate::{
    flows::{FlowReport, Flows},
    hosting::OwnHosting,
    policy::Policy,
    process::Process,
    records::Records,
    second_factor::take_codes,
    sockets::Sockets,
    source,
    table::{Table, TableProblem},
    tcp, udp,
};

/// What a tunneler needs to start.
#[derive(Debug)]
pub struct TunnelConfig {
    /// Who dials and hosts.
    pub identity: Identity,
    /// Folders of the cgroups whose programs use it.
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
    /// The metrics of its flow records clash.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A collector of flow records cannot be used as configured.
    #[error(transparent)]
    Collector(#[from] HttpError),
    /// The identity cannot join the overlay.
    #[error("join the overlay")]
    Join(#[from] AuthenticateError),
}

/// Time between two promises to the hooks that the tunneler lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a promise counts: a tunneler that stands still for longer is taken for dead.
const PROMISE: Duration = Duration::from_secs(10);
/// Time between two looks at the services that may be dialed.
const REFRESH: Duration = Duration::from_secs(5);

/// What all connections share.
pub(crate) struct Shared {
    context: Context,
    hooks: Mutex<Tunnel>,
    table: Mutex<Table>,
    policy: Policy,
    pub(crate) flows: Flows,
}

/// What a program wants, and may have.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) service: String,
    pub(crate) process: Process,
    source: SocketAddr,
    destination: SocketAddr,
    name: Option<HostName>,
    plan: DialPlan,
    protocol: Protocol,
}

/// What a program may not have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the service at {0} is intercepted no longer")]
    Gone(SocketAddr),
    #[error(
        "service {service} is not for {} (process {}, user {}, cgroup {})",
        process.executable.as_deref().unwrap_or(&process.command),
        process.pid, process.user, process.cgroup.as_deref().unwrap_or("unknown")
    )]
    Policy { service: String, process: Box<Process> },
    #[error("allowedSourceAddresses of service {service} do not include {address}")]
    Source { service: String, address: IpAddr },
}

/// Runs a tunneler until `stop` completes. The hooks are gone when this returns.
///
/// # Errors
/// A part cannot start; nothing of it stays behind.
pub async fn run(config: TunnelConfig, stop: impl Future<Output = ()>) -> Result<(), TunnelError> {
    let mut admin = AdminServer::start(&config.admin_socket)?;
    let sockets = Sockets::open().map_err(TunnelError::Sockets)?;
    let context = Context::load(&config.identity).await?;
    let records = records(&config, &context)?;
    let place = place(&config, &sockets).map_err(TunnelError::Sockets)?;
    let shared = Arc::new(Shared {
        context,
        hooks: Mutex::new(Tunnel::start(&place)?),
        table: Mutex::new(Table::new()),
        policy: config.policy,
        flows: Flows::new(records),
    });
    let mut tasks = JoinSet::new();
    spawn_all(&mut tasks, sockets, &shared).map_err(TunnelError::Sockets)?;
    tasks.spawn(refresh(Arc::clone(&shared)));
    let file = config.identity.path().map(Path::to_owned);
    tasks.spawn(take_codes(shared.context.clone(), file));
    info!(identity = %shared.context.identity_name(), cgroups = ?place.cgroups, "tunneler runs");
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
            Some(query) = admin.next() => answer(query, &shared),
        }
    }
    tasks.shutdown().await;
    shared.flows.close().await;
    Ok(())
}

fn records(config: &TunnelConfig, context: &Context) -> Result<Option<Records>, TunnelError> {
    let Some(wanted) = &config.records else { return Ok(None) };
    let outputs = Outputs::start(wanted, &host_name(), &Metrics::new()?)?;
    let (identity, interim) = (context.identity_name(), wanted.interim);
    Ok(Some(Records { outputs, identity, interim }))
}

fn place(config: &TunnelConfig, sockets: &Sockets) -> io::Result<TunnelPlace> {
    let closed = if config.fail_closed.is_some() { flag::FAIL_CLOSED } else { 0 };
    let dns = if config.dns { flag::DNS } else { 0 };
    Ok(TunnelPlace {
        cgroups: config.cgroups.clone(),
        tcp_port: sockets.tcp_port()?,
        udp_ports: sockets.udp_ports()?,
        flags: closed | dns,
        pins: config.fail_closed.clone(),
    })
}

fn spawn_all(tasks: &mut JoinSet<()>, sockets: Sockets, shared: &Arc<Shared>) -> io::Result<()> {
    for listener in sockets.tcp {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tasks.spawn(tcp::accept(listener, Arc::clone(shared)));
    }
    for (slot, pair) in (0..).zip(sockets.udp) {
        for socket in pair {
            let socket = tokio::net::UdpSocket::from_std(socket)?;
            tasks.spawn(udp::carry_all(socket, slot, Arc::clone(shared)));
        }
    }
    Ok(())
}

/// Hosts what the identity may host, and intercepts nothing, until `stop` completes: without hooks and sockets, and so
/// without privileges.
///
/// # Errors
/// The identity cannot join the overlay.
pub async fn host(
    identity: &Identity,
    stop: impl Future<Output = ()>,
) -> Result<(), AuthenticateError> {
    let context = Context::load(identity).await?;
    info!(identity = %context.identity_name(), "tunneler hosts");
    let keep = async {
        let mut hosting = OwnHosting::new(context.clone());
        loop {
            context.second_factor_becomes_due(false).await;
            match context.services().await {
                Ok(services) => hosting.apply(&services),
                Err(error) => warn!(
                    error = &error as &dyn std::error::Error,
                    "the controller does not say what may be hosted; what is hosted stays"
                ),
            }
            tokio::time::sleep(REFRESH).await;
        }
    };
    let codes = take_codes(context.clone(), identity.path().map(Path::to_owned));
    tokio::select! {
        () = stop => Ok(()),
        ((), ()) = async { tokio::join!(keep, codes) } => Ok(()),
    }
}

/// Keeps what is intercepted and hosted as the controller allows it.
async fn refresh(shared: Arc<Shared>) {
    let mut logged = BTreeSet::new();
    let mut hosting = OwnHosting::new(shared.context.clone());
    loop {
        shared.context.second_factor_becomes_due(false).await;
        match shared.context.services().await {
            Ok(services) => {
                hosting.apply(&services);
                let (destinations, problems) = shared.table().update(&services);
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

fn answer(query: Query, shared: &Shared) {
    let answer = if matches!(query.request, Request::Show(Topic::Flows)) {
        serde_json::to_value(shared.flows.report()).map_err(|error| error.to_string())
    } else {
        Err("this is a tunneler, which has flows alone".into())
    };
    query.answer(answer);
}

impl Shared {
    /// Whence something comes; `None` if nobody was turned here from there.
    pub(crate) fn origin(
        &self,
        source: SocketAddr,
        protocol: u8,
        slot: u32,
    ) -> Option<(OriginKey, Origin)> {
        let found = self.hooks().origin(source, protocol, slot);
        found.unwrap_or_else(|error| {
            error!(%error, "the hooks cannot be asked");
            None
        })
    }

    pub(crate) fn forget(&self, key: &OriginKey) {
        if let Err(error) = self.hooks().forget(key) {
            error!(%error, "a connection could not be forgotten; others push it out in time");
        }
    }

    /// What a program wants whose socket is at `seen`, if it may have it.
    pub(crate) fn admit(&self, origin: &Origin, seen: SocketAddr) -> Result<Call, Refusal> {
        let destination = SocketAddr::new(origin.destination.to_ip(), origin.port);
        let source = source::of(seen, destination.ip());
        let process = Process::of(origin);
        let (service, plan, name) = {
            let table = self.table();
            let service = table.service(origin.service).ok_or(Refusal::Gone(destination))?;
            if !service.sources.allow(source.ip()) {
                let (service, address) = (service.name.clone(), source.ip());
                return Err(Refusal::Source { service, address });
            }
            let name = table.name_of(destination.ip()).cloned();
            (service.name.clone(), service.dial.clone(), name)
        };
        if !self.policy.allows(&service, &process) {
            return Err(Refusal::Policy { service, process: Box::new(process) });
        }
        let protocol = if origin.protocol == 17 { Protocol::Udp } else { Protocol::Tcp };
        Ok(Call { service, process, source, destination, name, plan, protocol })
    }

    pub(crate) async fn dial(&self, call: &Call) -> Result<Stream, DialError> {
        let passage = Passage {
            protocol: call.protocol,
            client: call.source,
            destination: call.destination,
            name: call.name.clone(),
            caller: self.context.identity_name(),
        };
        let instance = call.plan.instance(&passage);
        let options = DialOptions {
            app_data: call.plan.app_data(&passage),
            instance: (!instance.is_empty()).then_some(instance),
            timeout: call.plan.timeout(),
            ..DialOptions::default()
        };
        self.context.dial_with(&call.service, &options).await
    }

    /// The addresses of a service's name.
    pub(crate) fn resolve(&self, name: &HostName) -> Option<NameAddresses> {
        let (addresses, changed) = self.table().resolve(name)?;
        if let Some(destinations) = changed {
            self.intercept(destinations);
        }
        Some(addresses)
    }

    /// Whether this host may know a name, from one of the addresses that it uses towards those of the name.
    pub(crate) fn shows(&self, name: &HostName, addresses: NameAddresses) -> bool {
        let own: Vec<_> = addresses.iter().map(source::towards).collect();
        self.table().shows(name, |sources| own.iter().any(|own| sources.allow(*own)))
    }

    /// The name that has been given this address.
    pub(crate) fn name_of(&self, address: IpAddr) -> Option<HostName> {
        self.table().name_of(address).cloned()
    }

    /// Tells the hooks what is intercepted; gives whether that is something else than before.
    fn intercept(&self, destinations: Destinations) -> bool {
        let mut hooks = self.hooks();
        if *hooks.destinations() == destinations {
            return false;
        }
        if let Err(error) = hooks.set_destinations(destinations) {
            error!(%error, "interception could not be changed; the next change tries again");
        }
        true
    }

    fn live(&self) {
        if let Err(error) = self.hooks().live(PROMISE) {
            error!(%error, "the hooks could not be told that the tunneler lives");
        }
    }

    fn hooks(&self) -> std::sync::MutexGuard<'_, Tunnel> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// A report of a flow that begins.
    pub(crate) fn report(&self) -> FlowReport {
        FlowReport {
            protocol: self.protocol,
            source: self.source,
            destination: self.destination,
            name: self.name.as_ref().map(ToString::to_string),
            service: self.service.clone(),
            process: self.process.clone(),
            age: 0,
            sent: 0,
            received: 0,
        }
    }
}
