//! The offload barrier: what must be off so that a frame leaves an interface as it would on a wire.

use crate::{error::NetlinkError, ioctl::ethtool};

/// One offload: its name in `ethtool -k` and its commands in linux/ethtool.h.
struct Offload {
    name: &'static str,
    read: u32,
    write: u32,
}

/// In this order, because checksumming on transmit is what the others depend on.
const OFFLOADS: [Offload; 5] = [
    Offload { name: "tx-checksumming", read: 0x16, write: 0x17 },
    Offload { name: "scatter-gather", read: 0x18, write: 0x19 },
    Offload { name: "tcp-segmentation-offload", read: 0x1e, write: 0x1f },
    Offload { name: "generic-segmentation-offload", read: 0x23, write: 0x24 },
    Offload { name: "generic-receive-offload", read: 0x2b, write: 0x2c },
];

/// Whether an interface leaves nothing to its hardware: the kernel segments what leaves it, and finishes the checksums.
pub(crate) fn is_off(interface: &str) -> Result<bool, NetlinkError> {
    for name in ["tx-checksumming", "tcp-segmentation-offload"] {
        let offload = OFFLOADS.iter().find(|offload| offload.name == name);
        let state = offload.map_or(Ok(0), |offload| ethtool(interface, offload.read, 0));
        let state = state
            .map_err(|source| NetlinkError::io("read", format!("{name} of {interface}"), source))?;
        if state != 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Switches every offload off and verifies that it is.
///
/// Frames of local sockets are up to 64 KiB long and carry unfinished checksums. An interface
/// without these offloads makes the kernel segment them and finish the checksums in software.
pub(crate) fn switch_off(interface: &str) -> Result<(), NetlinkError> {
    for offload in &OFFLOADS {
        ethtool(interface, offload.write, 0).map_err(|source| {
            NetlinkError::io("switch off", format!("{} of {interface}", offload.name), source)
        })?;
    }
    for offload in &OFFLOADS {
        let state = ethtool(interface, offload.read, 0).map_err(|source| {
            NetlinkError::io("read", format!("{} of {interface}", offload.name), source)
        })?;
        if state != 0 {
            return Err(NetlinkError::OffloadStuck {
                interface: interface.to_owned(),
                feature: offload.name,
            });
        }
    }
    Ok(())
}
