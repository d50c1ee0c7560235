//! What is copied for sensors at the moment: one word on it for all parts of a tunneler.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nightgate_abi::{
    mirror::{MirrorSessionId, session_of_flow},
    tunnel::hosted_mark,
};
use nightgate_config::SensorName;
use nightgate_datapath::{DatapathError, Tunnel};
use nightgate_gateway::{
    hosted::{HostedName, HostedNumbers, HostedTable},
    hosting::SocketKind,
    intercept::ServiceTag,
};
use nightgate_mirror::Plan;
use nightgate_sdk::{Permission, Service, ServiceId};
use tracing::warn;

use crate::table::Table;

/// Largest IP packet of a copied TCP connection, bytes, as on Ethernet: those of the loopback interface would be too long for
/// the way to a sensor.
pub(crate) const FRAME_MTU: u32 = 1_500;
/// Largest segment of such connections: what an IPv6 packet has room for behind its headers (RFC 8200) and those of TCP
/// (RFC 9293).
pub(crate) const SEGMENT: u32 = FRAME_MTU - 40 - 20;

/// What is copied. Without a plan, nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copying(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    plan: Plan,
    /// Sensors that are out of order.
    down: BTreeSet<SensorName>,
    hosted: HostedTable,
}

/// Keeps what is copied of services in step with what the identity may dial and host.
#[derive(Debug)]
pub(crate) struct Follower {
    copying: Copying,
    numbers: HostedNumbers,
}

impl Copying {
    /// The sessions of a plan.
    pub(crate) fn new(plan: Plan) -> Self {
        Self(Arc::new(Mutex::new(State { plan, ..State::default() })))
    }

    /// The sessions.
    pub(crate) fn plan(&self) -> Plan {
        self.lock().plan.clone()
    }

    /// Whether what somebody dials of a service is copied, where it is dialed and where it is hosted.
    pub(crate) fn copies(&self, service: &str, dialer: &str) -> bool {
        session(&self.lock().plan, service, dialer).is_some()
    }

    /// The socket for a connection to the server of a service that somebody dials.
    pub(crate) fn socket(&self, service: &ServiceId, dialer: &str) -> SocketKind {
        match self.lock().hosted.number(service, dialer) {
            Some(number) => SocketKind { mark: Some(hosted_mark(number)), segment: Some(SEGMENT) },
            None => SocketKind::default(),
        }
    }

    /// Numbers of the hosted services.
    pub(crate) fn hosted(&self) -> BTreeMap<String, u32> {
        let state = self.lock();
        state.hosted.services().map(|(number, name)| (name.to_owned(), number)).collect()
    }

    /// Sends nothing more to sensors that are out of order: their flows go to the other sensors of their sessions.
    pub(crate) fn place_sensors(&self, down: BTreeSet<SensorName>, hooks: &mut Tunnel) {
        let mut state = self.lock();
        state.down = down;
        for session in state.plan.sessions() {
            let value = state.plan.entry_with(session, |sensor| !state.down.contains(sensor));
            if let Err(error) = hooks.set_mirror_session(session.id, value) {
                warn!(%error, "copies go to the sensors as before; the next change tries again");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    /// Knows of no service yet.
    pub(crate) fn new(copying: Copying) -> Self {
        Self { copying, numbers: HostedNumbers::default() }
    }

    /// Copies the flows of those services that sessions name. `table` has the numbers of services.
    pub(crate) fn follow(
        &mut self,
        services: &[Service],
        (identity, table): (&str, &mut Table),
        hooks: &mut Tunnel,
    ) {
        let plan = self.copying.plan();
        let dialed = table
            .names()
            .filter_map(|(number, name)| Some((number, session(&plan, name, identity)?)));
        let dialed = dialed.collect();
        let hosted = self.hosted(services, &plan, table);
        let image = hosted.image(|service, dialer| plan.claim_of(service, dialer));
        let told = hooks.set_mirrored(dialed).and_then(|()| hooks.set_hosted(image));
        match told {
            // Connections get their numbers when the kernel knows these.
            Ok(()) => self.copying.lock().hosted = hosted,
            Err(error) => warn_of(&error),
        }
    }

    fn hosted(&mut self, services: &[Service], plan: &Plan, table: &mut Table) -> HostedTable {
        let bindable = services.iter().filter(|it| it.permissions.contains(&Permission::Bind));
        let named = bindable.filter_map(|Service { id, name, .. }| {
            let tag = ServiceTag::new(NonZeroU32::new(table.number(id))?);
            Some((id.clone(), HostedName { name: name.clone(), tag }))
        });
        let named = named.collect();
        let dialers = plan.identities().map(str::to_owned).collect();
        let differs = |service: &str, dialer: &str| {
            plan.claim_of(service, Some(dialer)) != plan.claim_of(service, None)
        };
        self.numbers.table(&named, &dialers, differs)
    }
}

fn warn_of(error: &DatapathError) {
    warn!(%error, "not all that should be is copied for sensors; the next look at the services tries again");
}

/// The session that copies what somebody dials of a service.
fn session(plan: &Plan, service: &str, dialer: &str) -> Option<MirrorSessionId> {
    let claim = plan.claim_of(service, Some(dialer));
    MirrorSessionId::new(session_of_flow(claim, None))
}
