//! What is copied for sensors at the moment: one word on it for all parts of a tunneler.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nightgate_abi::{
    intercept::hosted_mark,
    mirror::{MirrorSessionId, session_of_flow},
    tunnel::HOSTED_MARK,
};
use nightgate_config::SensorName;
use nightgate_datapath::Tunnel;
use nightgate_gateway::{hosted::HostedTable, hosting::SocketKind};
use nightgate_mirror::Plan;
use nightgate_sdk::ServiceId;
use tracing::warn;

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
            Some(number) => {
                SocketKind { mark: Some(hosted_mark(HOSTED_MARK, number)), segment: Some(SEGMENT) }
            }
            None => SocketKind::default(),
        }
    }

    /// Numbers of the hosted services.
    pub(crate) fn hosted(&self) -> BTreeMap<String, u32> {
        let state = self.lock();
        state.hosted.services().map(|(number, name)| (name.to_owned(), number)).collect()
    }

    /// Connections get the numbers of this table.
    pub(crate) fn set_hosted(&self, hosted: HostedTable) {
        self.lock().hosted = hosted;
    }

    /// Goes on with the sessions of another plan, which the kernel knows.
    pub(crate) fn set_plan(&self, plan: Plan, hooks: &mut Tunnel) {
        let mut state = self.lock();
        state.plan = plan;
        state.place_sensors(hooks);
    }

    /// Sends nothing more to sensors that are out of order: their flows go to the other sensors of their sessions.
    pub(crate) fn set_sensors_down(&self, down: BTreeSet<SensorName>, hooks: &mut Tunnel) {
        let mut state = self.lock();
        state.down = down;
        state.place_sensors(hooks);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn place_sensors(&self, hooks: &mut Tunnel) {
        for session in self.plan.sessions() {
            let value = self.plan.entry_with(session, |sensor| !self.down.contains(sensor));
            if let Err(error) = hooks.mirror().set_session(session.id, value) {
                warn!(%error, "copies go to the sensors as before; the next change tries again");
            }
        }
    }
}

/// The session that copies what somebody dials of a service.
pub(crate) fn session(plan: &Plan, service: &str, dialer: &str) -> Option<MirrorSessionId> {
    let claim = plan.claim_of(service, Some(dialer));
    MirrorSessionId::new(session_of_flow(claim, None))
}
