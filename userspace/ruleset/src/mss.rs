//! Bounds of segments, as the kernel reads them.

use std::collections::BTreeMap;

use nightgate_abi::{
    ZoneId,
    mss::{MssBound, MssBounds},
};
use nightgate_config::{ClampMss, Zone, ZoneName};

/// Lowers the bounds of zones.
pub(crate) fn lower(
    zones: &BTreeMap<ZoneName, Zone>,
    ids: &BTreeMap<ZoneName, ZoneId>,
) -> MssBounds {
    zones.iter().fold(MssBounds::NONE, |bounds, (name, zone)| {
        match (ids.get(name), zone.clamp_mss) {
            (Some(id), Some(ClampMss::Auto)) => bounds.with(*id, MssBound::Routes(u16::MAX)),
            (Some(id), Some(ClampMss::Bytes(bytes))) => bounds.with(*id, MssBound::Bytes(bytes)),
            _ => bounds,
        }
    })
}
