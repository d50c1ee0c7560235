//! What all connections of a tunneler share: the way to the overlay, the hooks, and what may be used.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nightgate_abi::{
    Address,
    tunnel::{OWN_MARK, Origin, OriginKey},
};
use nightgate_datapath::{Destinations, TunnelInterface};
use nightgate_gateway::{
    intercept::{DialPlan, Passage},
    listener::said_first,
    names::{HostName, NameAddresses},
};
use nightgate_model::configs::Protocol;
use nightgate_sdk::{Context, DialError, DialFailure, DialOptions, FailureCause, Stream};
use nightgate_telemetry::{End, Metrics};
use tokio::net::TcpStream;
use tracing::{error, warn};

use crate::{
    copying::Copying,
    flows::{FlowReport, Flows},
    hooks::Hooks,
    policy::Policy,
    process::Process,
    source,
    table::Table,
};

/// How long a promise counts: a tunneler that stands still for longer is taken for dead.
const PROMISE: Duration = Duration::from_secs(10);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) context: Context,
    pub(crate) hooks: Hooks,
    /// The hooks are on interfaces.
    pub(crate) at_interfaces: bool,
    /// Host and port of the controller.
    pub(crate) controller: Option<(String, u16)>,
    pub(crate) table: Mutex<Table>,
    pub(crate) policy: Policy,
    pub(crate) copying: Copying,
    pub(crate) flows: Flows,
    pub(crate) metrics: Metrics,
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

impl Refusal {
    fn cause(&self) -> FailureCause {
        match self {
            Self::Gone(_) => FailureCause::NoService,
            Self::Policy { .. } | Self::Source { .. } => FailureCause::Unauthorized,
        }
    }
}

/// The word for a failed dial.
fn cause(failure: &DialFailure) -> &'static str {
    match failure {
        DialFailure::NoSuchService { .. } => FailureCause::NoService.as_str(),
        DialFailure::Controller(_) => "no-controller",
        DialFailure::NoRouter { .. } => FailureCause::NoRoute.as_str(),
        DialFailure::Refused { cause, .. } => cause.map_or("refused", FailureCause::as_str),
        DialFailure::Timeout { .. } => FailureCause::DialTimeout.as_str(),
        DialFailure::ChannelLost { .. } => FailureCause::LinkLost.as_str(),
        DialFailure::Agreement(_)
        | DialFailure::NotNative
        | DialFailure::NotAHost { .. }
        | DialFailure::Downgraded => FailureCause::Encryption.as_str(),
    }
}

impl Shared {
    /// Whence something comes; `None` if nobody was turned here from there.
    pub(crate) fn origin(
        &self,
        source: SocketAddr,
        protocol: u8,
        slot: u32,
    ) -> Option<(OriginKey, Origin)> {
        let found = self.hooks.lock().origin(source, protocol, slot);
        found.unwrap_or_else(|error| {
            error!(%error, "the hooks cannot be asked");
            None
        })
    }

    /// What hooks on interfaces have taken from `source` to `destination`; `None` if they have not, or are on cgroups.
    pub(crate) fn taken(
        &self,
        source: SocketAddr,
        destination: SocketAddr,
        protocol: u8,
    ) -> Option<Origin> {
        let taken = self.hooks.lock().taken(source, destination, protocol);
        let service = taken.unwrap_or_else(|error| {
            error!(%error, "the hooks cannot be asked");
            None
        })?;
        Some(Origin {
            destination: Address::from(destination.ip()),
            service,
            port: destination.port(),
            protocol,
            connected: 1,
            ..Origin::default()
        })
    }

    /// Who dials and hosts.
    pub(crate) fn identity_name(&self) -> String {
        self.context.identity_name()
    }

    /// How many prefixes of addresses are intercepted.
    pub(crate) fn prefixes(&self) -> usize {
        self.hooks.lock().destinations().len()
    }

    /// Numbers of the services.
    pub(crate) fn numbers(&self) -> BTreeMap<String, u32> {
        let mut numbers = self.copying.hosted();
        numbers.extend(self.table().names().map(|(number, name)| (name.to_owned(), number)));
        numbers
    }

