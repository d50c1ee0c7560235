//! Addresses that no packet on a wire can have (RFC 6890).

use nightgate_abi::{Address, Family, Reason};

/// Refuses loopback, multicast, broadcast, reserved and "this network" sources and loopback or "this
/// network" destinations. 0.0.0.0 may be a source: hosts without an address use it (RFC 2131).
#[inline(always)]
pub(crate) fn check_v4(source: [u8; 4], destination: [u8; 4]) -> Result<(), Reason> {
    let [first, ..] = source;
    if first == 127 || first >= 224 || (first == 0 && source != [0; 4]) {
        return Err(Reason::MartianSource);
    }
    let [first, ..] = destination;
    if first == 127 || first == 0 {
        return Err(Reason::MartianDestination);
    }
    Ok(())
}

/// Refuses mapped addresses, loopback and multicast sources and loopback or unspecified destinations. `::`
/// may be a source: hosts use it while they look for duplicates of their address (RFC 4862).
#[inline(always)]
pub(crate) fn check_v6(source: Address, destination: Address) -> Result<(), Reason> {
    if source.family() == Family::V4 || destination.family() == Family::V4 {
        return Err(Reason::MappedAddress);
    }
    let [high, low] = source.halves().map(u64::from_be);
    if high >> 56 == 0xff || (high == 0 && low == 1) {
        return Err(Reason::MartianSource);
    }
    let [high, low] = destination.halves().map(u64::from_be);
    if high == 0 && low <= 1 {
        return Err(Reason::MartianDestination);
    }
    Ok(())
}
