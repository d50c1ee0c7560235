//! Identifiers that have a meaning inside one router only.

/// A connection to a neighbouring router. Chosen by the shell, never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub u64);

/// A circuit's end at this router: a dialing or hosting client, or the gateway itself.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EndId(pub u64);
