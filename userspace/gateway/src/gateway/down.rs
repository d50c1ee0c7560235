//! Taking a gateway's part of the host away, when no process runs.

use std::{os::unix::net::UnixStream, path::PathBuf};

use nightgate_config::Config;
use nightgate_datapath::{PinError, Pins};
use nightgate_netlink::{Netlink, NetlinkError};

use super::INTERCEPTION;

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

/// Takes the firewall off every interface, which carries everything then, and removes the routing and the
/// mirror's interfaces that a killed process may have left.
///
/// # Errors
/// The gateway's process runs, or something cannot be removed.
pub async fn down(config: &Config, pins: &Pins) -> Result<WasUp, DownError> {
    if UnixStream::connect(&config.admin_socket).is_ok() {
        return Err(DownError::Running { socket: config.admin_socket.clone() });
    }
    let was_up = if pins.exist() { WasUp::Yes } else { WasUp::No };
    pins.remove()?;
    let netlink = Netlink::connect()?;
    // What is ours and there already is taken over, so that it can be undone.
    let mut undo = netlink.intercept(INTERCEPTION).await?;
    if config.gateway.as_ref().is_some_and(|gateway| gateway.mirror.is_some()) {
        undo.append(netlink.create_mirror_pair().await?.1);
    }
    netlink.undo(undo).await?;
    Ok(was_up)
}
