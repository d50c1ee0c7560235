//! Taking a gateway's part of the host away, when no process runs.

use std::{os::unix::net::UnixStream, path::PathBuf};

use nightgate_config::Config;
use nightgate_datapath::{IfIndex, PinError, Pins};
use nightgate_netlink::{MIRROR_DEVICE, MIRROR_PEER, Netlink, NetlinkError};

use super::INTERCEPTION;
use crate::{
    resolver::{Resolver, ResolverError},
    state::StateFolder,
};

/// A gateway that cannot be taken down.
#[derive(Debug, thiserror::Error)]
pub enum DownError {
    /// It would put everything back.
    #[error(
        "take the gateway down: its process answers at {}, expected none: stop it first",
        socket.display()
    )]
    Running {
        /// Its admin socket.
        socket: PathBuf,
    },
    /// The kernel programs stay.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The host's resolver still asks the private DNS.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// Routing stays changed.
    #[error(transparent)]
    Host(#[from] NetlinkError),
}

/// Whether there was anything to take away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WasUp {
    /// The firewall was in force.
    Yes,
    /// Nothing was there.
    No,
}

/// Says what [`down`] would take away: pinned links and maps, notes, and the mirror's interfaces.
///
/// # Errors
/// The gateway's process runs, or what there is cannot be listed.
pub fn what_is_up(config: &Config, pins: &Pins) -> Result<Vec<String>, DownError> {
    refuse_if_running(config)?;
    let mut list: Vec<String> = pins.files()?.iter().map(|p| p.display().to_string()).collect();
    let pair = [MIRROR_DEVICE, MIRROR_PEER].into_iter();
    let pair = pair.filter(|name| has_mirror(config) && IfIndex::of(name).is_ok());
    list.extend(pair.map(|name| format!("interface {name}")));
    Ok(list)
}

/// Takes the firewall off every interface, which carries everything then, removes the routing and the
/// mirror's interfaces that a killed process may have left, and gives the host's resolver back.
///
/// # Errors
/// The gateway's process runs, or something cannot be removed.
pub async fn down(config: &Config, pins: &Pins, state: &StateFolder) -> Result<WasUp, DownError> {
    refuse_if_running(config)?;
    Resolver::give_back(state)?;
    let was_up = if pins.exist() { WasUp::Yes } else { WasUp::No };
    pins.remove()?;
    let netlink = Netlink::connect()?;
    // What is ours and there already is taken over, so that it can be undone.
    let mut undo = netlink.intercept(INTERCEPTION).await?;
    netlink.remove_dns_link().await?;
    if has_mirror(config) {
        undo.append(netlink.create_mirror_pair().await?.1);
    }
    netlink.undo(undo).await?;
    Ok(was_up)
}

fn refuse_if_running(config: &Config) -> Result<(), DownError> {
    match UnixStream::connect(&config.admin_socket) {
        Ok(_) => Err(DownError::Running { socket: config.admin_socket.clone() }),
        Err(_) => Ok(()),
    }
}

fn has_mirror(config: &Config) -> bool {
    config.gateway.as_ref().is_some_and(|gateway| gateway.mirror.is_some())
}
