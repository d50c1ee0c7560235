use std::pin::Pin;

use futures_util::{FutureExt, Stream, StreamExt};
use rtnetlink::MulticastGroup;
use tokio::task::JoinHandle;

use crate::error::NetlinkError;

/// Tells when interfaces or their addresses come, go or change, in the network namespace of the thread that started it.
pub struct InterfaceWatch {
    changes: Pin<Box<dyn Stream<Item = ()> + Send>>,
    connection: JoinHandle<()>,
}

impl InterfaceWatch {
    /// Starts to watch, on the current tokio runtime until dropped.
    pub fn start() -> Result<Self, NetlinkError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, _, messages) = rtnetlink::new_multicast_connection(&groups)
            .map_err(|source| NetlinkError::Connect { source })?;
        let changes = Box::pin(messages.map(drop));
        Ok(Self { changes, connection: tokio::spawn(connection) })
    }

    /// Waits for a change, or several at once. May tell of one that changes nothing.
    pub async fn changed(&mut self) {
        if self.changes.next().await.is_none() {
            // The connection is over; there is nothing left to wait for.
            std::future::pending::<()>().await;
        }
        while let Some(Some(())) = self.changes.next().now_or_never() {}
    }
}

impl std::fmt::Debug for InterfaceWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InterfaceWatch").finish_non_exhaustive()
    }
}

impl Drop for InterfaceWatch {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
