use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};

use crate::{
    error::{NetlinkError, is_errno},
    handle::Netlink,
    interface::{Interface, InterfaceIndex},
    prefix::Prefix,
    undo::{Step, Undo},
};

/// An address of an interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InterfaceAddress {
    /// The interface.
    pub interface: InterfaceIndex,
    /// The address.
    pub address: IpAddr,
    /// What it is good for.
    pub rank: AddressRank,
}

/// What an address of an interface is good for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum AddressRank {
    /// The host's packets to the world may come from it.
    Primary,
    /// As [`AddressRank::Primary`], but the kernel prefers others.
    Secondary,
    /// It is valid on the link only, or not yet or no longer in use.
    Unfit,
}

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

    /// Lists the addresses of all interfaces, in the kernel's order.
    pub async fn addresses(&self) -> Result<Vec<InterfaceAddress>, NetlinkError> {
        let failed = |error| NetlinkError::request("list", "addresses", error);
        let messages: Vec<AddressMessage> =
            self.handle.address().get().execute().try_collect().await.map_err(failed)?;
        Ok(messages.iter().filter_map(address_from).collect())
    }
}

fn address_from(message: &AddressMessage) -> Option<InterfaceAddress> {
    let (mut local, mut far) = (None, None);
    for attribute in &message.attributes {
        if let AddressAttribute::Local(address) = attribute {
            local = Some(*address);
        } else if let AddressAttribute::Address(address) = attribute {
            far = Some(*address);
        }
    }
    // On a link between two hosts one attribute is the far end's; elsewhere there may be only that one.
    let address = local.or(far);
    let unfit = AddressHeaderFlags::Tentative
        .union(AddressHeaderFlags::Dadfailed)
        .union(AddressHeaderFlags::Deprecated);
    let flags = message.header.flags;
    let rank = if message.header.scope != AddressScope::Universe || flags.intersects(unfit) {
        AddressRank::Unfit
    } else if flags.contains(AddressHeaderFlags::Secondary) {
        AddressRank::Secondary
    } else {
        AddressRank::Primary
    };
    Some(InterfaceAddress {
        interface: InterfaceIndex::new(message.header.index)?,
        address: address?,
        rank,
    })
}
