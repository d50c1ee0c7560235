//! Bounds of TCP's maximum segment size (RFC 9293 section 3.7.1).

use crate::{ZoneId, limits::ZONES};

/// Bounds by the number of a zone: of forwarded connections that come or go by it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MssBounds([u16; ZONES]);

/// The bound of a zone without one.
const NONE: u16 = 0;
/// The bound of a zone that goes by the routes.
const ROUTES: u16 = u16::MAX;

/// What a connection's segments are bound by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MssBound {
    /// Nothing.
    None,
    /// What the routes of both directions carry in one packet, but at most so many bytes.
    Routes(u16),
    /// So many bytes.
    Bytes(u16),
}

impl MssBounds {
    /// No zone has a bound.
    pub const NONE: Self = Self([NONE; ZONES]);

    /// These, and the bound of a zone.
    #[must_use]
    pub const fn with(mut self, zone: ZoneId, bound: MssBound) -> Self {
        self.0[zone.number() as usize % ZONES] = match bound {
            MssBound::None => NONE,
            MssBound::Routes(_) => ROUTES,
            MssBound::Bytes(bytes) => bytes,
        };
        self
    }

    /// The bound of connections between two zones: the lower one of both.
    #[inline(always)]
    pub const fn between(&self, from: ZoneId, to: ZoneId) -> MssBound {
        let a = self.0[from.number() as usize & (ZONES - 1)];
        let b = self.0[to.number() as usize & (ZONES - 1)];
        let least = match (a, b) {
            (NONE, other) | (other, NONE) => other,
            (a, b) if a < b => a,
            (_, b) => b,
        };
        match (a == ROUTES || b == ROUTES, least) {
            (true, least) => MssBound::Routes(least),
            (false, NONE) => MssBound::None,
            (false, least) => MssBound::Bytes(least),
        }
    }
}

const _: () = assert!(ZONES.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_bound_of_both_zones_holds() {
        let zone = |number| ZoneId::new(number).unwrap();
        let bounds = MssBounds::NONE
            .with(zone(3), MssBound::Bytes(1_400))
            .with(zone(4), MssBound::Bytes(1_300))
            .with(zone(63), MssBound::Routes(0));
        for (from, to, expected) in [
            (5, 6, MssBound::None),
            (3, 5, MssBound::Bytes(1_400)),
            (5, 3, MssBound::Bytes(1_400)),
            (3, 4, MssBound::Bytes(1_300)),
            (63, 5, MssBound::Routes(u16::MAX)),
            (3, 63, MssBound::Routes(1_400)),
        ] {
            assert_eq!(bounds.between(zone(from), zone(to)), expected, "{from} {to}");
        }
    }
}