    /// The mark without which what the tunneler itself sends would come back to it.
    pub(crate) fn own_mark(&self) -> Option<u32> {
        self.at_interfaces.then_some(OWN_MARK)
    }

    /// Where the tunneler itself connects to: controller and routers. Hooks on interfaces do not know whose
    /// connections they see.
    pub(crate) async fn own_peers(&self) -> BTreeSet<SocketAddr> {
        let mut peers = BTreeSet::new();
        let controller = self.controller.iter().map(|(host, port)| format!("{host}:{port}"));
        for address in self.context.router_addresses().into_iter().chain(controller) {
            match tokio::net::lookup_host(&address).await {
                Ok(found) => peers.extend(found.map(|it| SocketAddr::new(it.ip(), it.port()))),
                Err(error) => warn!(address, %error, "not found; it must not be intercepted"),
            }
        }
        peers
    }

    /// Attaches hooks to interfaces that have come.
    pub(crate) fn cover(&self, interfaces: &[TunnelInterface]) {
        if let Err(error) = self.hooks.lock().cover(interfaces) {
            error!(%error, "an interface intercepts nothing");
        }
    }

    pub(crate) fn forget(&self, key: &OriginKey) {
        if let Err(error) = self.hooks.lock().forget(key) {
            error!(%error, "a connection could not be forgotten; others push it out in time");
        }
    }

    /// What a program wants whose socket is at `seen`, if it may have it.
    pub(crate) fn admit(&self, origin: &Origin, seen: SocketAddr) -> Result<Call, Refusal> {
        self.metrics.connection_intercepted();
        self.look_at(origin, seen).inspect_err(|refusal| {
            self.metrics.circuit_refused(End::Dialer, refusal.cause().as_str());
        })
    }

    fn look_at(&self, origin: &Origin, seen: SocketAddr) -> Result<Call, Refusal> {
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

    /// Opens a circuit, and counts it or why there is none. What the program says first on `connection` begins the circuit if
    /// it can go with the dial; gives of how many bytes that is true. They stay to be read.
    pub(crate) async fn dial(
        &self,
        call: &Call,
        connection: Option<&TcpStream>,
    ) -> Result<(Stream, usize), DialError> {
        let passage = Passage {
            protocol: call.protocol,
            client: call.source,
            destination: call.destination,
            name: call.name.clone(),
            caller: self.context.identity_name(),
        };
        let instance = call.plan.instance(&passage);
        let instance = (!instance.is_empty()).then_some(instance);
        let carries = self.context.carries_early_data(&call.service, instance.as_deref());
        let first = match connection.filter(|_| carries) {
            Some(connection) => said_first(connection).await,
            None => Vec::new(),
        };
        let length = first.len();
        let options = DialOptions {
            app_data: call.plan.app_data(&passage),
            instance,
            timeout: call.plan.timeout(),
            early_data: first.into(),
            ..DialOptions::default()
        };
        let dialed = self.context.dial_with(&call.service, &options).await;
        match &dialed {
            Ok(stream) => {
                self.metrics.circuit_opened(End::Dialer);
                self.metrics.early_data(End::Dialer, stream.early_data());
            }
            Err(error) => self.metrics.circuit_refused(End::Dialer, cause(&error.failure)),
        }
        dialed.map(|stream| (stream, length))
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
    pub(crate) fn intercept(&self, destinations: Destinations) -> bool {
        let mut hooks = self.hooks.lock();
        if *hooks.destinations() == destinations {
            return false;
        }
        if let Err(error) = hooks.set_destinations(destinations) {
            error!(%error, "interception could not be changed; the next change tries again");
        }
        true
    }

    pub(crate) fn live(&self) {
        if let Err(error) = self.hooks.lock().live(PROMISE) {
            error!(%error, "the hooks could not be told that the tunneler lives");
        }
    }

    pub(crate) fn table(&self) -> std::sync::MutexGuard<'_, Table> {
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
            dialer: None,
            process: (self.process.pid != 0).then(|| self.process.clone()),
            age: 0,
            sent: 0,
            received: 0,
        }
    }
}
