//! VLAN devices: whose frames their carriers let pass.

use std::{fs, io};

use nightgate_abi::{maps, vlan::VlanKey};

use crate::{
    datapath::Datapath,
    error::DatapathError,
    interface::IfIndex,
    map::{self, failed},
};

/// Where the kernel says which VLAN a device is for, in the calling thread's network namespace.
const DEVICES: &str = "/proc/thread-self/net/vlan";

impl Datapath {
    /// Lets tagged frames pass to and from an interface that is a VLAN device and has the programs.
    pub(crate) fn open_vlan(
        &mut self,
        interface: &str,
        index: IfIndex,
    ) -> Result<(), DatapathError> {
        let Some(key) = vlan(interface)? else {
            return Ok(());
        };
        let carrier = IfIndex::new(key.ifindex).ok_or_else(|| DatapathError::Vlan {
            interface: interface.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        self.carry_vlan(carrier, key.id, index)
    }

    /// Lets frames with the tag of a VLAN pass an interface, to and from the VLAN's device. [`Datapath::attach`]
    /// does so for VLAN devices.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn carry_vlan(
        &mut self,
        carrier: IfIndex,
        id: u16,
        device: IfIndex,
    ) -> Result<(), DatapathError> {
        map::hash_mut(&mut self.ebpf, maps::VLANS)?
            .insert(VlanKey::new(carrier.get(), id), device.get(), 0)
            .map_err(failed("write", maps::VLANS))
    }

    /// Refuses tagged frames for a device that has no programs any more.
    pub(crate) fn close_vlan(&mut self, index: IfIndex) -> Result<(), DatapathError> {
        let mut vlans = map::hash_mut::<VlanKey, u32>(&mut self.ebpf, maps::VLANS)?;
        let entries: Vec<_> =
            vlans.iter().collect::<Result<_, _>>().map_err(failed("read", maps::VLANS))?;
        for (key, _) in entries.into_iter().filter(|(_, device)| *device == index.get()) {
            map::removed(vlans.remove(&key)).map_err(failed("write", maps::VLANS))?;
        }
        Ok(())
    }
}

/// The VLAN that a device is for; `None` if it is no VLAN device.
fn vlan(interface: &str) -> Result<Option<VlanKey>, DatapathError> {
    let unreadable = |source| DatapathError::Vlan { interface: interface.to_owned(), source };
    let text = match fs::read_to_string(format!("{DEVICES}/{interface}")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let (id, carrier) =
        parse(&text).ok_or_else(|| unreadable(io::ErrorKind::InvalidData.into()))?;
    Ok(Some(VlanKey::new(IfIndex::of(carrier)?.get(), id)))
}

/// The identifier and the interface that carries it, of a device's description.
fn parse(text: &str) -> Option<(u16, &str)> {
    let after = |word: &str| text.split_once(word)?.1.split_whitespace().next();
    Some((after("VID:")?.parse().ok()?, after("Device:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_of_a_device_names_its_vlan_and_carrier() {
        let text = "lan0.10  VID: 10\t REORDER_HDR: 1  dev->priv_flags: 1021\n         total frames received            \
                    0\nDevice: lan0\nINGRESS priority mappings: 0:0\n";
        assert_eq!(parse(text), Some((10, "lan0")));
        assert_eq!(parse("Device: lan0"), None);
    }
}
