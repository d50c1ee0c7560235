use futures_util::TryStreamExt;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcStats2};

use crate::{error::NetlinkError, handle::Netlink, interface::InterfaceIndex};

impl Netlink {
    /// Packets that the queue of an interface has dropped, for ever; 0 for one without a queue. A word of 32 bits, which
    /// begins anew after 2^32.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn queue_drops(&self, interface: InterfaceIndex) -> Result<u32, NetlinkError> {
        let failed = |error| {
            NetlinkError::request("list", format!("queues of interface {interface}"), error)
        };
        let index = interface.value().cast_signed();
        let mut queues = Box::pin(self.handle.qdisc().get().index(index).execute());
        let mut drops = 0;
        while let Some(queue) = queues.try_next().await.map_err(failed)? {
            if queue.header.index != index || queue.header.parent != TcHandle::ROOT {
                continue;
            }
            for attribute in &queue.attributes {
                let TcAttribute::Stats2(statistics) = attribute else { continue };
                for statistic in statistics {
                    if let TcStats2::Queue(found) = statistic {
                        drops = found.drops;
                    }
                }
            }
        }
        Ok(drops)
    }
}
