use crate::{
    error::{NetlinkError, is_errno},
    handle::Netlink,
    interface::Interface,
    prefix::Prefix,
    undo::{Step, Undo},
};

impl Netlink {
    /// Gives an interface an address. One that is there already stays, and the undo leaves it.
    pub async fn add_address(
        &self,
        interface: &Interface,
        address: Prefix,
    ) -> Result<Undo, NetlinkError> {
        let index = interface.index.value();
        let request = self.handle.address().add(index, address.address(), address.length());
        match request.execute().await {
            Ok(()) => Ok(Undo::of(Step::RemoveAddress {
                interface: interface.name.clone(),
                index,
                address,
            })),
            Err(error) if is_errno(&error, libc::EEXIST) => Ok(Undo::nothing()),
            Err(error) => Err(NetlinkError::request(
                "add address",
                format!("{address} on {}", interface.name),
                error,
            )),
        }
    }
}
