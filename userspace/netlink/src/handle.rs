use rtnetlink::Handle;
use tokio::task::JoinHandle;

use crate::error::NetlinkError;

/// A connection to the kernel's network configuration.
///
/// It belongs to the network namespace of the thread that opened it. Interfaces' offloads and
/// kernel parameters are reached from the calling thread, so use it in that same namespace.
#[derive(Debug)]
pub struct Netlink {
    pub(crate) handle: Handle,
    connection: JoinHandle<()>,
}

impl Netlink {
    /// Opens the connection and drives it on the current tokio runtime until dropped.
    pub fn connect() -> Result<Self, NetlinkError> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| NetlinkError::Connect { source })?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
