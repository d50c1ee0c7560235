use rtnetlink::LinkUnspec;

use crate::{
    error::NetlinkError, family::Family, handle::Netlink, interface::Interface, offload, sysctl,
    undo::Undo,
};

/// End of the mirror's veth pair that copies are sent into.
pub const MIRROR_DEVICE: &str = "ngmir0";

/// End of the mirror's veth pair where copies are encapsulated.
pub const MIRROR_PEER: &str = "ngmir1";

/// Both ends of a tunneler's pair, which a gateway of the same host has nothing to do with.
pub const TUNNEL_MIRROR: [&str; 2] = ["ngtun0", "ngtun1"];

/// MTU of both ends, bytes: the largest an Ethernet interface has (`ETH_MAX_MTU`, linux/if_ether.h),
/// so that no copy is dropped for its length before it can be counted.
const MTU: u32 = 65_535;

/// The veth pair through which every mirrored frame passes.
///
/// With all offloads off it turns the kernel's large frames with unfinished checksums into the
/// frames a wire would carry.
#[derive(Debug)]
pub struct MirrorPair {
    /// [`MIRROR_DEVICE`], or the first of [`TUNNEL_MIRROR`]: programs clone frames into it; the encapsulating program sits at its egress too, for those
    /// that may go around the pair.
    pub device: Interface,
    /// [`MIRROR_PEER`], or the second: the encapsulating program sits at its ingress.
    pub peer: Interface,
}

impl Netlink {
    /// Makes the mirror's veth pair and switches it on: offloads off, IPv6 off, largest MTU.
    ///
    /// A pair left behind by an earlier run is replaced. Both ends forward (a kernel parameter), as
    /// the encapsulating program's route lookups happen on their behalf; they have no address, and
    /// nothing but that program receives from them.
    pub async fn create_mirror_pair(&self) -> Result<(MirrorPair, Undo), NetlinkError> {
        self.create_mirror_pair_of([MIRROR_DEVICE, MIRROR_PEER], None).await
    }

    /// As [`Self::create_mirror_pair`], with the names of [`TUNNEL_MIRROR`]. Who has made it is noted as the alias of both.
    pub async fn create_tunnel_mirror(
        &self,
        owner: &str,
    ) -> Result<(MirrorPair, Undo), NetlinkError> {
        self.create_mirror_pair_of(TUNNEL_MIRROR, Some(owner)).await
    }

    /// The end of a tunneler's pair where copies are encapsulated, if there is one.
    pub async fn tunnel_mirror(&self) -> Result<Option<Interface>, NetlinkError> {
        self.find_interface(TUNNEL_MIRROR[1]).await
    }

    async fn create_mirror_pair_of(
        &self,
        names: [&'static str; 2],
        owner: Option<&str>,
    ) -> Result<(MirrorPair, Undo), NetlinkError> {
        let undo = self.create_pair(names).await?;
        match self.set_up_pair(names, owner).await {
            Ok(pair) => Ok((pair, undo)),
            Err(error) => {
                if let Err(left) = self.undo(undo).await {
                    tracing::warn!(error = %left, "the mirror's interfaces stay behind");
                }
                Err(error)
            }
        }
    }

    async fn set_up_pair(
        &self,
        names: [&'static str; 2],
        owner: Option<&str>,
    ) -> Result<MirrorPair, NetlinkError> {
        for name in names {
            offload::switch_off(name)?;
            sysctl::set(Family::V6, name, "disable_ipv6", "1")?;
            for family in Family::BOTH {
                sysctl::set(family, name, "forwarding", "1")?;
            }
        }
        for name in names {
            let change = LinkUnspec::new_with_name(name).mtu(MTU).arp(false).up();
            let change = match owner {
                Some(owner) => change.alias(owner),
                None => change,
            };
            self.handle.link().change(change.build()).execute().await.map_err(|error| {
                NetlinkError::request("switch on", format!("interface {name}"), error)
            })?;
        }
        let [device, peer] = names;
        Ok(MirrorPair { device: self.interface(device).await?, peer: self.interface(peer).await? })
    }
}
