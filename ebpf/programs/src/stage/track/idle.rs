//! How flows are kept.

use nightgate_abi::{Active, Reason, Settings, flow::Phase};
use nightgate_packet::{PacketMeta, protocol};

use crate::maps;

/// Seconds without a packet after which a flow is over.
#[inline(always)]
pub(super) fn limit(active: Active, protocol: u8, phase: Phase) -> u32 {
    settings(active).idle_limit(protocol, phase)
}

/// Refuses the middle of a TCP connection that is not known, if the configuration wants it.
///
/// # Errors
/// It does, and the packet is one.
#[inline(always)]
pub(super) fn check_pickup(active: Active, meta: &PacketMeta) -> Result<(), Reason> {
    if meta.protocol == protocol::TCP && !meta.opens() && settings(active).picks_up == 0 {
        return Err(Reason::TcpPickup);
    }
    Ok(())
}

#[inline(always)]
fn settings(active: Active) -> &'static Settings {
    maps::SETTINGS.get(active.bank()).unwrap_or(&Settings::DEFAULT)
}
