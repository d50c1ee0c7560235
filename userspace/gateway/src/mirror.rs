//! What the mirror needs from the host: the way to each sensor.

mod health;
mod ping;
mod remote;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use nightgate_config::{Gateway, InterfaceName, Mirror, SensorName};
use nightgate_mirror::{Plan, PlanError, SensorPath};
use nightgate_netlink::{Netlink, NetlinkError};

pub use self::health::{Healths, SensorWatch, sensors_down};
pub(crate) use self::remote::wishes;
pub use self::remote::{Wish, Wishes};
pub use self::steps::{announce, settle};

/// Sessions, and what of the controller's wishes is not among them, with the reason, for people.
pub type Planned = (Plan, BTreeSet<String>);

/// A mirror that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The host's configuration does not allow it.
    #[error(transparent)]
    Host(#[from] NetlinkError),
    /// The sessions do not fit the host.
    #[error("{}", lines(.0))]
    Plan(Vec<PlanError>),
}

/// [`plan_sessions`] of a gateway.
///
/// # Errors
/// Likewise.
pub(crate) async fn plan(
    netlink: &Netlink,
    gateway: &Gateway,
    (mirror, wishes): (&Mirror, &[Wish]),
) -> Result<Planned, MirrorError> {
    let frame_mtu = largest_mtu(netlink, gateway, mirror).await?;
    plan_sessions(netlink, (mirror, wishes), frame_mtu).await
}

/// Finds the way to each sensor and plans the sessions, and those that the controller asks for behind them. One of these
/// that does not fit is left out. Changes nothing. `frame_mtu` is the largest MTU of the interfaces whose
/// packets are copied, in bytes.
///
/// # Errors
/// A sensor of the configuration's own sessions cannot be reached as configured.
pub async fn plan_sessions(
    netlink: &Netlink,
    (mirror, wishes): (&Mirror, &[Wish]),
    frame_mtu: u32,
) -> Result<Planned, MirrorError> {
    let mut left_out = BTreeSet::new();
    let mut all = mirror.clone();
    let mut plan = fit(netlink, &all, frame_mtu).await?;
    for wish in wishes {
        let Some(session) = wish.session(&all) else { continue };
        let fits = match session {
            Ok(session) => {
                all.sessions.push(session);
                fit(netlink, &all, frame_mtu).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error),
        };
        match fits {
            Ok(with_it) => plan = with_it,
            Err(error) => {
                left_out.insert(error);
                all.sessions.truncate(plan.sessions().len());
            }
        }
    }
    Ok((plan, left_out))
}

async fn fit(netlink: &Netlink, mirror: &Mirror, frame_mtu: u32) -> Result<Plan, MirrorError> {
    let paths = sensor_paths(netlink, mirror).await?;
    Plan::new(mirror, &paths, frame_mtu).map_err(MirrorError::Plan)
}

/// Finds the way to each sensor that a session uses. Changes nothing.
///
/// # Errors
/// An interface is missing, or a sensor has no route.
async fn sensor_paths(
    netlink: &Netlink,
    mirror: &Mirror,
) -> Result<BTreeMap<SensorName, SensorPath>, NetlinkError> {
    let used = mirror.sessions.iter().flat_map(|session| &session.sensors).collect::<BTreeSet<_>>();
    let mut paths = BTreeMap::new();
    for (name, sensor) in mirror.sensors.iter().filter(|(name, _)| used.contains(name)) {
        let interface = netlink.interface(sensor.interface.as_str()).await?;
        let source = match sensor.address {
            Some(address) => Some(netlink.next_hop(address, &interface).await?.source),
            None => None,
        };
        let (ifindex, mtu) = (interface.index.value(), interface.mtu);
        let path = SensorPath { ifindex, mtu, source, cuts: interface.cuts_segments()? };
        paths.insert(name.clone(), path);
    }
    Ok(paths)
}

/// Copies are made on any of the firewall's interfaces; those towards sensors carry no services.
async fn largest_mtu(
    netlink: &Netlink,
    gateway: &Gateway,
    mirror: &Mirror,
) -> Result<u32, NetlinkError> {
    let mut largest = 0;
    let to_sensor = |interface: &InterfaceName| {
        mirror.sensors.values().any(|sensor| sensor.interface == *interface)
    };
    let interfaces = gateway.zones.values().flat_map(|zone| &zone.interfaces);
    for interface in interfaces.filter(|interface| !to_sensor(interface)) {
        match netlink.interface(interface.as_str()).await {
            Ok(interface) => largest = largest.max(interface.mtu),
            // One that comes later is taken for no larger than the others.
            Err(NetlinkError::NoInterface { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(largest)
}

fn lines(errors: &[PlanError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
