//! Copies of what programs say to services and hear from them, for sensors.
//!
//! Kernel programs at the loopback interface make them, where packets are between a program and the tunneler, and give them the
//! addresses that the program knows; sessions, sensors and encapsulations are those of gateways.

use std::collections::BTreeMap;

use nightgate_abi::mirror::{MirrorSessionId, session_of_flow};
use nightgate_config::Mirror;
use nightgate_datapath::{DatapathError, Tunnel};
use nightgate_gateway::{
    mirror::{Healths, MirrorError, SensorWatch, sensor_paths, sensors_down},
    report::{QueueDrops, SensorReport, sensor_reports},
};
use nightgate_mirror::Plan;
use nightgate_netlink::{Netlink, Undo};
use socket2::SockRef;
use tracing::warn;

use crate::{shared::Shared, sockets::Sockets, tunneler::TunnelError};

/// Largest IP packet of a copied TCP connection, bytes, as on Ethernet: those of the loopback interface would be too long for
/// the way to a sensor.
const FRAME_MTU: u32 = 1_500;
/// Largest segment of such connections: what an IPv6 packet has room for behind its headers (RFC 8200) and those of TCP
/// (RFC 9293).
const SEGMENT: u32 = FRAME_MTU - 40 - 20;

/// Plans sessions: finds the way to each sensor, and changes nothing.
///
/// # Errors
/// The sessions do not fit the host.
pub(crate) async fn plan(mirror: &Mirror) -> Result<Plan, TunnelError> {
    let paths = sensor_paths(&Netlink::connect()?, mirror).await?;
    Ok(Plan::new(mirror, &paths, FRAME_MTU).map_err(MirrorError::Plan)?)
}

/// Copies are being made.
pub(crate) struct Mirroring {
    mirror: Mirror,
    watch: SensorWatch,
    netlink: Netlink,
    undo: Undo,
}

impl Mirroring {
    /// Tells the kernel of a plan's sessions and sensors, and gives copies their way. Nothing is copied before
    /// [`Shared::set_mirrored`].
    ///
    /// # Errors
    /// The kernel refuses; nothing stays behind.
    pub(crate) async fn start(
        (mirror, plan): (&Mirror, &Plan),
        tunnel: &mut Tunnel,
        sockets: &Sockets,
    ) -> Result<Self, TunnelError> {
        let netlink = Netlink::connect()?;
        for listener in &sockets.tcp {
            SockRef::from(listener).set_tcp_mss(SEGMENT).map_err(TunnelError::Sockets)?;
        }
        let watch = SensorWatch::start(mirror)?;
        let (pair, undo) = netlink.create_tunnel_mirror().await?;
        let announced = announce(plan, tunnel)
            .and_then(|()| tunnel.attach_mirror(&pair.device.name, &pair.peer.name));
        let mirroring = Self { mirror: mirror.clone(), watch, netlink, undo };
        match announced {
            Ok(()) => Ok(mirroring),
            Err(error) => {
                mirroring.close().await;
                Err(error.into())
            }
        }
    }

    /// Waits until the health of a sensor has changed.
    pub(crate) async fn changed(&mut self) -> Healths {
        self.watch.changed().await
    }

    /// The sensors, for people.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) async fn sensors(
        &self,
        shared: &Shared,
    ) -> Result<Vec<SensorReport>, DatapathError> {
        let mut drops = QueueDrops::new();
        for sensor in self.mirror.sensors.values() {
            if let Ok(interface) = self.netlink.interface(sensor.interface.as_str()).await
                && let Ok(found) = self.netlink.queue_drops(interface.index).await
            {
                drops.insert(sensor.interface.clone(), found);
            }
        }
        let sent = |number| shared.hooks().mirror_sensor_counter(number);
        sensor_reports((&self.mirror, &shared.mirror), &self.watch.healths(), sent, &drops)
    }

    /// Takes the way of copies back.
    pub(crate) async fn close(self) {
        if let Err(error) = self.netlink.undo(self.undo).await {
            warn!(%error, "the mirror's interfaces stay behind");
        }
    }
}

fn announce(plan: &Plan, tunnel: &mut Tunnel) -> Result<(), DatapathError> {
    for sensor in plan.sensors() {
        tunnel.set_mirror_sensor(sensor.number, sensor.value)?;
    }
    plan.sessions().iter().try_for_each(|it| tunnel.set_mirror_session(it.id, it.value))
}

/// The session that copies what an identity dials of a service.
pub(crate) fn session(plan: &Plan, service: &str, identity: &str) -> Option<MirrorSessionId> {
    let claim = plan.claim_of(service, Some(identity));
    MirrorSessionId::new(session_of_flow(claim, None))
}

impl Shared {
    /// Copies the flows of the services that sessions name, and of those that may be dialed.
    pub(crate) fn set_mirrored(&self) {
        let identity = self.identity_name();
        let wanted: BTreeMap<_, _> = {
            let table = self.table();
            let of = |(number, name): (u32, &str)| {
                Some((number, session(&self.mirror, name, &identity)?))
            };
            table.names().filter_map(of).collect()
        };
        if let Err(error) = self.hooks().set_mirrored(wanted) {
            warn!(%error, "not all that should be is copied for sensors; the next look at the services tries again");
        }
    }

    /// Sends nothing more to sensors that are out of order: their flows go to the other sensors of their sessions.
    pub(crate) fn place_sensors(&self, healths: &Healths) {
        let down = sensors_down(healths);
        let mut hooks = self.hooks();
        for session in self.mirror.sessions() {
            let value = self.mirror.entry_with(session, |sensor| !down.contains(sensor));
            if let Err(error) = hooks.set_mirror_session(session.id, value) {
                warn!(%error, "copies go to the sensors as before; the next change tries again");
            }
        }
    }
}
