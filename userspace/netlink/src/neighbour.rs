use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::{
    AddressFamily,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};

use crate::{error::NetlinkError, handle::Netlink, interface::InterfaceIndex};

/// Whether the kernel knows somebody's link address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Neighbour {
    /// It does.
    Known,
    /// It asked and has no answer, or never asked.
    Unknown,
}

impl Netlink {
    /// Says whether a neighbour's link address is known, and has the kernel ask for it now: what it knows is from its last
    /// answer. One that does not answer is [`Neighbour::Unknown`] after three questions, a second between two
    /// (`ucast_solicit` and `retrans_time_ms` of the kernel's neighbour tables).
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn ask_neighbour(
        &self,
        address: IpAddr,
        interface: InterfaceIndex,
    ) -> Result<Neighbour, NetlinkError> {
        let state = self.neighbour_state(address, interface).await?;
        let add = self.handle.neighbours().add(interface.value(), address).replace();
        // What an operator has written is not asked for, and a question that is out is not asked again.
        if [NeighbourState::Permanent, NeighbourState::Noarp, NeighbourState::Probe]
            .contains(&state)
        {
            return Ok(Neighbour::Known);
        }
        if [NeighbourState::Reachable, NeighbourState::Stale, NeighbourState::Delay]
            .contains(&state)
        {
            // It may have been forgotten in between; the next time tells.
            drop(add.state(NeighbourState::Probe).execute().await);
            return Ok(Neighbour::Known);
        }
        let add = add.state(NeighbourState::None).flags(NeighbourFlags::Use);
        add.execute().await.map_err(|error| {
            NetlinkError::request("ask for", format!("neighbour {address}"), error)
        })?;
        Ok(Neighbour::Unknown)
    }

    async fn neighbour_state(
        &self,
        address: IpAddr,
        interface: InterfaceIndex,
    ) -> Result<NeighbourState, NetlinkError> {
        let mut neighbours = Box::pin(self.handle.neighbours().get().execute());
        let mut state = NeighbourState::None;
        while let Some(neighbour) = neighbours.try_next().await.map_err(|error| {
            NetlinkError::request("list", format!("neighbours of interface {interface}"), error)
        })? {
            if neighbour.header.ifindex == interface.value() && is_of(&neighbour, address) {
                state = neighbour.header.state;
            }
        }
        Ok(state)
    }
}

fn is_of(neighbour: &NeighbourMessage, address: IpAddr) -> bool {
    let wanted = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    neighbour.header.family == wanted.0
        && neighbour.attributes.contains(&NeighbourAttribute::Destination(wanted.1))
}
