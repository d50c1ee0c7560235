//! Looks after sensors: whether their link is up, somebody answers for their address, they answer echo requests, and a port of
//! theirs is open.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use nightgate_config::{Mirror, Sensor, SensorName};
use nightgate_mirror::{Health, Trouble};
use nightgate_netlink::{Neighbour, Netlink, NetlinkError};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

use super::ping::ping;

/// The health of sensors by their names.
pub type Healths = BTreeMap<SensorName, Health>;

/// Sensors that are out of order.
pub fn sensors_down(healths: &Healths) -> BTreeSet<SensorName> {
    let down = healths.iter().filter(|(_, health)| health.trouble.is_some());
    down.map(|(name, _)| name.clone()).collect()
}

/// Checks the sensors of a configuration until it is dropped.
#[derive(Debug)]
pub struct SensorWatch {
    newest: watch::Receiver<Healths>,
    _tasks: JoinSet<()>,
}

impl SensorWatch {
    /// Begins to check. All sensors are in order until checks say otherwise.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn start(mirror: &Mirror) -> Result<Self, NetlinkError> {
        let netlink = Arc::new(Netlink::connect()?);
        let health = |sensor: &Sensor| Health::new(sensor.check.failures);
        let healths = mirror.sensors.iter().map(|(name, sensor)| (name.clone(), health(sensor)));
        let (told, newest) = watch::channel(healths.collect());
        let told = Arc::new(told);
        let mut tasks = JoinSet::new();
        for (name, sensor) in &mirror.sensors {
            let (name, sensor) = (name.clone(), sensor.clone());
            tasks.spawn(look_after(name, sensor, Arc::clone(&netlink), Arc::clone(&told)));
        }
        Ok(Self { newest, _tasks: tasks })
    }

    /// Waits until the health of a sensor has changed.
    pub async fn changed(&mut self) -> Healths {
        if self.newest.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.newest.borrow_and_update().clone()
    }

    /// The health of the sensors.
    pub fn healths(&self) -> Healths {
        self.newest.borrow().clone()
    }
}

async fn look_after(
    name: SensorName,
    sensor: Sensor,
    netlink: Arc<Netlink>,
    told: Arc<watch::Sender<Healths>>,
) {
    let mut ticks = interval(sensor.check.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Identifier and sequence number: another sensor's answer is of another address.
    let mut token = std::process::id();
    loop {
        ticks.tick().await;
        token = token.wrapping_add(1);
        let check = check(&sensor, &netlink, token.to_be_bytes()).await;
        told.send_if_modified(|healths| {
            let Some(health) = healths.get_mut(&name) else { return false };
            let before = *health;
            health.note(check);
            if before.changes != health.changes {
                log(&name, health.trouble);
            }
            before.trouble != health.trouble
        });
    }
}

fn log(sensor: &SensorName, trouble: Option<Trouble>) {
    match trouble {
        Some(trouble) => {
            warn!(%sensor, trouble = trouble.as_str(), "the sensor gets no copies until it is back");
        }
        None => info!(%sensor, "the sensor is back"),
    }
}

/// Checks once; `token` tells an echo request from those before.
async fn check(sensor: &Sensor, netlink: &Netlink, token: [u8; 4]) -> Result<(), Trouble> {
    let interface = netlink.interface(sensor.interface.as_str()).await;
    let interface = interface.map_err(|_why| Trouble::NoInterface)?;
    if !interface.is_running {
        return Err(Trouble::LinkDown);
    }
    let Some(address) = sensor.address else { return Ok(()) };
    let hop = netlink.next_hop(address, &interface).await.map_err(|_why| Trouble::NoRoute)?;
    if hop.interface != interface.index {
        return Err(Trouble::NoRoute);
    }
    let neighbour = hop.gateway.unwrap_or(address);
    match netlink.ask_neighbour(neighbour, interface.index).await {
        Ok(Neighbour::Known) => {}
        Ok(Neighbour::Unknown) | Err(_) => return Err(Trouble::NoNeighbour),
    }
    if sensor.check.ping {
        let to = (address, sensor.interface.as_str());
        ping(to, token, sensor.check.every).await.map_err(|_why| Trouble::NoAnswer)?;
    }
    match sensor.check.tcp {
        Some(port) => connect(address, port, sensor.check.every).await,
        None => Ok(()),
    }
}

async fn connect(address: IpAddr, port: u16, time: Duration) -> Result<(), Trouble> {
    match timeout(time, TcpStream::connect(SocketAddr::new(address, port))).await {
        Ok(Ok(_connected)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Trouble::PortClosed),
    }
}
