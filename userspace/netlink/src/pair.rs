//! Pairs of virtual Ethernet interfaces of the product's own.

use rtnetlink::{LinkVeth, packet_route::link::InfoKind};

use crate::{
    error::NetlinkError,
    handle::Netlink,
    undo::{Step, Undo},
};

impl Netlink {
    /// Makes a pair in the place of one that an earlier run has left.
    pub(crate) async fn create_pair(
        &self,
        [device, peer]: [&'static str; 2],
    ) -> Result<Undo, NetlinkError> {
        self.remove_pair([device, peer]).await?;
        let link = LinkVeth::new(device, peer).build();
        let failed = |error| NetlinkError::request("create", format!("veth {device}"), error);
        self.handle.link().add(link).execute().await.map_err(failed)?;
        let index = self.interface(device).await?.index.value();
        Ok(Undo::of(Step::DeleteLink { name: device, index }))
    }

    /// Removes a pair; nothing there is no error.
    pub(crate) async fn remove_pair(&self, names: [&'static str; 2]) -> Result<(), NetlinkError> {
        for name in names {
            // Deleting one end deletes the other.
            let Some(interface) = self.find_interface(name).await? else { continue };
            if interface.kind != Some(InfoKind::Veth) {
                return Err(NetlinkError::NameTaken { name });
            }
            let failed = |error| NetlinkError::request("delete", format!("veth {name}"), error);
            self.handle.link().del(interface.index.value()).execute().await.map_err(failed)?;
        }
        Ok(())
    }
}
