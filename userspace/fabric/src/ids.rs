//! Identifiers that have a meaning inside one router only.

/// A connection to a neighbouring router. Chosen by the shell, never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub u64);

/// A thread of the shell. What is of one lane is carried by one thread, which wakes no other for it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lane(pub usize);

/// A circuit's end at this router: a dialing or hosting client, or the gateway itself.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EndId(pub u64);
