//! Copies of what programs say to services and hear from them, and of what servers of hosted services do, for sensors.
//!
//! Kernel programs make them: at the loopback interface, where packets are between a program and the tunneler, with the
//! addresses that the program knows; and where packets are between the tunneler and a server. Sessions, sensors and
//! encapsulations are those of gateways.

use std::net::TcpListener;

use nightgate_config::Mirror;
use nightgate_datapath::{DatapathError, Tunnel};
use nightgate_gateway::{
    mirror::{SensorWatch, announce, plan_sessions, sensors_down},
    report::{
        MirrorReport, QueueDrops, SensorReport, mirror_metrics, mirror_reports, sensor_reports,
    },
};
use nightgate_mirror::{Numbering, Plan};
use nightgate_netlink::{MirrorPair, Netlink, Undo};
use serde_json::Value;
use socket2::SockRef;
use tracing::{error, warn};

use crate::{
    answers::shown,
    copying::{Copying, FRAME_MTU, SEGMENT},
    hooks::Hooks,
    interfaces::InterfaceList,
    tunneler::TunnelError,
};

/// Plans sessions: finds the way to each sensor, and changes nothing.
///
/// # Errors
/// The sessions do not fit the host.
pub(crate) async fn plan(mirror: Option<&Mirror>) -> Result<Plan, TunnelError> {
    let Some(mirror) = mirror else { return Ok(Plan::default()) };
    let (plan, _) = plan_sessions(&Netlink::connect()?, (mirror, &[]), FRAME_MTU).await?;
    Ok(plan)
}

/// Copies are being made.
pub(crate) struct Mirroring {
    mirror: Mirror,
    copying: Copying,
    hooks: Hooks,
    watch: SensorWatch,
    interfaces: InterfaceList,
    netlink: Netlink,
    undo: Undo,
}

impl Mirroring {
    /// Tells the kernel of the sessions and sensors, and gives copies their way. Nothing is copied before a
    /// [`Follower`](crate::follower::Follower) says of which services.
    ///
    /// # Errors
    /// The kernel refuses; nothing stays behind.
    pub(crate) async fn start(
        (mirror, copying): (&Mirror, &Copying),
        hooks: Hooks,
        listeners: &[TcpListener],
    ) -> Result<Self, TunnelError> {
        let netlink = Netlink::connect()?;
        for listener in listeners {
            SockRef::from(listener).set_tcp_mss(SEGMENT).map_err(TunnelError::Sockets)?;
        }
        refuse_second(&netlink).await?;
        let watch = SensorWatch::start(mirror)?;
        let interfaces = InterfaceList::start()?;
        let (pair, undo) = netlink.create_tunnel_mirror(&owner()).await?;
        let (mirror, copying) = (mirror.clone(), copying.clone());
        let mirroring = Self { mirror, copying, hooks, watch, interfaces, netlink, undo };
        match mirroring.set_up(&pair).await {
            Ok(()) => Ok(mirroring),
            Err(error) => {
                mirroring.close().await;
                Err(error)
            }
        }
    }

    async fn set_up(&self, pair: &MirrorPair) -> Result<(), TunnelError> {
        let interfaces = self.interfaces.list().await?;
        let plan = self.copying.plan();
        let mut hooks = self.hooks.lock();
        // The numbers of a first plan are what they are.
        announce(hooks.mirror(), &mut Numbering::default(), plan, |session| session.value)?;
        hooks.attach_mirror(&pair.device.name, &pair.peer.name)?;
        Ok(hooks.serve_at(&interfaces)?)
    }

    /// Waits until the health of a sensor or the interfaces have changed, and does what follows from that.
    pub(crate) async fn follow(&mut self) {
        tokio::select! {
            healths = self.watch.changed() => {
                let down = sensors_down(&healths);
                self.copying.set_sensors_down(down, &mut self.hooks.lock());
            }
            interfaces = self.interfaces.changed() => {
                if let Err(error) = self.hooks.lock().serve_at(&interfaces) {
                    error!(%error, "what is hosted is not copied at an interface");
                }
            }
        }
    }

    /// What became of the copies, for operators.
    pub(crate) fn copies(&self) -> Result<Value, String> {
        self.copy_reports().map_err(|it| it.to_string()).and_then(|it| shown(&it))
    }

    /// The sensors, for operators.
    pub(crate) async fn sensors(&self) -> Result<Value, String> {
        self.sensor_reports().await.map_err(|it| it.to_string()).and_then(|it| shown(&it))
    }

    /// Both, for Prometheus.
    pub(crate) async fn metrics(&self) -> Result<String, String> {
        let sensors = self.sensor_reports().await.map_err(|error| error.to_string())?;
        let copies = self.copy_reports().map_err(|error| error.to_string())?;
        mirror_metrics(&copies, &sensors).map_err(|error| error.to_string())
    }

    fn copy_reports(&self) -> Result<Vec<MirrorReport>, DatapathError> {
        let hooks = self.hooks.lock();
        Ok(mirror_reports(&self.copying.plan(), &hooks.mirror_statistics()?))
    }

    async fn sensor_reports(&self) -> Result<Vec<SensorReport>, DatapathError> {
        let mut drops = QueueDrops::new();
        for sensor in self.mirror.sensors.values() {
            if let Ok(interface) = self.netlink.interface(sensor.interface.as_str()).await
                && let Ok(found) = self.netlink.queue_drops(interface.index).await
            {
                drops.insert(sensor.interface.clone(), found);
            }
        }
        let hooks = self.hooks.lock();
        let sent = |number| hooks.mirror_sensor_counter(number);
        let plan = self.copying.plan();
        sensor_reports((&self.mirror, &plan), &self.watch.healths(), sent, &drops)
    }

    /// Takes the way of copies back.
    pub(crate) async fn close(self) {
        if let Err(error) = self.netlink.undo(self.undo).await {
            warn!(%error, "the mirror's interfaces stay behind");
        }
    }
}

/// Only one tunneler can copy in a network namespace: what is on its way to servers is told apart by marks, which are every tunneler's
/// own.
async fn refuse_second(netlink: &Netlink) -> Result<(), TunnelError> {
    let Some(peer) = netlink.tunnel_mirror().await? else { return Ok(()) };
    if Tunnel::copies_at(&peer.name)? {
        let first = peer.alias.unwrap_or_else(|| "one that does not say which it is".to_owned());
        return Err(TunnelError::Copying { first });
    }
    Ok(())
}

/// Who has made the pair of interfaces, for the one that comes second.
fn owner() -> String {
    format!("nightgate tunnel, process {}", std::process::id())
}

/// Follows what copies depend on, as long as any are made.
pub(crate) async fn follow(mirroring: &mut Option<Mirroring>) {
    match mirroring {
        Some(mirroring) => mirroring.follow().await,
        None => std::future::pending().await,
    }
}
