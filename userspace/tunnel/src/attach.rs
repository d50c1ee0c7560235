//! Where the hooks are: on cgroups, or, where these are not to be had, on the interfaces that packets leave by.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use nightgate_abi::tunnel::{SLOTS, flag};
use nightgate_datapath::{Tunnel, TunnelHooks, TunnelInterface, TunnelPlace};
use nightgate_gateway::gateway::INTERCEPTION;
use nightgate_netlink::{Netlink, Undo};
use tracing::warn;

use crate::{
    interfaces::InterfaceList,
    sockets::Sockets,
    tunneler::{TunnelConfig, TunnelError},
};

/// What the hooks are to be attached to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Attach {
    /// Cgroups, and where that fails, interfaces.
    #[default]
    Auto,
    /// Cgroups.
    Cgroup,
    /// Interfaces.
    Tc,
}

impl FromStr for Attach {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "cgroup" => Ok(Self::Cgroup),
            "tc" => Ok(Self::Tc),
            _ => Err(format!("{text:?}, expected auto, cgroup or tc")),
        }
    }
}

/// Programs that turn nobody to the tunneler: copies for sensors alone.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn nowhere() -> Result<Tunnel, TunnelError> {
    let hooks = TunnelHooks::Cgroups(Vec::new());
    let (tcp_port, udp_ports) = (0, [0; SLOTS as usize]);
    Ok(Tunnel::start(&TunnelPlace { hooks, tcp_port, udp_ports, flags: 0, pins: None })?)
}

/// Hooks and the sockets that they lead to.
pub(crate) struct Attached {
    pub(crate) tunnel: Tunnel,
    pub(crate) sockets: Sockets,
    pub(crate) place: Place,
}

/// What the hooks are attached to.
pub(crate) enum Place {
    /// These cgroups.
    Cgroups(Vec<PathBuf>),
    /// All interfaces but the loopback one.
    Interfaces(Box<Interfaces>),
}

/// What hooks on interfaces need.
pub(crate) struct Interfaces {
    netlink: Netlink,
    undo: Undo,
    list: InterfaceList,
    pub(crate) names: Vec<String>,
}

/// Attaches the hooks as the configuration wants it.
pub(crate) async fn attach(config: &TunnelConfig) -> Result<Attached, TunnelError> {
    let asks_for_programs = !config.cgroups.is_empty() || !config.policy.is_empty();
    match config.attach {
        Attach::Cgroup => to_cgroups(config),
        Attach::Tc if asks_for_programs => Err(TunnelError::Programs),
        Attach::Tc => to_interfaces(config).await,
        Attach::Auto => match to_cgroups(config) {
            Err(error) if !asks_for_programs => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "no hooks on cgroups: interception falls back to TC on the way out of interfaces, where the \
                     programs are not known"
                );
                to_interfaces(config).await
            }
            attached => attached,
        },
    }
}

fn to_cgroups(config: &TunnelConfig) -> Result<Attached, TunnelError> {
    let cgroups =
        if config.cgroups.is_empty() { vec![whole_host()?] } else { config.cgroups.clone() };
    let sockets = Sockets::open().map_err(TunnelError::Sockets)?;
    let hooks = TunnelHooks::Cgroups(cgroups.clone());
    let tunnel = Tunnel::start(&place(config, hooks, &sockets).map_err(TunnelError::Sockets)?)?;
    Ok(Attached { tunnel, sockets, place: Place::Cgroups(cgroups) })
}

async fn to_interfaces(config: &TunnelConfig) -> Result<Attached, TunnelError> {
    let sockets = Sockets::open_transparent().map_err(TunnelError::Sockets)?;
    let netlink = Netlink::connect()?;
    // Before the interfaces are looked at, so that none is missed.
    let list = InterfaceList::start()?;
    let found = list.list().await?;
    let names = names(&found);
    let mut undo = netlink.intercept(INTERCEPTION).await?;
    let started = netlink.admit_own_sources().map_err(TunnelError::from).and_then(|settings| {
        undo.append(settings);
        let place = place(config, TunnelHooks::Interfaces(found), &sockets);
        Ok(Tunnel::start(&place.map_err(TunnelError::Sockets)?)?)
    });
    let place = Interfaces { netlink, undo, list, names };
    match started {
        Ok(tunnel) => Ok(Attached { tunnel, sockets, place: Place::Interfaces(Box::new(place)) }),
        Err(error) => {
            place.close().await;
            Err(error)
        }
    }
}

fn place(config: &TunnelConfig, hooks: TunnelHooks, sockets: &Sockets) -> io::Result<TunnelPlace> {
    let closed = if config.fail_closed.is_some() { flag::FAIL_CLOSED } else { 0 };
    let dns = if config.dns { flag::DNS } else { 0 };
    Ok(TunnelPlace {
        hooks,
        tcp_port: sockets.tcp_port()?,
        udp_ports: sockets.udp_ports()?,
        flags: closed | dns,
        pins: config.fail_closed.clone(),
    })
}

fn names(list: &[TunnelInterface]) -> Vec<String> {
    list.iter().map(|interface| interface.name.clone()).collect()
}

impl Place {
    /// Waits until other interfaces may be there, and gives them.
    pub(crate) async fn changed(&mut self) -> Vec<TunnelInterface> {
        let Self::Interfaces(place) = self else { return std::future::pending().await };
        let list = place.list.changed().await;
        place.names = names(&list);
        list
    }

    /// Takes back what was changed of the host.
    pub(crate) async fn close(self) {
        if let Self::Interfaces(place) = self {
            place.close().await;
        }
    }
}

impl Interfaces {
    async fn close(self) {
        if let Err(error) = self.netlink.undo(self.undo).await {
            warn!(%error, "part of the interception's routing stays behind");
        }
    }
}

/// The root of the cgroup v2 hierarchy.
fn whole_host() -> Result<PathBuf, TunnelError> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(TunnelError::NoCgroups)?;
    // Device, folder, kind, options: fstab(5).
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let folder =
        fields.filter(|it| it.get(2) == Some(&"cgroup2")).find_map(|it| it.get(1).copied());
    folder
        .map(|folder| Path::new(folder).to_owned())
        .ok_or_else(|| TunnelError::NoCgroups(io::ErrorKind::NotFound.into()))
}
