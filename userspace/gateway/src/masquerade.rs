//! The addresses that masqueraded flows get: those of the interfaces that they leave by.

use std::{collections::BTreeSet, net::IpAddr};

use nightgate_datapath::{DatapathError, IfIndex};
use nightgate_netlink::{AddressRank, InterfaceAddress, Netlink, NetlinkError};
use tracing::{info, warn};

use crate::firewall::Firewall;

/// The addresses of this host's interfaces.
pub(crate) struct AddressBook(Netlink);

impl AddressBook {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        Netlink::connect().map(Self)
    }

    /// Tells the kernel programs the addresses as they are.
    pub(crate) async fn apply(&self, firewall: &mut Firewall) {
        let addresses = match self.0.addresses().await {
            Ok(addresses) => addresses,
            Err(error) => {
                warn!(%error, "masqueraded flows get the addresses known last");
                return;
            }
        };
        if let Err(error) = firewall.follow_addresses(&addresses) {
            warn!(%error, "masqueraded flows get the addresses known last");
        }
    }
}

impl Firewall {
    /// Says which addresses the host's interfaces have: masqueraded flows that begin get them, and those with an
    /// address that an interface has no more end.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn follow_addresses(
        &mut self,
        addresses: &[InterfaceAddress],
    ) -> Result<(), DatapathError> {
        let known: BTreeSet<(u32, IpAddr)> =
            addresses.iter().map(|entry| (entry.interface.value(), entry.address)).collect();
        let interfaces: Vec<IfIndex> =
            self.datapath.interfaces().map(|(index, ..)| index).collect();
        for interface in interfaces {
            self.datapath.set_addresses(interface, &best(interface, addresses))?;
        }
        let is_lost = self.addresses.as_ref().is_none_or(|before| !before.is_subset(&known));
        if is_lost {
            let is_kept = |interface: IfIndex, address| known.contains(&(interface.get(), address));
            let ended = self.datapath.end_masqueraded(is_kept)?;
            if ended > 0 {
                info!(ended, "ended masqueraded flows of addresses that are gone");
            }
        }
        self.addresses = Some(known);
        Ok(())
    }
}

/// The address of each family that the interface's masqueraded flows get: the kernel's first choice among those
/// that can be seen by the world.
fn best(interface: IfIndex, addresses: &[InterfaceAddress]) -> Vec<IpAddr> {
    let first = |is_ipv4: bool| {
        addresses
            .iter()
            .filter(|entry| entry.interface.value() == interface.get())
            .filter(|entry| entry.address.is_ipv4() == is_ipv4 && entry.rank != AddressRank::Unfit)
            .min_by_key(|entry| entry.rank)
            .map(|entry| entry.address)
    };
    [first(true), first(false)].into_iter().flatten().collect()
}
