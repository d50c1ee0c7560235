use std::net::IpAddr;

use rtnetlink::LinkUnspec;

use crate::{error::NetlinkError, family::Family, handle::Netlink, sysctl, undo::Undo};

/// The interface that tells systemd-resolved of the private DNS.
pub const DNS_DEVICE: &str = "ngdns0";
/// Its other end, without which it would have no carrier.
const DNS_PEER: &str = "ngdns1";
/// An address that no host has and no packet goes to: resolved takes no notice of interfaces without one (the IPv4 dummy
/// address, RFC 7600 section 4.8).
const ADDRESS: [u8; 4] = [192, 0, 0, 8];

impl Netlink {
    /// Makes the interface that systemd-resolved's settings for the private DNS go with: what is set for an interface
    /// ends with it. One that an earlier run has left is replaced.
    ///
    /// # Errors
    /// The kernel refuses, or somebody else's interface has the name.
    pub async fn create_dns_link(&self) -> Result<Undo, NetlinkError> {
        let undo = self.create_pair([DNS_DEVICE, DNS_PEER]).await?;
        match self.set_up_dns_link().await {
            Ok(()) => Ok(undo),
            Err(error) => {
                if let Err(left) = self.undo(undo).await {
                    tracing::warn!(error = %left, "the interface of the private DNS stays behind");
                }
                Err(error)
            }
        }
    }

    /// Removes what a killed process has left; nothing there is no error.
    ///
    /// # Errors
    /// The kernel refuses, or somebody else's interface has the name.
    pub async fn remove_dns_link(&self) -> Result<(), NetlinkError> {
        self.remove_pair([DNS_DEVICE, DNS_PEER]).await
    }

    async fn set_up_dns_link(&self) -> Result<(), NetlinkError> {
        for name in [DNS_DEVICE, DNS_PEER] {
            sysctl::set(Family::V6, name, "disable_ipv6", "1")?;
            let change = LinkUnspec::new_with_name(name).arp(false).up().build();
            let failed =
                |error| NetlinkError::request("switch on", format!("interface {name}"), error);
            self.handle.link().change(change).execute().await.map_err(failed)?;
        }
        let index = self.interface(DNS_DEVICE).await?.index.value();
        let address = IpAddr::from(ADDRESS);
        let failed = |error| {
            NetlinkError::request("add", format!("address {address} of {DNS_DEVICE}"), error)
        };
        self.handle.address().add(index, address, 32).execute().await.map_err(failed)
    }
}
