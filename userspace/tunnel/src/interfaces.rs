//! The host's interfaces, as they come and go.

use nightgate_datapath::{IfIndex, TunnelInterface};
use nightgate_netlink::{
    InterfaceWatch, MIRROR_DEVICE, MIRROR_PEER, Netlink, NetlinkError, TUNNEL_MIRROR,
};
use tracing::warn;

/// The interfaces that packets leave by, followed.
#[derive(Debug)]
pub(crate) struct InterfaceList {
    netlink: Netlink,
    watch: InterfaceWatch,
    /// There was a change since they were listed.
    is_stale: bool,
}

impl InterfaceList {
    /// Follows changes from now on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn start() -> Result<Self, NetlinkError> {
        Ok(Self { netlink: Netlink::connect()?, watch: InterfaceWatch::start()?, is_stale: false })
    }

    /// Those that are there: neither the loopback interface nor those that copies for sensors pass.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) async fn list(&self) -> Result<Vec<TunnelInterface>, NetlinkError> {
        let all = self.netlink.interfaces().await?.into_iter();
        let outward = all.filter(|interface| leads_outward(&interface.name));
        let outward = outward.filter_map(|interface| {
            Some(TunnelInterface {
                index: IfIndex::new(interface.index.value())?,
                has_ethernet: interface.mac.is_some(),
                name: interface.name,
            })
        });
        Ok(outward.collect())
    }

    /// Waits until others may be there, and gives them. No change is lost if this is dropped before it completes.
    pub(crate) async fn changed(&mut self) -> Vec<TunnelInterface> {
        loop {
            if !self.is_stale {
                self.watch.changed().await;
                self.is_stale = true;
            }
            let listed = self.list().await;
            self.is_stale = false;
            match listed {
                Ok(list) => return list,
                Err(error) => {
                    warn!(%error, "interfaces cannot be listed; new ones are not looked after");
                }
            }
        }
    }
}

fn leads_outward(name: &str) -> bool {
    let [one, other] = TUNNEL_MIRROR;
    !["lo", MIRROR_DEVICE, MIRROR_PEER, one, other].contains(&name)
}
